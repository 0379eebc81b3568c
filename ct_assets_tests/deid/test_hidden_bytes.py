"""Text in tables that no decoder uses, in ICC profiles, segmented palettes and behind waveforms."""

import io
import struct

import pytest
from PIL import Image, ImageCms
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
)

from ct_assets import files
from ct_assets.deid.batch import dicomfile
from ct_assets.deid.elements import bulk, icc_profiles
from ct_assets.deid.pixels import jpeg2000, jpeg_ls, streams
from ct_assets_tests.deid.made import Deidentified, as_bytes, ct, save
from ct_assets_tests.deid.runs import run
from ct_assets_tests.deid.test_pixel_streams import (
    SHAPE,
    TEXT,
    before_first,
    behind_start,
    code_of,
    compressed,
    even,
    of_frames,
    segment,
    stripped,
)

QUANTIZATION = TEXT.ljust(64, b"1")
CODES = bytes((0,) * 7 + (9,) + (0,) * 8) + b"Quenvil\x01\x02"
PRESET = b"\1\0\xff" + TEXT[:8]


@pytest.mark.parametrize(
    ("syntax", "put"),
    [
        (JPEGBaseline8Bit, lambda frame: behind_start(frame, segment(0xDB, b"\3" + QUANTIZATION))),
        (JPEGBaseline8Bit, lambda frame: behind_start(frame, segment(0xDB, b"\0" + QUANTIZATION))),
        (JPEGBaseline8Bit, lambda frame: behind_start(frame, segment(0xC4, b"\x13" + CODES))),
        (JPEGBaseline8Bit, lambda frame: behind_start(frame, segment(0xCC, TEXT[:30]))),
        (JPEGBaseline8Bit, lambda frame: behind_start(frame, segment(0xDD, b"Qu") * 9)),
        (JPEGBaseline8Bit, lambda frame: frame[:-2] + segment(0xDB, b"\0" + QUANTIZATION) + frame[-2:]),
        (JPEGLSLossless, lambda frame: behind_start(frame, segment(0xF8, b"\4\x0f" + TEXT[:15] * 2))),
        (JPEG2000Lossless, lambda frame: before_first(frame, b"\xff\x90", segment(0x74, TEXT))),
        (JPEG2000Lossless, lambda frame: before_first(frame, b"\xff\x90", segment(0x50, TEXT))),
    ],
)
def test_a_table_that_no_scan_uses_goes_and_the_frame_is_the_source_s(syntax, put):
    clean = compressed(syntax)
    spoilt = put(clean)
    if b"\xff\xdd\0\4Qu" in spoilt:  # an interval that a scan would use
        spoilt = before_first(spoilt, b"\xff\xda", segment(0xDD, b"\0\0"))
        clean = before_first(clean, b"\xff\xda", segment(0xDD, b"\0\0"))
    result, done = stripped(of_frames(syntax, encapsulate([even(spoilt)])), syntax)
    assert result.PixelData == encapsulate([even(clean)])
    assert done.removed
    assert len(done.decoded_digest) == 64


def test_parameters_of_jpeg_ls_that_are_defined_anew_before_the_scan_go():
    default = struct.pack(">B5H", 1, 255, 3, 7, 21, 64)
    clean = behind_start(compressed(JPEGLSLossless), segment(0xF8, default))
    done = jpeg_ls.clean(behind_start(clean, segment(0xF8, PRESET)), SHAPE)
    assert (done.content, done.removed) == (clean, {"JPEG tables without use": 11})


@pytest.mark.parametrize("marker", [b"\xff\x52", b"\xff\x5c"])
def test_a_second_style_of_jpeg_2000_holds_the_object(marker):
    frame = compressed(JPEG2000Lossless)
    made = of_frames(
        JPEG2000Lossless,
        encapsulate([even(before_first(frame, marker, segment(marker[1], TEXT)))]),
    )
    assert code_of(made, JPEG2000Lossless) == "pixel_stream_damaged"


def in_style(frame, marker, change):
    """Return a JPEG 2000 frame with the content of one segment changed."""
    at = frame.index(bytes((0xFF, marker)))
    end = at + 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return frame[:at] + segment(marker, change(frame[at + 4 : end])) + frame[end:]


