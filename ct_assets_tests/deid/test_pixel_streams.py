"""Bytes in pixel data that are no picture: they go, and the picture stays, in every transfer syntax."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import orjson
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.deid.batch import dicomfile
from ct_assets.deid.pixels import deflated, jpeg, jpeg2000, jpeg_ls, rle, streams
from ct_assets.deid.pixels.codestream import DamagedStreamError, Shape
from ct_assets.deid.pixels.streams import UncleanablePixelsError
from ct_assets_tests.deid.made import Deidentified, as_bytes, ct, save
from ct_assets_tests.deid.runs import run

TEXT = b"Quenneville Ottoline 17.04.1961"
ROWS, COLUMNS = 64, 72
SHAPE = Shape(ROWS, COLUMNS, 1, 8)


def picture(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return ((x * 5 + y * 3 + x * y % 11) % 256).astype("u1")


def image(**values: object) -> Dataset:
    """Return an object of 8 bits a pixel that shows the picture."""
    sizes = {"Rows": ROWS, "Columns": COLUMNS, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    made = ct(**{**sizes, "PixelData": picture().tobytes(), **values})
    made["PixelData"].VR = "OB"
    return made


def compressed(syntax: str) -> bytes:
    """Return the picture as one frame of a transfer syntax."""
    if syntax == JPEGBaseline8Bit:
        buffer = io.BytesIO()
        Image.fromarray(picture()).save(buffer, "JPEG", quality=95)
        return buffer.getvalue()
    made = image()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.set_original_encoding(False, True)
    made.compress(syntax, generate_instance_uid=False)
    return next(generate_frames(made.PixelData, number_of_frames=1)).rstrip(b"\0")


def of_frames(syntax: str, value: bytes, **values: object) -> Dataset:
    """Return an object with encapsulated pixel data."""
    made = image(**values)
    made.PixelData = value
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    return made


def even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) & 1)


def stripped(made: Dataset, syntax: str) -> tuple[Dataset, streams.Stripped]:
    """Write the object, read it, strip its pixels; return it as any reader sees it afterwards."""
    source = dicomfile.read(as_bytes(made, syntax))
    with dicomfile.silence():
        done = streams.strip(source.dataset, source.transfer_syntax, is_little_endian=source.is_little_endian)
    return source.dataset, done


def code_of(made: Dataset, syntax: str) -> str:
    with pytest.raises(UncleanablePixelsError) as refused:
        stripped(made, syntax)
    return refused.value.code


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def behind_start(frame: bytes, extra: bytes) -> bytes:
    return frame[:2] + extra + frame[2:]


def before_first(frame: bytes, marker: bytes, extra: bytes) -> bytes:
    at = frame.index(marker)
    return frame[:at] + extra + frame[at:]


def in_tile_part(frame: bytes, extra: bytes) -> bytes:
    """Put a segment into the header of the first tile-part, whose length says so."""
    at, data = frame.index(b"\xff\x90"), frame.index(b"\xff\x93")
    length = struct.unpack(">L", frame[at + 6 : at + 10])[0] + len(extra)
    return frame[: at + 6] + struct.pack(">L", length) + frame[at + 10 : data] + extra + frame[data:]


def as_jp2(frame: bytes) -> bytes:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L4s", len(content) + 8, kind) + content

    header = box(b"ihdr", struct.pack(">LLHBBBB", ROWS, COLUMNS, 1, 7, 7, 0, 0))
    header += box(b"colr", b"\1\0\0" + struct.pack(">L", 17))
    signature = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return signature + box(b"jp2h", header) + box(b"xml ", TEXT) + box(b"jp2c", frame) + box(b"uuid", TEXT)


def behind_packets(frame: bytes) -> bytes:
    """Return the frame with text behind the last packet of its tile-part."""
    at = frame.index(b"\xff\x90")
    length = struct.unpack(">L", frame[at + 6 : at + 10])[0] + len(TEXT)
    return frame[: at + 6] + struct.pack(">L", length) + frame[at + 10 : -2] + TEXT + frame[-2:]


def with_rle(
    frame: bytes, change: Callable[[list[int], list[bytes]], tuple[list[int], list[bytes]]]
) -> bytes:
    """Change the header fields and segments of an RLE frame; offsets follow from what the change returns."""
    count, *offsets = struct.unpack("<16L", frame[:64])
    places = [*offsets[:count], len(frame)]
    segments = [frame[start:stop] for start, stop in pairwise(places)]
    unused, segments = change(offsets[count:], segments)
    starts = [64]
    for one in segments:
        starts.append(starts[-1] + len(one))
    fields = (starts[:-1] + unused)[:15]
    return struct.pack("<16L", len(segments), *fields, *[0] * (15 - len(fields))) + b"".join(segments)


JPEG_LIKE = {
    "comment": lambda frame: behind_start(frame, segment(0xFE, TEXT)),
    "exif": lambda frame: behind_start(frame, segment(0xE1, b"Exif\0\0" + TEXT)),
    "several comments": lambda frame: behind_start(frame, segment(0xFE, TEXT) * 3),
    "empty comment": lambda frame: behind_start(frame, segment(0xFE, b"")),
    "photoshop": lambda frame: behind_start(frame, segment(0xED, b"Photoshop 3.0\0" + TEXT)),
    "long app15": lambda frame: behind_start(frame, segment(0xEF, TEXT * 2000)),
    "behind the image": lambda frame: frame + TEXT,
    "second image": lambda frame: frame + behind_start(frame, segment(0xFE, TEXT)),
    "comment before the scan": lambda frame: before_first(frame, b"\xff\xda", segment(0xFE, TEXT)),
    "comment behind the scan": lambda frame: frame[:-2] + segment(0xFE, TEXT) + frame[-2:],
}


def before_restart(frame: bytes) -> bytes:
    """Return the picture with restart intervals, text behind the codes of the first one."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", quality=95, restart_marker_rows=1)
    return before_first(buffer.getvalue(), b"\xff\xd0", TEXT)


