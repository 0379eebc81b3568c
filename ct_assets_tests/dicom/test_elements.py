"""The fast walker reads what pydicom reads, and says so where it cannot."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ct_assets.dicom import elements, header
from ct_assets_tests.dicom.factory import ct_slice

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def save(one: Dataset, path, syntax: str, **options: object):
    one.file_meta.TransferSyntaxUID = syntax
    one.preamble = bytes(128)
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(path, one, **options)
    return path


def raw_by_pydicom(path) -> dict[int, bytes]:
    """The stored bytes of each wanted element, as pydicom's raw elements hold them."""
    read = pydicom.dcmread(path)
    return {int(tag): read.get_item(tag).value or b"" for tag in header.WANTED if tag in read}


def with_sequences(undefined: bool) -> Dataset:
    one = ct_slice(1, (1, 2, 3))
    inner = Dataset()
    inner.PatientID = "not at the top"
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.is_undefined_length_sequence_item = undefined
    outer = Dataset()
    outer.ReferencedImageSequence = [inner, inner]
    outer["ReferencedImageSequence"].is_undefined_length = undefined
    outer.is_undefined_length_sequence_item = undefined
    one.SourceImageSequence = [outer, Dataset(), outer]
    one["SourceImageSequence"].is_undefined_length = undefined
    block = one.private_block(0x0029, "MAKER", create=True)
    block.add_new(1, "SQ", [outer])
    block.add_new(2, "OB", b"\x00" * 20_000)  # reaches beyond the first read
    one.PatientID = "P at the top"
    return one


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("undefined", [True, False])
def test_walks_over_nested_sequences_and_long_private_values(tmp_path, syntax, undefined):
    path = save(with_sequences(undefined), tmp_path / "one", syntax)
    read = elements.read_header(path, header.WANTED)
    assert read.values == raw_by_pydicom(path)
    assert read.values[0x00100020].strip() == b"P at the top"


@pytest.mark.parametrize("syntax", PLAIN)
def test_tells_where_the_pixel_data_lies(tmp_path, syntax):
    one = ct_slice(1, (0, 0, 0))
    path = save(one, tmp_path / "one", syntax)
    read = elements.read_header(path, header.WANTED)
    assert path.read_bytes()[read.pixel_offset :][: read.pixel_bytes] == one.PixelData


@given(
    st.dictionaries(
        st.sampled_from(
            ["PatientID", "Manufacturer", "BodyPartExamined", "ConvolutionKernel", "SeriesDescription"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=60),
    ),
    st.binary(max_size=40_000),
    st.sampled_from(PLAIN),
)
@settings(max_examples=60, deadline=None)
def test_reads_the_bytes_that_pydicom_reads(texts, private, syntax):
    one = ct_slice(1, (0, 0, 0))
    for keyword, value in texts.items():
        setattr(one, keyword, value)
    one.private_block(0x0009, "MAKER", create=True).add_new(7, "OB", private + b"\0" * (len(private) % 2))
    buffer = BytesIO()
    save(one, buffer, syntax)
    path = _file_of(buffer.getvalue())
    try:
        assert elements.read_header(path, header.WANTED).values == raw_by_pydicom(path)
    finally:
        path.unlink()


def _file_of(content: bytes):
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile(delete=False) as opened:
        opened.write(content)
    return Path(opened.name)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_byte_orders_are_left_to_pydicom(tmp_path, syntax):
    one = ct_slice(1, (0, 0, 0))
    one["PixelData"].VR = "OW"
    path = save(one, tmp_path / "one", syntax)
    with pytest.raises(elements.NotPlainError):
        elements.read_header(path, header.WANTED)


@given(st.integers(0, 1200))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_is_told_or_read_never_a_crash(at):
    buffer = BytesIO()
    save(ct_slice(1, (0, 0, 0)), buffer, ExplicitVRLittleEndian)
    path = _file_of(buffer.getvalue()[:at])
    try:
        read = elements.read_header(path, header.WANTED)
        assert read.pixel_offset is None or read.pixel_offset <= at
    except elements.NotPlainError:
        pass
    finally:
        path.unlink()


def test_random_bytes_are_no_dicom(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(elements.NotPlainError):
        elements.read_header(path, header.WANTED)