@pytest.mark.parametrize("marker", [0x52, 0x5C], ids=["coding", "quantization"])
def test_a_style_of_jpeg_2000_longer_than_its_fields_holds_the_object(marker):
    frame = in_style(compressed(JPEG2000Lossless), marker, lambda content: content + TEXT)
    made = of_frames(JPEG2000Lossless, encapsulate([even(frame)]))
    assert code_of(made, JPEG2000Lossless) == "pixel_stream_damaged"


@pytest.mark.parametrize("marker", [0x60, 0x61], ids=["PPM", "PPT"])
def test_packet_headers_of_jpeg_2000_set_apart_hold_the_object(marker):
    where = b"\xff\x90" if marker == 0x60 else b"\xff\x93"
    frame = before_first(compressed(JPEG2000Lossless), where, segment(marker, b"\0" + TEXT))
    made = of_frames(JPEG2000Lossless, encapsulate([even(frame)]))
    assert code_of(made, JPEG2000Lossless) == "pixel_stream_unparsed"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL])
def test_a_wavelet_that_is_not_reversible_holds_what_is_called_lossless(syntax):
    def lossy(content):
        return content[:9] + b"\0" + content[10:]  # 9-7 irreversible (15444-1 table A.20)

    frame = compressed(JPEG2000Lossless)
    assert jpeg2000.clean(frame, SHAPE, is_lossless=True).content == frame
    made = of_frames(syntax, encapsulate([even(in_style(frame, 0x52, lossy))]))
    assert code_of(made, syntax) == "pixel_stream_damaged"


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.110", "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.205"]
)
def test_pixels_of_a_transfer_syntax_that_nobody_parses_are_called_so(syntax):
    written = io.BytesIO()
    of_frames(JPEG2000Lossless, encapsulate([TEXT])).save_as(written)
    source = dicomfile.read(written.getvalue())
    with pytest.raises(streams.UncleanablePixelsError) as refused:
        streams.strip(source.dataset, syntax, is_little_endian=True)
    assert refused.value.code == "pixel_stream_unparsed"


def test_codes_of_symbols_that_no_encoder_makes_hold_the_object():
    frame = behind_start(compressed(JPEGBaseline8Bit), segment(0xC4, b"\x03" + CODES))
    made = of_frames(JPEGBaseline8Bit, encapsulate([even(frame)]))
    assert code_of(made, JPEGBaseline8Bit) == "pixel_stream_damaged"


def test_a_process_that_contradicts_the_transfer_syntax_holds_the_object():
    lossy = encapsulate([even(compressed(JPEGBaseline8Bit))])
    assert code_of(of_frames(JPEGLossless, lossy), JPEGLossless) == "pixel_stream_damaged"
    buffer = io.BytesIO()
    Image.new("L", (72, 64), 9).save(buffer, "JPEG", progressive=True)
    made = of_frames(JPEGBaseline8Bit, encapsulate([even(buffer.getvalue())]))
    assert code_of(made, JPEGBaseline8Bit) == "pixel_stream_damaged"
    frame = bytearray(compressed(JPEGLSLossless))
    frame[frame.index(b"\xff\xda") + 7] = 1  # NEAR of a scan of one component
    made = of_frames(JPEGLSLossless, encapsulate([even(bytes(frame))]))
    assert code_of(made, JPEGLSLossless) == "pixel_stream_damaged"


