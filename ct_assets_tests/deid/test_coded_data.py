"""What the leak scan reads of pixel data: an identifier anywhere but in samples and entropy-coded data is found."""

import struct

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.deid.elements.identifiers import Sought
from ct_assets.deid.proof.leak_scan import LeakScanner, Searched, pixel_digest_of
from ct_assets_tests.deid.made import KEY, as_bytes
from ct_assets_tests.deid.test_pixel_streams import (
    COLUMNS,
    ROWS,
    before_first,
    behind_start,
    compressed,
    even,
    image,
    in_tile_part,
    of_frames,
    picture,
    segment,
)

NAME = b"Quenneville"
SCANNER = LeakScanner(Searched({"quenneville": Sought(None, is_inside=True)}), KEY)
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
ENCAPSULATED = (JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless)


def hits(made, syntax) -> set[str]:
    """Search an object whose pixels are proven to be the source's, whatever they hold."""
    made.PatientName = made.PatientID = "P"
    content = as_bytes(made, syntax)
    digest = pixel_digest_of(bytes(made.PixelData), KEY)
    return {hit.element for hit in SCANNER.file(content, "x", "P", digest)}


@pytest.mark.parametrize("syntax", NATIVE)
class TestNative:
    def test_behind_the_last_sample(self, syntax):
        made = image()
        made.PixelData += NAME + b"\0"
        assert hits(made, syntax) == {"(7FE00010)"}

    def test_samples_are_not_searched(self, syntax):
        made = image(PixelData=NAME.ljust(ROWS * COLUMNS, b"\0"))
        assert hits(made, syntax) == set()

    def test_pixels_without_a_size_are_searched(self, syntax):
        made = image(Rows=None)
        made.PixelData = NAME + b"\0"
        assert hits(made, syntax) == {"(7FE00010)"}


@pytest.mark.parametrize("syntax", ENCAPSULATED)
class TestEncapsulated:
    def test_a_clean_frame_has_no_hit(self, syntax):
        assert hits(of_frames(syntax, encapsulate([even(compressed(syntax))])), syntax) == set()

    def test_behind_the_image(self, syntax):
        value = encapsulate([even(even(compressed(syntax)) + NAME)])
        assert hits(of_frames(syntax, value), syntax) == {"(7FE00010)"}

    def test_in_a_frame_of_its_own(self, syntax):
        value = encapsulate([even(compressed(syntax)), even(NAME)])
        assert hits(of_frames(syntax, value, NumberOfFrames=2), syntax) == {"(7FE00010)"}

    def test_in_the_offset_table(self, syntax):
        table = b"\xfe\xff\x00\xe0" + struct.pack("<L", 12) + NAME + b"\0"
        value = table + encapsulate([even(compressed(syntax))])[12:]
        assert hits(of_frames(syntax, value), syntax) == {"(7FE00010)"}


@pytest.mark.parametrize("marker", [0xFE, 0xE1, 0xED, 0xDB])
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless])
def test_in_any_segment_of_jpeg(syntax, marker):
    frame = behind_start(compressed(syntax), segment(marker, b"xx" + NAME))
    assert hits(of_frames(syntax, encapsulate([even(frame)])), syntax) == {"(7FE00010)"}


@pytest.mark.parametrize(
    "put",
    [
        lambda frame, extra: before_first(frame, b"\xff\x52", extra),
        in_tile_part,
    ],
)
def test_in_both_headers_of_jpeg_2000(put):
    frame = put(compressed(JPEG2000Lossless), segment(0x64, b"\0\1" + NAME))
    assert hits(of_frames(JPEG2000Lossless, encapsulate([even(frame)])), JPEG2000Lossless) == {"(7FE00010)"}


def test_samples_that_are_not_proven_are_searched():
    made = image(PixelData=picture().tobytes()[:-12] + NAME + b"\0")
    made.PatientName = made.PatientID = "P"
    content = as_bytes(made, ExplicitVRLittleEndian)
    assert [hit.element for hit in SCANNER.file(content, "x", "P", "another digest")] == ["(7FE00010)"]


@pytest.mark.parametrize(
    "coded", [NAME, NAME.upper(), NAME.decode().encode("utf-16-le"), NAME.decode().encode("utf-16-be")]
)
def test_in_coded_data_that_the_walk_does_not_follow(coded):
    """Runs of bytes that may hold an identifier are searched, whatever stands before and behind them."""
    frame = bytes(range(128, 250)) + b"\x07Ab" + coded + b"\x9f" * 3
    assert hits(of_frames(RLELossless, encapsulate([even(frame)])), RLELossless) == {"(7FE00010)"}