BASELINE = {
    "text before a restart": before_restart,
    "text behind coded data": lambda frame: frame[:-2] + TEXT + frame[-2:],
}
JPEG_2000 = {
    "comment": lambda frame: before_first(frame, b"\xff\x52", segment(0x64, b"\0\1" + TEXT)),
    "binary comment": lambda frame: before_first(frame, b"\xff\x52", segment(0x64, b"\0\0" + TEXT)),
    "encoder and more": lambda frame: before_first(
        frame, b"\xff\x52", segment(0x64, b"\0\1Kakadu-v5 " + TEXT)
    ),
    "comment in a tile-part": lambda frame: in_tile_part(frame, segment(0x64, b"\0\1" + TEXT)),
    "packet lengths of no packet": lambda frame: in_tile_part(frame, segment(0x58, b"\0" + TEXT)),
    "packet lengths in the header": lambda frame: before_first(
        frame, b"\xff\x90", segment(0x57, b"\0" + TEXT)
    ),
    "tile lengths of no tile": lambda frame: before_first(
        frame, b"\xff\x90", segment(0x55, b"\0\x40" + TEXT)
    ),
    "component registration": lambda frame: before_first(frame, b"\xff\x90", segment(0x63, b"Otto")),
    "behind the image": lambda frame: frame + TEXT,
    "boxes of JP2": as_jp2,
    "text behind the packets": behind_packets,
}
RLE = {
    "behind the last segment": lambda frame: even(frame) + TEXT,
    "between segments": lambda frame: with_rle(frame, lambda unused, all_: (unused, [even(all_[0]) + TEXT])),
    "unused header fields": lambda frame: with_rle(
        frame, lambda unused, all_: (list(struct.unpack("<7L", TEXT[:28])), all_)
    ),
    "before the first segment": lambda frame: (
        struct.pack("<2L", 1, 64 + 32) + frame[8:64] + TEXT.ljust(32, b"\0") + frame[64:]
    ),
}
SPOILT = [
    (syntax, name, spoil)
    for syntax, kinds in (
        (JPEGBaseline8Bit, JPEG_LIKE | BASELINE),
        (JPEGLSLossless, JPEG_LIKE),
        (JPEG2000Lossless, JPEG_2000),
        (RLELossless, RLE),
    )
    for name, spoil in kinds.items()
]


