"""What text in pixels does to an instance, tier by tier."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from ct_assets.deid.pixels import burned_in, glyphs, ocr
from ct_assets.settings.deid import BurnedInSettings, RegionRule
from ct_assets_tests.deid.corpus import pictures
from ct_assets_tests.deid.pictures_of import CT, MR, SECONDARY_CAPTURE, US_MULTIFRAME, image

NOTHING_DECLARED = BurnedInSettings()
NAME = ["BRAMBYWICK, OSWIN", "HX4829137  1961-03-14"]
TOP_BAR = RegionRule(modality="US", rows=200, columns=320, boxes=((0, 0, 320, 60),))


def judge(dataset, settings=NOTHING_DECLARED):
    return burned_in.judge(dataset, settings)


class TestHeaderRules:
    def test_an_object_without_pixels_is_not_at_risk(self):
        dataset = image(np.zeros((4, 4), np.uint8))
        del dataset.PixelData
        assert judge(dataset).verdict == "not_at_risk"

    def test_a_segmentation_is_not_at_risk(self):
        assert judge(image(np.zeros((4, 4), np.uint8), sop_class="66.4")).verdict == "not_at_risk"

    def test_declared_text_is_held_without_reading_it(self):
        verdict = judge(image(pictures.fan(200, 320, 1), BurnedInAnnotation="YES"))
        assert (verdict.verdict, verdict.reasons, verdict.frames) == ("declared", ("burned_in_declared",), 0)

    @pytest.mark.parametrize("described", ["Dose Report", "Patient Protocol", "DOSE_INFO"])
    def test_a_dose_page_is_held_whatever_its_pixels_show(self, described):
        page = image(
            np.zeros((64, 64), np.uint8),
            sop_class=SECONDARY_CAPTURE,
            Modality="CT",
            SeriesDescription=described,
        )
        assert judge(page).reasons == ("dose_report_image",)

    def test_an_encapsulated_document_is_held(self):
        letter = pydicom.Dataset()
        letter.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
        letter.EncapsulatedDocument = b"%PDF-1.4"
        assert judge(letter).reasons == ("encapsulated_document",)

    def test_an_overlay_inside_the_pixels_is_held(self):
        slice_ = image(pictures.body(64, 64, 1), sop_class=CT)
        slice_.add_new(0x60000102, "US", 12)
        assert judge(slice_).reasons == ("overlay_in_pixels",)

    def test_pixels_that_cannot_be_decoded_are_held(self):
        cut = image(pictures.body(64, 64, 1), sop_class=CT)
        cut.PixelData = cut.PixelData[:-200]
        assert judge(cut).reasons == ("pixels_unreadable",)

    def test_a_coding_that_nobody_can_decode_is_held(self):
        video = image(pictures.fan(64, 64, 1), syntax="1.2.840.10008.1.2.4.102")
        assert judge(video).reasons == ("pixels_unreadable",)


class TestReading:
    @pytest.mark.parametrize("denied", ["NO", None])
    def test_text_is_found_whatever_the_header_says(self, denied):
        named = image(pictures.with_text(pictures.fan(200, 320, 1), NAME))
        if denied:
            named.BurnedInAnnotation = denied
        assert judge(named).reasons == ("burned_in_text",)

    def test_an_image_without_text_is_clean(self):
        assert judge(image(pictures.fan(200, 320, 2))).verdict == "clean"

    def test_text_on_one_frame_of_many_is_found_there(self):
        frames = np.stack([pictures.fan(120, 240, number) for number in range(4)])
        frames[2] = pictures.with_text(frames[2], NAME)
        verdict = judge(image(frames, sop_class=US_MULTIFRAME))
        assert (verdict.verdict, verdict.frames) == ("text_found", 3)

    @pytest.mark.parametrize("planar", [0, 1])
    def test_text_is_found_in_colour_by_pixel_and_by_plane(self, planar):
        photo = pictures.with_text(pictures.photograph(120, 240, 3), NAME)
        assert judge(image(photo, photometric="RGB", planar=planar)).verdict == "text_found"

    @pytest.mark.parametrize("stored", [np.uint16, np.int16])
    def test_a_localizer_is_read(self, stored):
        scout = pictures.scout(160, 320, 4)
        localizer = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        clean = image(scout.astype(stored), sop_class=CT, ImageType=localizer)
        named = image(pictures.with_text(scout, NAME).astype(stored), sop_class=CT, ImageType=localizer)
        assert (judge(clean).verdict, judge(named).verdict) == ("clean", "text_found")

    def test_dark_text_on_bright_ground_is_found(self):
        dark = 255 - pictures.with_text(np.full((120, 320), 40, np.uint8), NAME)
        assert judge(image(dark)).verdict == "text_found"

    def test_letters_that_mark_sides_are_no_text(self):
        marked = pictures.with_text(pictures.scout(160, 320, 5), ["R"], size=18)
        assert (
            judge(image(marked, sop_class=CT, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])).verdict
            == "clean"
        )

    def test_compressed_pixels_are_read(self):
        named = image(pictures.with_text(pictures.fan(200, 320, 1), NAME))
        named.compress(JPEGLSLossless, generate_instance_uid=False)
        assert judge(named).verdict == "text_found"


class TestSlices:
    @pytest.mark.parametrize("sop_class", [CT, MR])
    def test_a_slice_as_reconstructed_is_clean(self, sop_class):
        assert judge(image(pictures.body(256, 256, 1), sop_class=sop_class)).verdict == "clean"

    @pytest.mark.parametrize("size", [10, 12, 16, 24])
    @pytest.mark.parametrize("place", [(6, 4), (90, 120)])
    def test_a_name_drawn_into_a_slice_is_found(self, size, place):
        drawn = pictures.with_text(pictures.body(256, 256, 1), NAME[:1], size=size, at=place)
        assert judge(image(drawn, sop_class=CT)).verdict == "text_found"

    @pytest.mark.parametrize("kind", ["even", "normal", "sparse"])
    def test_noise_is_no_text_and_nothing_of_it_is_read(self, kind, monkeypatch):
        dice = np.random.default_rng(3)
        noise = {
            "even": dice.integers(0, 4096, (512, 512)),
            "normal": dice.normal(1000, 100, (512, 512)),
            "sparse": (dice.random((512, 512)) < 0.15) * 3000,
        }[kind]
        monkeypatch.setattr(ocr, "_read", lambda *_: pytest.fail("read"))
        assert judge(image(noise.astype(np.uint16), sop_class=CT)).verdict == "clean"

    @pytest.mark.parametrize("size", [12, 16, 24])
    def test_a_name_that_stands_out_of_noise_is_found(self, size):
        noise = np.random.default_rng(4).normal(1000, 100, (256, 256)).astype(np.uint16)
        drawn = pictures.with_text(noise, NAME[:1], size=size, at=(6, 60))
        assert judge(image(drawn, sop_class=CT)).verdict == "text_found"

    @pytest.mark.parametrize("side", [64, 128, 256])
    def test_a_slice_full_of_text_is_found(self, side):
        lines = ["BRAMBYWICK, OSWIN HX4829137 1961-03-14 Kraghaven"[: side // 5]] * (side // 14)
        drawn = pictures.with_text(pictures.body(side, side, 1), lines, size=10)
        assert judge(image(drawn, sop_class=CT)).verdict == "text_found"

    def test_ribs_that_read_like_two_letters_are_no_text(self, monkeypatch):
        three_arcs = pictures.with_text(pictures.body(256, 256, 1), ["OIC"], size=24)
        two_letters = ocr.Word(10, 10, 30, 30, 2)
        monkeypatch.setattr(ocr, "_read", lambda *_: (two_letters,))
        assert judge(image(three_arcs, sop_class=CT)).verdict == "clean"

    def test_a_slice_without_sop_class_is_judged_as_one(self):
        nameless = image(pictures.with_text(pictures.body(256, 256, 1), NAME), sop_class=CT)
        nameless.SOPClassUID = ""
        assert judge(nameless).verdict == "text_found"


class TestDeclaredRegions:
    def test_an_image_is_released_when_nothing_is_read_outside_them(self):
        named = image(pictures.with_text(pictures.fan(200, 320, 1), NAME, size=14))
        verdict = judge(named, BurnedInSettings(regions=(TOP_BAR,)))
        assert (verdict.verdict, verdict.reasons) == ("redacted", ())
        assert [(box.column, box.row, box.width, box.height) for box in verdict.regions] == [(0, 0, 320, 60)]

    def test_text_outside_them_holds_the_image(self):
        named = image(pictures.with_text(pictures.fan(200, 320, 1), NAME, at=(6, 120)))
        assert judge(named, BurnedInSettings(regions=(TOP_BAR,))).verdict == "text_found"

    def test_they_hold_for_declared_text(self):
        named = image(pictures.with_text(pictures.fan(200, 320, 1), NAME, size=14), BurnedInAnnotation="YES")
        assert judge(named, BurnedInSettings(regions=(TOP_BAR,))).verdict == "redacted"

    def test_another_layout_is_left_alone(self):
        other = image(pictures.fan(201, 320, 1))
        assert judge(other, BurnedInSettings(regions=(TOP_BAR,))).regions == ()

    def test_a_rule_without_a_layout_is_refused(self):
        with pytest.raises(ValueError, match="rows and columns"):
            RegionRule(modality="US", boxes=((0, 0, 10, 10),))


class TestWarnings:
    @pytest.mark.parametrize(
        "where",
        [
            {"BodyPartExamined": "HEAD"},
            {"StudyDescription": "CT Schaedel nativ"},
            {"SeriesDescription": "neck 1mm"},
        ],
    )
    def test_a_face_that_may_be_recognised_is_flagged_and_released(self, where):
        verdict = judge(image(pictures.body(128, 128, 1), sop_class=CT, **where))
        assert (verdict.reasons, verdict.warnings) == ((), ("recognizable_face",))

    def test_a_chest_is_not_flagged(self):
        assert judge(image(pictures.body(128, 128, 1), sop_class=CT, BodyPartExamined="CHEST")).warnings == ()


def test_judging_leaves_raw_elements_raw():
    buffer = io.BytesIO()
    slice_ = image(pictures.body(64, 64, 1), sop_class=CT, BodyPartExamined="HEAD")
    pydicom.dcmwrite(buffer, slice_, enforce_file_format=True)
    read = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    before = dict(read._dict)
    judge(read)
    assert {tag: id(element) for tag, element in read._dict.items()} == {
        tag: id(e) for tag, e in before.items()
    }


@pytest.mark.real
class TestRealSamples:
    def test_ultrasounds_with_text_are_held_and_the_rest_is_released(self, real_data):
        verdicts = {
            path.stem: judge(pydicom.dcmread(path)).verdict
            for path in sorted((real_data / "deid_samples").glob("*.dcm"))
        }
        assert verdicts == {
            "cookies_image3": "clean",
            "cookies_image6": "clean",
            "humans_ctbrain1": "clean",
            "humans_ctbrain2": "clean",
            "ultrasounds_GREYSCALE_IMAGE": "declared",
            "ultrasounds_RGB_IMAGE": "text_found",
        }

    def test_text_is_read_where_the_declaration_is_taken_away(self, real_data):
        ultrasound = pydicom.dcmread(real_data / "deid_samples/ultrasounds_GREYSCALE_IMAGE.dcm")
        ultrasound.BurnedInAnnotation = "NO"
        assert judge(ultrasound).verdict == "text_found"

    def test_localizers_are_released(self, real_data):
        week = real_data / "lung_cohort/drops/2024-03-week1"
        scouts = [*week.rglob("SCOUT1"), *week.glob("Ravensdyke/CT.0000.dcm"), *week.rglob("CT.0000.dcm")]
        found = {judge(pydicom.dcmread(path)).verdict for path in scouts}
        assert found == {"clean"}


@pytest.mark.parametrize(
    ("boxes", "lines"),
    [
        # pieces of a rib: uprights of pixels, which no letter of a line at 60 degrees is
        ([(40, 20, 43, 42), (42, 43, 46, 54), (46, 55, 63, 72), (73, 80, 80, 102), (79, 97, 93, 108)], 0),
        # five letters of 12 x 16 pixels turned by 45 degrees, 14 pixels from one to the next
        ([(20 + 14 * n, 20 + 14 * n, 36 + 14 * n, 37 + 14 * n) for n in range(5)], 1),
    ],
)
def test_letters_of_a_slanted_line_are_not_thinner_than_turning_makes_them(boxes, lines):
    assert len(glyphs._turned_lines(boxes, 1)) == lines