class TestProfiles:
    SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    def test_matrices_and_curves_stay_and_texts_go(self):
        name = "sRGB built-in".encode("utf-16-be")
        assert name in self.SRGB
        spoilt = self.SRGB.replace(name, TEXT[: len(name)]).replace(self.SRGB[48:56], TEXT[:8], 1)
        cleaned = icc_profiles.clean(spoilt)
        assert TEXT[:8] not in cleaned
        assert icc_profiles.clean(cleaned) == cleaned
        rgb = Image.new("RGB", (1, 1), (200, 100, 50))
        profiles = [ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (self.SRGB, cleaned)]
        lab = ImageCms.createProfile("LAB")
        before, after = (
            ImageCms.applyTransform(rgb, ImageCms.buildTransform(one, lab, "RGB", "LAB")).getpixel((0, 0))
            for one in profiles
        )
        assert before == after

    def test_what_is_no_profile_becomes_srgb_also_in_sequences(self):
        inner = Dataset()
        inner.ICCProfile = TEXT + b" "
        made = ct(OpticalPathSequence=[inner], ICCProfile=TEXT + b" ")
        result = Deidentified(as_bytes(made)).dataset
        found = [result.ICCProfile] + [one.ICCProfile for one in result.get("OpticalPathSequence", [])]
        for one in found:
            assert TEXT[:8] not in one
            profile = ImageCms.ImageCmsProfile(io.BytesIO(one))
            both = (ImageCms.createProfile("sRGB"), profile)
            grey = Image.new("RGB", (1, 1), (200, 100, 50))
            same = ImageCms.applyTransform(grey, ImageCms.buildTransform(*both, "RGB", "RGB")).getpixel(
                (0, 0)
            )
            assert max(abs(a - b) for a, b in zip(same, (200, 100, 50), strict=True)) <= 1


class TestSegmentedPalettes:
    SEGMENTS = struct.pack("<11H", 0, 2, 5, 6, 1, 3, 9, 2, 1, 0, 0)
    """Two values, three in a line, and the first segment again: 7 entries."""

    @pytest.mark.parametrize(
        ("entries", "value", "kept"),
        [
            (7, SEGMENTS, SEGMENTS),
            (7, SEGMENTS + TEXT + b" ", SEGMENTS),
            (8, SEGMENTS, b""),
            (7, TEXT + b" ", b""),
            (None, SEGMENTS, b""),
        ],
    )
    def test_segments_end_with_the_last_entry(self, entries, value, kept):
        made = ct()
        if entries:
            made.RedPaletteColorLookupTableDescriptor = [entries, 0, 16]
        made.add_new(0x00281221, "OW", value)
        result = Deidentified(as_bytes(made)).dataset
        assert (result[0x00281221].value or b"") == kept


@pytest.mark.parametrize(("samples", "kept"), [(4, bytes(range(16))), (None, b"")])
def test_bytes_behind_the_last_sample_of_a_waveform_go(samples, kept):
    inner = Dataset()
    inner.NumberOfWaveformChannels, inner.WaveformBitsAllocated = 2, 16
    if samples:
        inner.NumberOfWaveformSamples = samples
    inner.add_new(0x54001010, "OW", bytes(range(16)) + TEXT + b" ")
    result = Deidentified(as_bytes(ct(WaveformSequence=[inner]))).dataset
    assert (result.WaveformSequence[0][0x54001010].value or b"") == kept


def test_a_table_without_a_descriptor_is_emptied():
    made = ct()
    made.add_new(0x00281201, "OW", TEXT + b" ")
    assert not Deidentified(as_bytes(made)).dataset[0x00281201].value


class TestObjectsHeldForTheirBulkData:
    """Emptied, they would no longer be what their class says: no image, no waveform."""

    def test_a_palette_without_its_descriptor(self, tmp_path):
        made = ct()
        made.add_new(0x00281201, "OW", TEXT + b" ")
        save(made, tmp_path / "in" / "a.dcm")
        rows = files.read_jsonl(run(tmp_path / "in", tmp_path / "out").paths.audit)
        assert [row["disposition"] for row in rows] == ["quarantined"]
        assert bulk.DAMAGED_CODE in rows[0]["reasons"]

    @pytest.mark.parametrize(
        ("outer", "tag", "is_held"),
        [
            ((), 0x54001010, True),
            (("WaveformSequence",), 0x54001010, True),
            (("SoftcopyVOILUTSequence",), 0x00283006, True),
            (("SharedFunctionalGroupsSequence", "FrameVOILUTSequence", "VOILUTSequence"), 0x00283006, True),
            (("IconImageSequence",), 0x00281201, False),  # goes as a whole
        ],
    )
    def test_a_table_or_waveform_without_its_size_at_any_depth(self, outer, tag, is_held):
        inner = Dataset()
        inner.add_new(tag, "OW", bytes(range(1, 17)))
        for keyword in reversed(outer):
            item, inner = inner, Dataset()
            setattr(inner, keyword, [item])
        made = ct()
        made.update(inner)
        assert Deidentified(as_bytes(made)).done.empties_bulk_data is is_held