@pytest.mark.parametrize(
    ("syntax", "name", "spoil"), SPOILT, ids=lambda value: None if callable(value) else str(value)[:30]
)
def test_what_decodes_to_no_pixel_goes_and_the_picture_stays(syntax, name, spoil):
    clean = compressed(syntax)
    expected = of_frames(syntax, encapsulate([even(clean)])).pixel_array
    result, done = stripped(of_frames(syntax, encapsulate([even(spoil(clean))])), syntax)
    value = result.PixelData
    assert TEXT not in value
    assert TEXT[:12] not in value
    assert done.removed, name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(result.pixel_array, expected)
    assert done.action.startswith("image kept, removed ")
    assert not stripped(of_frames(syntax, value), syntax)[1].removed


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_frame_with_nothing_beside_the_picture_stays_byte_for_byte(syntax):
    value = encapsulate([even(compressed(syntax))])
    result, done = stripped(of_frames(syntax, value), syntax)
    assert result.PixelData == value
    assert done == streams.Stripped()
    assert done.action == "kept"


class TestSegmentsThatDecodersNeed:
    def test_jfif_and_adobe_stay_without_thumbnail(self):
        clean = compressed(JPEGBaseline8Bit)
        jfif = segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\2\2" + b"Otto" * 3)
        adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + TEXT)
        done = jpeg.clean(clean[:2] + jfif + adobe + clean[20:], SHAPE)
        assert done.content[2:] == (
            segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0") + segment(0xEE, b"Adobe\0\x64\0\0\0\0\1") + clean[20:]
        )

    def test_a_comment_that_names_the_encoder_of_jpeg_2000_stays(self):
        clean = compressed(JPEG2000Lossless)
        assert b"OpenJPEG" in clean
        assert jpeg2000.clean(clean, SHAPE).content == clean

    def test_packet_lengths_that_add_up_stay_and_tile_lengths_are_written_anew(self):
        clean = compressed(JPEG2000Lossless)
        data = len(clean) - 2 - clean.index(b"\xff\x93") - 2
        packets = segment(0x58, b"\0" + bytes((0x80 | data >> 7, data & 0x7F)))
        tile_lengths = segment(0x55, b"\0\x60" + struct.pack(">HL", 0, 12 + len(packets) + 2 + data))
        good = in_tile_part(before_first(clean, b"\xff\x90", tile_lengths), packets)
        assert jpeg2000.clean(good, SHAPE).content == good
        comment = segment(0x64, b"\0\1" + TEXT)
        assert jpeg2000.clean(in_tile_part(good, comment), SHAPE).content == good

    def test_a_hidden_table_makes_a_segment_too_long(self):
        clean = compressed(JPEGBaseline8Bit)
        at = clean.index(b"\xff\xdb")
        length = struct.unpack(">H", clean[at + 2 : at + 4])[0]
        hidden = clean[: at + 2] + struct.pack(">H", length + 20) + clean[at + 4 : at + 2 + length]
        with pytest.raises(DamagedStreamError):
            jpeg.clean(hidden + bytes(20) + clean[at + 2 + length :], SHAPE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: frame[:-2],
        lambda frame: frame[2:],
        lambda frame: frame[: len(frame) // 2],
        lambda frame: b"",
        lambda frame: frame[:2] + segment(0xDE, b"12345") + frame[2:],
    ],
)
@pytest.mark.parametrize(
    ("clean", "syntax"),
    [(jpeg.clean, JPEGBaseline8Bit), (jpeg_ls.clean, JPEGLSLossless), (jpeg2000.clean, JPEG2000Lossless)],
)
def test_a_damaged_frame_is_refused(clean, syntax, damage):
    frame = compressed(syntax)
    if syntax == JPEG2000Lossless and damage(b"\xff\x4f\xff\x51" + bytes(40))[2:4] == b"\xff\xde":
        frame = frame[:-2]
    with pytest.raises(DamagedStreamError):
        clean(damage(frame), SHAPE)


@pytest.mark.parametrize("other", [Shape(32, 72, 1, 8), Shape(64, 36, 1, 8), Shape(64, 72, 3, 8)])
@pytest.mark.parametrize(
    ("clean", "syntax"),
    [(jpeg.clean, JPEGBaseline8Bit), (jpeg_ls.clean, JPEGLSLossless), (jpeg2000.clean, JPEG2000Lossless)],
)
def test_a_codestream_of_another_size_than_the_header_is_refused(clean, syntax, other):
    with pytest.raises(DamagedStreamError):
        clean(compressed(syntax), other)


