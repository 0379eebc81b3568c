"""The quick reader says what pydicom says, or says nothing."""

from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ct_assets.deid.batch import dicomfile, plainfile


def a_file(syntax: str = ExplicitVRLittleEndian, *, pixels: int = 200_000, **extra: object) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    dataset.PatientName, dataset.StationName = "Älgquist^Åsa", ""
    dataset.ReferencedStudySequence = Sequence([Dataset()])
    dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3.5"
    dataset["ReferencedStudySequence"].is_undefined_length = True
    for keyword, value in extra.items():
        setattr(dataset, keyword, value)
    if pixels:
        dataset.add_new("PixelData", "OW", bytes(pixels))
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def told(dataset: Dataset) -> list[tuple]:
    """What two readers must agree on."""
    return [
        (int(tag), one.VR, one.length, one.value) if isinstance(one, RawDataElement) else (int(tag), one)
        for tag, one in dicomfile.elements(dataset).items()
        if int(tag) != plainfile.CHARACTER_SET
    ]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_it_reads_as_pydicom_does(syntax: str) -> None:
    content = a_file(syntax)
    dataset, is_implicit = plainfile.read(content)
    expected = pydicom.dcmread(BytesIO(content))
    assert told(dataset) == told(expected)
    assert is_implicit == (syntax == ImplicitVRLittleEndian)
    assert dataset.original_encoding == expected.original_encoding
    assert dataset.file_meta.TransferSyntaxUID == syntax


def test_it_reads_pydicoms_own_collection_as_pydicom_does() -> None:
    equal = 0
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm")):
        content = path.read_bytes()
        try:
            dataset, _ = plainfile.read(content)
        except plainfile.NotPlainError:
            continue
        with dicomfile.silence():
            assert told(dataset) == told(pydicom.dcmread(BytesIO(content), force=True)), path
        equal += 1
    assert equal > 50


def test_of_the_beginning_it_tells_all_but_the_pixels() -> None:
    content = a_file()
    dataset, _ = plainfile.read(content[:4096], len(content))
    assert told(dataset)[:-1] == told(pydicom.dcmread(BytesIO(content)))[:-1]
    pixels = dicomfile.elements(dataset)[plainfile.PIXEL_DATA]
    assert isinstance(pixels, RawDataElement)
    assert (pixels.value, pixels.length) == (None, 200_000)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(a_file()[:-1], id="ends inside the pixels"),
        pytest.param(a_file(pixels=0)[:-1], id="ends inside a value"),
        pytest.param(a_file() + b"\1\2\3", id="crumbs at the end"),
        pytest.param(a_file()[132:], id="no preamble"),
        pytest.param(a_file().replace(b"\x10\0\x10\0PN", b"\x08\0\x10\0PN"), id="elements out of order"),
        pytest.param(a_file().replace(b"PN\x0c\0", b"P1\x0c\0"), id="a VR that is none"),
        pytest.param(a_file().replace(b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"), id="big endian"),
        pytest.param(
            a_file().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"), id="says implicit"
        ),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_pydicom(content: bytes) -> None:
    with pytest.raises(plainfile.NotPlainError):
        plainfile.read(content)


def test_a_file_cut_inside_its_pixels_is_not_taken_from_its_beginning() -> None:
    content = a_file()
    assert dicomfile.read_beginning(content[:4096], len(content) - 2) is None
    assert dicomfile.read_beginning(content[:4096], len(content)) is not None
