"""What makes two files one instance: equal data sets and pixels, whatever they are written in."""

import copy

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.dicom import content
from ct_assets_tests.deid.made import as_bytes, ct, save, sequence
from ct_assets_tests.deid.pictures_of import image


def slice_of(**values: object) -> Dataset:
    made = ct(
        ReferencedImageSequence=sequence(ReferencedSOPInstanceUID="1.2.3", ReferencedSOPClassUID="1.2"),
        **values,
    )
    made.add_new(0x00191001, "US", 258)
    made.add_new(0x00190010, "LO", "ACME 1")
    made.add_new(0x00191002, "SQ", [sequence(PatientComments="x")[0]])
    return made


@pytest.fixture
def first(tmp_path):
    return content.digest(save(slice_of(), tmp_path / "first"))


class TestOneInstance:
    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    )
    def test_in_another_native_transfer_syntax(self, first, tmp_path, syntax):
        if syntax == ExplicitVRBigEndian:
            made = slice_of()
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
            assert content.digest(save(made, tmp_path / "again", syntax)) == first
            return
        assert first == content.digest(save(slice_of(), tmp_path / "again", syntax))

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    @pytest.mark.parametrize("colour", [False, True])
    def test_compressed_without_loss(self, tmp_path, syntax, colour):
        pixels = np.random.default_rng(1).integers(
            0, 256, (64, 64, 3) if colour else (64, 64), dtype=np.uint8
        )
        native = image(pixels, photometric="RGB" if colour else "MONOCHROME2")
        packed = copy.deepcopy(native)
        packed.compress(syntax, generate_instance_uid=False)
        digests = []
        for name, one in (("native", native), ("packed", packed)):
            one.save_as(tmp_path / name, enforce_file_format=True)
            digests.append(content.digest(tmp_path / name))
        assert digests[0] == digests[1]

    def test_with_other_file_meta_and_preamble(self, first, tmp_path):
        again = as_bytes(slice_of(), ExplicitVRLittleEndian, SourceApplicationEntityTitle="OTHER")
        (tmp_path / "again").write_bytes(b"II*\0".ljust(128, b"\1") + again[128:])
        assert content.digest(tmp_path / "again") == first


class TestTwoInstances:
    @pytest.mark.parametrize(
        "change",
        [
            {"PatientName": "Other^Name"},
            {"PixelData": bytes(128)},
            {"BitsStored": 11},
            {"KVP": None},
            {"ImageType": ["ORIGINAL", "PRIMARY"]},
            {"ReferencedImageSequence": sequence(ReferencedSOPInstanceUID="1.2.4")},
        ],
    )
    def test_that_differ_in_one_value(self, first, tmp_path, change):
        made = slice_of()
        for keyword, value in change.items():
            if value is None:
                del made[keyword]
            else:
                setattr(made, keyword, value)
        if "PixelData" in change:
            made["PixelData"].VR = "OW"
        assert content.digest(save(made, tmp_path / "again")) not in (first, None)

    def test_a_private_value_counts(self, first, tmp_path):
        made = slice_of()
        made[0x00191001].value = 259
        assert content.digest(save(made, tmp_path / "again")) != first

    def test_what_cannot_be_read_is_equal_to_nothing(self, tmp_path):
        (tmp_path / "text").write_bytes(b"no DICOM at all")
        assert content.digest(tmp_path / "missing") is None