def test_rle_follows_the_pixels_that_a_segment_has_to_give():
    frame = struct.pack("<2L56x", 1, 64) + bytes((2, 1, 2, 3, 255, 9)) + b"\0"
    assert rle.clean(frame, Shape(1, 5, 1, 8)).content == frame
    assert rle.clean(frame + b"\x0bQuenneville!", Shape(1, 5, 1, 8)).removed == {
        "bytes behind an RLE segment": 14
    }
    with pytest.raises(DamagedStreamError):
        rle.clean(frame, Shape(1, 4, 1, 8))
    with pytest.raises(DamagedStreamError):
        rle.clean(frame, Shape(1, 6, 1, 8))
    with pytest.raises(DamagedStreamError):
        rle.clean(frame, Shape(1, 5, 3, 8))


def test_a_deflated_frame_ends_where_its_data_end():
    packer = zlib.compressobj(wbits=-15)
    frame = packer.compress(bytes(ROWS * COLUMNS)) + packer.flush()
    assert deflated.clean(frame, SHAPE).content == frame
    assert deflated.clean(frame + TEXT, SHAPE).content == frame
    with pytest.raises(DamagedStreamError):
        deflated.clean(frame, Shape(ROWS - 1, COLUMNS, 1, 8))
    with pytest.raises(DamagedStreamError):
        deflated.clean(frame[:-1], SHAPE)


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_jpeg_gdcm.dcm", "JPEG-lossy.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
class TestFramesOfOtherEncoders:
    """JPEG lossless, 12-bit extended and subsampled baseline, as GDCM and DCMTK write them."""

    def frame(self, name: str) -> tuple[Dataset, bytes, str]:
        made = pydicom.dcmread(get_testdata_file(name, download=False))
        return (
            made,
            next(generate_frames(made.PixelData, number_of_frames=1)),
            made.file_meta.TransferSyntaxUID,
        )

    def test_stay_byte_for_byte(self, name):
        made, frame, syntax = self.frame(name)
        result, done = stripped(made, syntax)
        assert next(generate_frames(result.PixelData, number_of_frames=1)) == frame
        assert not done.removed

    def test_lose_a_comment_and_decode_as_before(self, name):
        made, frame, syntax = self.frame(name)
        made.PixelData = encapsulate([even(behind_start(frame, segment(0xFE, TEXT)) + TEXT)])
        result, done = stripped(made, syntax)
        kept = next(generate_frames(result.PixelData, number_of_frames=1))
        assert kept.rstrip(b"\0\xff") == frame.rstrip(b"\0\xff")
        assert set(done.removed) == {"JPEG comments", "bytes behind the end of the image"}
        assert len(done.decoded_digest) == 64


def test_the_audit_tells_sizes_that_can_be_nobodys_number():
    made = image()
    made.PixelData += bytes(44_720)
    assert stripped(made, ExplicitVRLittleEndian)[1].removed == {"bytes behind the last pixel": "45 kB"}


