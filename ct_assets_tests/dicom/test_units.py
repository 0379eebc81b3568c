"""Hounsfield units by header: HU is proven, US and hu are a warning, maps without a unit and other units are none."""

import copy

import numpy as np
import pytest

from ct_assets.dicom import units
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.settings.conversion import ConversionSettings
from ct_assets_tests.dicom.factory import ct_series, enhanced_ct, grouped, only_ct

PLAIN = ("ORIGINAL", "PRIMARY", "AXIAL")
ZEFF = ("DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM")


@pytest.mark.parametrize("unit", ["MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "OD", "PCT", "mg/ml", "Bq"])
def test_another_unit_is_not_hu_unless_accepted(unit):
    assert units.not_hu(["HU", unit], ["HU"])
    assert not units.not_hu(["HU", unit], ["HU", unit])


@pytest.mark.parametrize("unit", ["HU", "hu", "US", None, ""])
def test_these_are_taken(unit):
    assert not units.not_hu([unit], ["HU"])


@pytest.mark.parametrize(
    ("unit", "image_type", "multi_energy", "codes"),
    [
        ("HU", PLAIN, None, []),
        (None, PLAIN, None, []),
        (None, PLAIN, "NO", []),
        ("HU", PLAIN, "YES", []),
        ("hu", PLAIN, None, ["rescale_type_not_hu"]),
        ("US", PLAIN, None, ["rescale_type_not_hu"]),
        (None, PLAIN, "YES", ["unit_not_proven"]),
        ("HU", ZEFF, "YES", ["unit_not_proven"]),
        (None, ("DERIVED", "SECONDARY", "AXIAL", "DE_IODINE"), None, ["unit_not_proven"]),
        (None, ("DERIVED", "PRIMARY", "PERFUSION_CBF"), None, ["unit_not_proven"]),
    ],
)
def test_what_headers_say_against_hu(unit, image_type, multi_energy, codes):
    assert units.warnings_of([unit], [image_type], [multi_energy]) == codes


@pytest.mark.parametrize("kind", sorted(units.MAPS))
def test_a_map_without_rescale_type_has_no_unit(tmp_path, kind):
    slices = ct_series(ImageType=["DERIVED", "PRIMARY", "AXIAL", kind])
    for one in slices:
        if "RescaleType" in one:
            del one.RescaleType
    assert only_ct(grouped(tmp_path, slices)).reasons == ("unit_not_stated",)


class TestFrames:
    """Enhanced CT: each frame has its own rescale, or none; no other frame's holds for it."""

    def convert(self, folder, change, **settings):
        one = enhanced_ct()
        shared = one.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        del one.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for number, groups in enumerate(one.PerFrameFunctionalGroupsSequence):
            item = copy.deepcopy(shared)
            change(number, item)
            if len(item):
                groups.PixelValueTransformationSequence = [item]
        return load_series(only_ct(grouped(folder, [one])), folder, ConversionSettings(**settings))

    @pytest.mark.parametrize("at", [0, 3, 5])
    @pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept", "all", "empty"])
    def test_a_frame_without_rescale_refuses(self, tmp_path, at, missing):
        def change(number, item):
            item.RescaleSlope = 2 if number else 3
            if number == at and missing == "empty":
                item.RescaleSlope = None
            elif number == at:
                for keyword in list(item.dir()) if missing == "all" else [missing]:
                    delattr(item, keyword)

        with pytest.raises(ConversionRefused, match="missing_rescale"):
            self.convert(tmp_path, change)

    @pytest.mark.parametrize("at", [0, 5])
    def test_a_frame_of_another_unit_refuses(self, tmp_path, at):
        def change(number, item):
            item.RescaleType = "MGML" if number == at else "HU"

        with pytest.raises(ConversionRefused, match="rescale_type_not_hu"):
            self.convert(tmp_path, change)

    def test_each_frame_follows_its_own(self, tmp_path):
        def change(number, item):
            item.RescaleSlope, item.RescaleIntercept = 1, -1000 - number

        converted = self.convert(tmp_path, change)  # frames run from the last position to the first
        np.testing.assert_array_equal(
            converted.volume.array[:, 0, 0], [-1005, -1004, -1003, -1002, -1001, -1000]
        )
