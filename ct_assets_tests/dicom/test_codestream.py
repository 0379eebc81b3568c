"""Codestreams against headers: values that both readings share are exact, others are refused."""

import jpeg_ls
import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate

from ct_assets.dicom.codestream import Precision, precision
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.settings.conversion import ConversionSettings
from ct_assets_tests.dicom.factory import ct_series, grouped, only_ct

JPEG_2000, JPEG_LS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"


def j2k(array, bits):
    return encode_array(
        np.ascontiguousarray(array), bits_stored=bits, photometric_interpretation=2, use_mct=False
    )


def jls(array):
    return bytes(jpeg_ls.encode_array(np.ascontiguousarray(array)))


def test_what_a_codestream_says():
    array = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    assert precision(j2k(array, 12)) == Precision(12, False)
    assert precision(j2k(array.astype(np.int16), 16)) == Precision(16, True)
    assert precision(jls(array)).is_signed is None
    for other in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc4\xff\xff", b"\xff\x4f\xff\x51", bytes(100)):
        assert precision(other) is None


def converted(folder, array, content, syntax, *, signed, stored=16):
    slices = ct_series(3)
    for one in slices:
        one.file_meta.TransferSyntaxUID = syntax
        one.Rows, one.Columns = array.shape
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, stored, stored - 1
        one.PixelRepresentation = int(signed)
        one.RescaleSlope, one.RescaleIntercept = 1, 0
        one.PixelData = encapsulate([content])
        one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
    return load_series(only_ct(grouped(folder, slices)), folder, ConversionSettings()).volume.array[0]


LOW = np.arange(1024).reshape(32, 32)
HIGH = 3 * LOW
NEGATIVE = HIGH - 1500


@pytest.mark.parametrize(
    ("values", "content", "signed", "stored"),
    [
        (HIGH, j2k(HIGH.astype(np.uint16), 12), False, 16),
        (HIGH, j2k(HIGH.astype(np.uint16), 16), False, 12),
        (LOW, j2k(LOW.astype(np.uint16), 12), True, 16),
        (NEGATIVE, j2k(NEGATIVE.astype(np.int16), 12), True, 16),
        (NEGATIVE, j2k((NEGATIVE & 0xFFFF).astype(np.uint16), 16), True, 16),
        (NEGATIVE, j2k((NEGATIVE & 0xFFF).astype(np.uint16), 12), True, 12),
        (HIGH, j2k(HIGH.astype(np.int16), 16), False, 16),
    ],
)
def test_values_that_both_readings_share_are_exact(tmp_path, values, content, signed, stored):
    array = converted(tmp_path, values, content, JPEG_2000, signed=signed, stored=stored)
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize(
    ("content", "signed"),
    [(j2k(HIGH.astype(np.uint16), 12), True), (j2k(NEGATIVE.astype(np.int16), 16), False)],
)
def test_values_that_depend_on_the_reading_are_refused(tmp_path, content, signed):
    with pytest.raises(ConversionRefused, match="codestream_contradicts_header"):
        converted(tmp_path, HIGH, content, JPEG_2000, signed=signed)


@pytest.mark.parametrize("stored", [13, 16])
def test_jpeg_ls_knows_no_sign_and_fewer_bits_than_a_signed_header_are_refused(tmp_path, stored):
    content = jls(HIGH.astype(np.uint16))
    assert precision(content).bits == 12
    with pytest.raises(ConversionRefused, match="codestream_contradicts_header"):
        converted(tmp_path, HIGH, content, JPEG_LS, signed=True, stored=stored)


def test_jpeg_ls_of_all_stored_bits_is_exact(tmp_path):
    content = jls((NEGATIVE & 0xFFF).astype(np.uint16))
    np.testing.assert_array_equal(
        converted(tmp_path, NEGATIVE, content, JPEG_LS, signed=True, stored=12), NEGATIVE
    )