class TestFragments:
    def test_frames_beyond_the_declared_number_go(self):
        frame = even(compressed(JPEGBaseline8Bit))
        shown = even(behind_start(compressed(JPEGBaseline8Bit), segment(0xFE, TEXT)))
        for value in (encapsulate([frame, shown]), encapsulate([frame, shown], has_bot=False)):
            result, done = stripped(of_frames(JPEGBaseline8Bit, value, NumberOfFrames=1), JPEGBaseline8Bit)
            assert [*generate_frames(result.PixelData, number_of_frames=1)] == [frame]
            assert done.removed

    def test_of_three_frames_two_are_declared(self):
        frames = [even(compressed(RLELossless))] * 3
        result, done = stripped(
            of_frames(RLELossless, encapsulate(frames), NumberOfFrames=2, PixelData=b""), RLELossless
        )
        assert done.removed == {
            "frames beyond NumberOfFrames": f"{len(frames[0])} bytes",
            "entries of the offset table": "12 bytes",
        }
        assert [*generate_frames(result.PixelData, number_of_frames=2)] == frames[:2]
        assert result.PixelData[4:8] == struct.pack("<L", 8)

    def test_a_frame_in_several_fragments_is_read_as_one(self):
        frame = even(compressed(JPEGBaseline8Bit))
        value = encapsulate([frame, frame], fragments_per_frame=3)
        result, done = stripped(of_frames(JPEGBaseline8Bit, value, NumberOfFrames=2), JPEGBaseline8Bit)
        assert (result.PixelData, done.removed) == (value, {})
        bare = encapsulate([frame, frame], fragments_per_frame=3, has_bot=False)
        assert (
            stripped(of_frames(JPEGBaseline8Bit, bare, NumberOfFrames=2), JPEGBaseline8Bit)[1].removed == {}
        )

    def test_an_offset_table_of_text_is_written_anew(self):
        frame = even(compressed(JPEGBaseline8Bit))
        text = TEXT[:28]
        value = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(text)) + text + encapsulate([frame])[12:]
        result, done = stripped(of_frames(JPEGBaseline8Bit, value), JPEGBaseline8Bit)
        assert text not in result.PixelData
        assert done.removed == {"entries of the offset table": "28 bytes"}
        assert np.array_equal(
            result.pixel_array, of_frames(JPEGBaseline8Bit, encapsulate([frame])).pixel_array
        )

    @pytest.mark.parametrize("offsets", [(0,), (0, 99_999), (8, 0), (0, 2), (0, 0)])
    def test_an_offset_table_that_points_nowhere_is_not_followed(self, offsets):
        frame = even(compressed(JPEGBaseline8Bit))
        table = struct.pack(f"<{len(offsets)}L", *offsets)
        head = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(table))
        value = head + table + encapsulate([frame, frame], has_bot=False)[8:]
        result, done = stripped(of_frames(JPEGBaseline8Bit, value, NumberOfFrames=2), JPEGBaseline8Bit)
        assert [*generate_frames(result.PixelData, number_of_frames=2)] == [frame, frame]
        assert set(done.removed) == {"entries of the offset table"}

    def test_the_extended_offset_table_follows_what_became_of_the_frames(self):
        plain = even(compressed(JPEGBaseline8Bit))
        value, offsets, lengths = encapsulate_extended(
            [even(behind_start(plain, segment(0xFE, TEXT))), even(plain)]
        )
        made = of_frames(
            JPEGBaseline8Bit,
            value,
            NumberOfFrames=2,
            ExtendedOffsetTable=offsets,
            ExtendedOffsetTableLengths=lengths,
        )
        result, _ = stripped(made, JPEGBaseline8Bit)
        new = np.frombuffer(result.ExtendedOffsetTable, "<u8")
        sizes = np.frombuffer(result.ExtendedOffsetTableLengths, "<u8")
        assert list(new) == [0, 8 + sizes[0]]
        assert TEXT not in result.PixelData
        start = 8 + 8 + int(new[1])
        assert result.PixelData[start : start + int(sizes[1])].rstrip(b"\0") == plain.rstrip(b"\0")

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\xfe\xff\x00\xe0\0\0\0\0",
            b"\xfe\xff\x00\xe0\0\0\0\0" + TEXT + b" ",
            b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\xff\0\0\0" + TEXT,
        ],
    )
    def test_items_that_are_none_are_refused(self, value):
        with pytest.raises(UncleanablePixelsError):
            streams.strip(
                _raw(of_frames(JPEGBaseline8Bit, value), value), JPEGBaseline8Bit, is_little_endian=True
            )


