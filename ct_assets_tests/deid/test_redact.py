"""Blanking regions: black inside, byte for byte the same outside, in every way pixels are stored."""

import copy

import numpy as np
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.deid.pixels import frames, redact
from ct_assets.deid.pixels.frames import UnreadablePixelsError
from ct_assets.deid.pixels.redact import Region
from ct_assets_tests.deid.corpus import pictures
from ct_assets_tests.deid.pictures_of import CT, image

BOX = Region(column=10, row=6, width=21, height=9)
INSIDE = np.s_[6:15, 10:31]


def seen(dataset):
    return [frame.copy() for frame in frames.stored_frames(dataset)]


def outside(frame):
    kept = np.ones(frame.shape[:2], bool)
    kept[INSIDE] = False
    return frame[kept]


def assert_only_the_box_is_blank(dataset, *, dark):
    before = seen(dataset)
    redact.apply(dataset, [BOX])
    after = seen(dataset)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(outside(new), outside(old))
        np.testing.assert_array_equal(np.unique(new[INSIDE]), [dark(old)])


GREY = np.random.default_rng(1).integers(20, 200, (3, 40, 50)).astype(np.uint8)
COLOUR = np.random.default_rng(2).integers(20, 200, (3, 40, 50, 3)).astype(np.uint8)


@pytest.mark.parametrize("pixels", [GREY, GREY.astype(np.uint16) * 9, GREY.astype(np.int16) * 9 - 900])
def test_monochrome_becomes_its_darkest_value_on_every_frame(pixels):
    assert_only_the_box_is_blank(image(pixels), dark=np.min)


def test_inverted_monochrome_becomes_its_highest_value():
    assert_only_the_box_is_blank(image(GREY, photometric="MONOCHROME1"), dark=np.max)


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_becomes_black_by_pixel_and_by_plane(planar):
    assert_only_the_box_is_blank(image(COLOUR, photometric="RGB", planar=planar), dark=lambda _: 0)


@pytest.mark.parametrize("planar", [0, 1])
def test_ybr_becomes_black_not_green(planar):
    assert_only_the_box_is_blank(image(COLOUR, photometric="YBR_FULL", planar=planar), dark=lambda _: 0)


def test_subsampled_ybr_becomes_black_in_whole_pairs():
    dataset = image(GREY[0], photometric="MONOCHROME2")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = (
        3,
        "YBR_FULL_422",
        0,
    )
    dataset.PixelData = np.random.default_rng(3).integers(30, 220, 40 * 50 * 2).astype(np.uint8).tobytes()
    before = np.frombuffer(dataset.PixelData, np.uint8).reshape(40, 25, 4)
    redact.apply(dataset, [BOX])
    after = np.frombuffer(dataset.PixelData, np.uint8).reshape(40, 25, 4)
    assert (after[6:15, 5:16] == (0, 0, 128, 128)).all()
    kept = np.ones((40, 25), bool)
    kept[6:15, 5:16] = False
    np.testing.assert_array_equal(after[kept], before[kept])


def test_single_bits_are_blanked_across_frames_that_share_bytes():
    bits = (np.random.default_rng(4).random((3, 37, 51)) < 0.5).astype(np.uint8)
    dataset = image(bits, sop_class="66.4")
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0"
    redact.apply(dataset, [BOX])
    after = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[: bits.size]
    expected = bits.copy()
    expected[(slice(None), *INSIDE)] = 0
    np.testing.assert_array_equal(after.reshape(bits.shape), expected)


def test_a_palette_image_becomes_its_darkest_colour():
    dataset = image(GREY[0] % 4, photometric="PALETTE COLOR")
    for colour, table in (("Red", [9, 5, 1, 200]), ("Green", [9, 5, 0, 200]), ("Blue", [9, 5, 2, 200])):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes(table))
    assert_only_the_box_is_blank(dataset, dark=lambda _: 2)


def test_big_endian_words_stay_big_endian():
    pixels = (GREY[0].astype(np.uint16) * 300).astype(">u2")
    dataset = image(pixels, syntax=ExplicitVRBigEndian)
    redact.apply(dataset, [BOX])
    after = np.frombuffer(dataset.PixelData, ">u2").reshape(40, 50)
    np.testing.assert_array_equal(outside(after), outside(pixels))
    assert (after[INSIDE] == pixels.min()).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_lossless_image_stays_in_its_transfer_syntax(syntax):
    dataset = image(GREY.astype(np.uint16) * 9)
    dataset.compress(syntax, generate_instance_uid=False)
    assert_only_the_box_is_blank(dataset, dark=np.min)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.SOPInstanceUID == "1.2.3.4"


@pytest.mark.real
def test_a_lossy_image_is_not_compressed_again(real_data):
    import pydicom

    dataset = pydicom.dcmread(real_data / "deid_samples/humans_ctbrain1.dcm")
    [before] = seen(copy.deepcopy(dataset))
    redact.apply(dataset, [BOX])
    [after] = seen(dataset)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.abs(outside(after).astype(int) - outside(before)).max() <= 2
    assert after[INSIDE].max() == 0


def test_a_box_beyond_the_image_is_cut_at_its_edge():
    dataset = image(GREY[0])
    redact.apply(dataset, [Region(column=45, row=35, width=100, height=100)])
    [after] = seen(dataset)
    assert (after[35:, 45:] == GREY[0].min()).all()
    np.testing.assert_array_equal(after[:35], GREY[0][:35])


def test_pixels_that_cannot_be_read_are_refused_and_left_as_they_were():
    dataset = image(pictures.body(64, 64, 1), sop_class=CT)
    dataset.PixelData = dataset.PixelData[:-300]
    before = dataset.PixelData
    with pytest.raises(UnreadablePixelsError):
        redact.apply(dataset, [BOX])
    assert dataset.PixelData == before
