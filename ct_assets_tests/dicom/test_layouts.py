"""A header read by a remembered layout is the header that a walk reads, and another layout is seen."""

import pydicom
import pytest

from ct_assets.dicom import elements, header, index
from ct_assets_tests.dicom.factory import ct_slice
from ct_assets_tests.dicom.test_elements import PLAIN, save, with_sequences


def walked(path):
    elements._LAYOUTS.clear()
    return elements.read_header(path, header.WANTED)


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("undefined", [True, False])
def test_files_of_one_layout_and_of_others_read_as_by_a_walk(tmp_path, syntax, undefined):
    paths = []
    for number in range(12):
        one = with_sequences(undefined) if number % 4 == 3 else ct_slice(1, (1, 2, 3))
        one.PatientID = "P1" if number % 3 else "PATIENT 1"
        one.StudyDescription = "a b" if number % 2 else "abc"  # another value of one length
        if number % 5 == 4:
            one.SeriesDescription, one.StudyDescription = "abcd", ""  # the same size, other lengths
        paths.append(save(one, tmp_path / f"{number}", syntax))
    expected = [walked(path) for path in paths]
    elements._LAYOUTS.clear()
    assert [elements.read_header(path, header.WANTED) for path in paths * 2] == expected * 2


def test_a_tag_or_representation_that_differs_at_one_place_is_another_layout(tmp_path):
    path = save(ct_slice(1, (1, 2, 3)), tmp_path / "a", PLAIN[0])
    for _ in range(3):
        elements.read_header(path, header.WANTED)
    content = path.read_bytes()
    at = content.index(b"\x20\x00\x32\x00DS")
    changed = tmp_path / "b"
    changed.write_bytes(
        content[:at] + b"\x20\x00\x31\x00DS" + content[at + 6 :]
    )  # (0020,0031) instead of the position
    assert 0x00200032 not in elements.read_header(changed, header.WANTED).values
    assert elements.read_header(path, header.WANTED).values[0x00200032]


def test_a_row_does_not_depend_on_the_file_before(tmp_path):
    first, second = ct_slice(1, (1, 2, 3)), ct_slice(2, (1, 2, 5))
    first.SpecificCharacterSet, first.StudyDescription = "ISO_IR 100", "Schädel"
    first.PixelRepresentation, first.PixelPaddingValue = 1, -2000
    first.KVP, second.KVP = "120", None
    second.PixelPaddingValue = 63536
    second["ImagePositionPatient"].value = ["1", "2", "5"]
    with pydicom.config.disable_value_validation():
        paths = [save(one, tmp_path / str(number), PLAIN[0]) for number, one in enumerate((first, second))]
    alone = []
    for path in paths:
        header._before.values, header._before.row = {}, dict.fromkeys(header.SUITE)
        header._before.oddities = {}
        alone.append(index.read_file(path))
    assert [index.read_file(path) for path in (paths * 3)] == alone * 3
    assert (alone[0]["pixel_padding_value"], alone[1]["pixel_padding_value"]) == (-2000, 63536)
    assert alone[0]["study_description"] == "Schädel"
