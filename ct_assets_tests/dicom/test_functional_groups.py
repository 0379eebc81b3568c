"""The groups of many frames are read quickly, and as pydicom reads them."""

from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)

from ct_assets.dicom.functional_groups import RawGroup, per_frame


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def a_multi_frame(syntax: str, *, undefined_inside: bool = False, undefined: bool = False) -> Dataset:
    """Three frames whose groups hold text, numbers of every kind and sequences in sequences."""
    dataset = item(SOPClassUID=SegmentationStorage, SOPInstanceUID="1.2.3")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    groups = []
    for n in range(3):
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{n}.5", "-20", "3e1"])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=n + 1)],
            FrameContentSequence=[item(DimensionIndexValues=[1, n + 1], FrameAcquisitionNumber=7)],
            DerivationImageSequence=[
                item(SourceImageSequence=[item(ReferencedSOPInstanceUID=f"1.2.3.{n}.{m}") for m in range(2)])
            ],
            PixelMeasuresSequence=[item(PixelSpacing=["0.7", "0.9"], SliceThickness="")],
            PlaneOrientationSequence=[],
        )
        group.add_new(0x00291001, "UN", b"\1\2\3\4")
        for sequence in ("PlanePositionSequence", "DerivationImageSequence"):
            group[sequence].is_undefined_length = undefined_inside
            for one in group[sequence].value:
                one.is_undefined_length_sequence_item = undefined_inside
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    buffer = BytesIO()
    is_little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=is_little)
    buffer.seek(0)
    return pydicom.dcmread(buffer, force=True)


def told(group: object) -> list[object]:
    """Everything that readers ask for, as plain values."""
    (position,), (measures,) = group.get("PlanePositionSequence"), group.get("PixelMeasuresSequence")
    (content,), (segment,) = group.get("FrameContentSequence"), group.get("SegmentIdentificationSequence")
    sources = group.get("DerivationImageSequence")[0].get("SourceImageSequence")
    return [
        [float(value) for value in position.get("ImagePositionPatient")],
        [float(value) for value in measures.get("PixelSpacing")],
        measures.get("SliceThickness") or None,
        [int(value) for value in content.get("DimensionIndexValues")],
        int(content.get("FrameAcquisitionNumber")),
        int(segment.get("ReferencedSegmentNumber")),
        [str(source.get("ReferencedSOPInstanceUID")) for source in sources],
        list(group.get("PlaneOrientationSequence")),
        group.get("PixelValueTransformationSequence", "nothing"),
    ]


@pytest.mark.parametrize("undefined_inside", [False, True], ids=["defined inside", "undefined inside"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)
def test_it_tells_what_pydicom_tells(syntax: str, undefined_inside: bool) -> None:
    quick = per_frame(a_multi_frame(syntax, undefined_inside=undefined_inside))
    patient = a_multi_frame(syntax, undefined_inside=undefined_inside).PerFrameFunctionalGroupsSequence
    assert all(isinstance(group, RawGroup) for group in quick)
    assert [told(group) for group in quick] == [told(group) for group in patient]


@pytest.mark.parametrize(
    "dataset",
    [
        a_multi_frame(ExplicitVRLittleEndian, undefined=True),
        a_multi_frame(ExplicitVRBigEndian),
    ],
    ids=["undefined length", "big endian"],
)
def test_what_it_cannot_follow_pydicom_reads(dataset: Dataset) -> None:
    groups = per_frame(dataset)
    assert len(groups) == 3
    assert told(groups[1])[:2] == [[1.5, -20.0, 30.0], [0.7, 0.9]]


def test_no_groups_are_no_frames() -> None:
    assert per_frame(Dataset()) == []