def _raw(made: Dataset, value: bytes) -> Dataset:
    """Return the object with a raw pixel element of undefined length, as a reader of damaged files has it."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    made._dict[Tag(0x7FE00010)] = RawDataElement(Tag(0x7FE00010), "OB", 0xFFFFFFFF, value, 0, False, True)
    return made


class TestNativePixels:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
    @pytest.mark.parametrize("extra", [TEXT + b" ", picture().tobytes(), bytes(64)])
    def test_bytes_behind_the_last_pixel_go(self, syntax, extra):
        made = image()
        made.PixelData += extra
        result, done = stripped(made, syntax)
        assert bytes(result.PixelData) == picture().tobytes()
        assert done.removed == {"bytes behind the last pixel": f"{len(extra)} bytes"}

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_an_odd_count_of_pixels_keeps_its_padding(self, syntax):
        made = image(Rows=3, Columns=5, PixelData=bytes(range(1, 16)) + b"\0")
        result, done = stripped(made, syntax)
        assert (bytes(result.PixelData), done.removed) == (bytes(range(1, 16)) + b"\0", {})

    def test_a_padding_byte_of_another_value_stays(self):
        made = image(Rows=3, Columns=5, PixelData=bytes(range(1, 16)) + b"0")
        result, done = stripped(made, ExplicitVRLittleEndian)
        assert (bytes(result.PixelData), done.removed) == (bytes(range(1, 16)) + b"0", {})

    def test_bits_behind_the_last_single_bit_pixel_go(self):
        made = image(Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\xff\xff")
        result, _ = stripped(made, ExplicitVRLittleEndian)
        assert bytes(result.PixelData) == b"\xff\x01"

    def test_float_pixels_are_as_long_as_their_size_says(self):
        values = np.arange(6, dtype="<f4").tobytes()
        made = ct(Rows=2, Columns=3, PixelData=None, FloatPixelData=values + TEXT + b" ")
        result, _ = stripped(made, ExplicitVRLittleEndian)
        assert result["FloatPixelData"].value == values

    def test_halved_colours_count_two_samples_a_pixel(self):
        made = image(
            SamplesPerPixel=3,
            PhotometricInterpretation="YBR_FULL_422",
            PlanarConfiguration=0,
            PixelData=bytes(ROWS * COLUMNS * 2),
        )
        assert not stripped(made, ExplicitVRLittleEndian)[1].removed

    def test_two_kinds_of_pixel_data_are_refused(self):
        assert code_of(image(FloatPixelData=bytes(4)), ExplicitVRLittleEndian) == "pixel_stream_damaged"

    def test_pixels_without_a_size_are_refused(self):
        assert code_of(image(Rows=None), ExplicitVRLittleEndian) == "pixel_stream_damaged"

    def test_video_is_not_parsed(self):
        made = of_frames("1.2.840.10008.1.2.4.102", encapsulate([b"\0\0\1\xb3" + TEXT + b" "]))
        assert code_of(made, "1.2.840.10008.1.2.4.102") == "pixel_stream_unparsed"


class TestUnusedBits:
    """PS3.5 8.1.1: only the bits from HighBit down are the sample."""

    def words(self, values: list[int], **more: object) -> Dataset:
        array = np.array(values, "<u2") if min(values) >= 0 else np.array(values, "<i2")
        return ct(Rows=1, Columns=len(values), PixelData=array.tobytes(), **more)

    @pytest.mark.parametrize("values", [[0, 4095, 7], [1, 2, 3]])
    def test_values_within_the_stored_bits_stay(self, values):
        assert not stripped(self.words(values), ExplicitVRLittleEndian)[1].removed

    @pytest.mark.parametrize("values", [[-2048, 2047, -1], [0xF800, 0x07FF, 0xFFFF], [0x0800, 0x0FFF, 5]])
    def test_a_sign_may_be_extended_or_not(self, values):
        assert not stripped(self.words(values, PixelRepresentation=1), ExplicitVRLittleEndian)[1].removed

    @pytest.mark.parametrize("values", [[0, 0x1000, 7], [0x8001, 1, 2]])
    @pytest.mark.parametrize("signed", [0, 1])
    def test_anything_else_above_holds_the_object(self, values, signed):
        made = self.words(values, PixelRepresentation=signed)
        assert code_of(made, ExplicitVRLittleEndian) == "unused_bits"

    def test_bits_below_the_stored_ones_count_too(self):
        made = self.words([0x10, 0x21, 0x30], BitsStored=12, HighBit=15)
        assert code_of(made, ExplicitVRLittleEndian) == "unused_bits"
        assert not stripped(
            self.words([0x10, 0x20, 0xFFF0], BitsStored=12, HighBit=15), ExplicitVRLittleEndian
        )[1].removed

    def test_declared_padding_may_lie_outside(self):
        made = self.words([1, 63536, 2], PixelPaddingValue=63536)
        assert not stripped(made, ExplicitVRLittleEndian)[1].removed
        assert code_of(self.words([1, 63536, 2]), ExplicitVRLittleEndian) == "unused_bits"

    def test_compressed_pixels_are_decoded_for_it(self):
        made = ct(Rows=1, Columns=4, PixelData=np.array([1, 2, 0x2001, 3], "<u2").tobytes())
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.set_original_encoding(False, True)
        made.compress(RLELossless, generate_instance_uid=False)
        assert code_of(made, RLELossless) == "unused_bits"


class TestPixelDataBesideTheImage:
    @pytest.mark.parametrize(
        ("tag", "vr"),
        [(0x7FE00020, "OW"), (0x7F020010, "OW"), (0x7FE00003, "UV"), (0x7FE10010, "LO")],
    )
    def test_retired_and_other_elements_of_pixel_groups_go(self, tag, vr):
        made = ct()
        made.add_new(tag, vr, 5 if vr == "UV" else TEXT + b" " if vr == "OW" else "ORBWEAVER")
        assert tag not in Deidentified(as_bytes(made)).dataset

    @pytest.mark.parametrize(
        "keyword", ["ReferencedImageSequence", "SourceImageSequence", "IconImageSequence"]
    )
    def test_pixel_data_inside_a_sequence_go(self, keyword):
        inner = image()
        inner.ReferencedSOPClassUID = inner.SOPClassUID
        made = ct()
        setattr(made, keyword, [inner])
        result = Deidentified(as_bytes(made))
        assert all("PixelData" not in item for item in result.dataset.get(keyword, []))
        assert result.dataset.PixelData == made.PixelData


def test_a_whole_run_releases_the_picture_alone_and_the_audit_says_what_went(tmp_path):
    frame = even(behind_start(compressed(JPEGBaseline8Bit), segment(0xFE, TEXT)))
    made = of_frames(JPEGBaseline8Bit, encapsulate([frame]))
    save(made, tmp_path / "in/a", JPEGBaseline8Bit)
    video = of_frames(
        "1.2.840.10008.1.2.4.102", encapsulate([b"\0\0\1\xb3" + TEXT + b" "]), SOPInstanceUID="1.2.3.9"
    )
    save(video, tmp_path / "in/b", "1.2.840.10008.1.2.4.102")
    done = run(tmp_path / "in", tmp_path / "out")
    assert done.summary.reasons == {"pixel_stream_unparsed": 1}
    released = next(done.paths.dicom.rglob("*.dcm")).read_bytes()
    assert TEXT not in released
    lines = [orjson.loads(line) for line in done.paths.audit.read_bytes().splitlines()]
    line = next(line for line in lines if line["disposition"] == "released")
    assert line["removed_from_pixels"] == {"JPEG comments": f"{len(TEXT)} bytes"}
    assert len(line["decoded_pixel_digest"]) == 64
    assert line["pixel_digest_before"] != line["pixel_digest_after"]
    (pixels,) = [fate for fate in line["elements"] if fate["path"] == "PixelData"]
    assert pixels["action"] == f"image kept, removed JPEG comments ({len(TEXT)} bytes)"


class TestLookupTables:
    """PS3.3 C.7.6.3.1.5: the descriptor says how many entries there are, 0 for 65536."""

    @pytest.mark.parametrize(
        ("descriptor", "entries"),
        [([4, 0, 16], 8), ([4, 0, 8], 4), ([0, 0, 16], 131072)],
    )
    def test_bytes_behind_the_last_entry_go(self, descriptor, entries):
        text = TEXT + b" " if descriptor[2] == 16 else b"XY"
        made = ct(RedPaletteColorLookupTableDescriptor=descriptor)
        made.RedPaletteColorLookupTableData = bytes(entries) + text
        result = Deidentified(as_bytes(made))
        kept = result.dataset.RedPaletteColorLookupTableData
        assert kept == bytes(entries)

    def test_those_of_a_sequence_too_and_whole_ones_stay(self):
        inner = Dataset()
        inner.LUTDescriptor = [4, 0, 16]
        inner.add_new(0x00283006, "OW", bytes(range(8)) + TEXT + b" ")
        made = ct(VOILUTSequence=[inner], BluePaletteColorLookupTableDescriptor=[4, 0, 8])
        made.BluePaletteColorLookupTableData = bytes(range(8))
        result = Deidentified(as_bytes(made))
        assert result.dataset.VOILUTSequence[0]["LUTData"].value == bytes(range(8))
        assert result.dataset.BluePaletteColorLookupTableData == bytes(range(8))
