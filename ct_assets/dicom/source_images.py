"""Source images of an object that is written: as their files hold them, and joined for a library that takes one.

Belongs here: multi-frame images that are one volume (the parts of a concatenation, PS3.3 C.7.6.16.2.2.4) as one
data set, and references to it turned into references to the images and frames themselves. Does not: writing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

OF_GRID = ("PixelMeasuresSequence", "PlaneOrientationSequence")
OF_FRAME = ("PlanePositionSequence",)


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The images that a mask was drawn on, without pixels."""

    datasets: tuple[Dataset, ...]
    """As they are in their files."""
    joined: tuple[Dataset, ...]
    """The same; multi-frame images as a single one, with the frames of all in this order."""

    def restore_references(self, written: Dataset) -> None:
        """Replace references to the joined image, in an image that was written, by those to the true ones."""
        if len(self.joined) == len(self.datasets):
            return  # the joined image bears the first one's UID
        frames = [(image, at) for image in self.datasets for at in range(1, image.NumberOfFrames + 1)]
        written.SourceImageSequence = Items([_reference(image) for image in self.datasets])
        for series in written.ReferencedSeriesSequence:
            series.ReferencedInstanceSequence = Items([_reference(image) for image in self.datasets])
        for item in _derivations(written):
            for source in item.SourceImageSequence:
                image, number = frames[int(source.ReferencedFrameNumber) - 1]
                source.ReferencedSOPInstanceUID = image.SOPInstanceUID
                source.ReferencedFrameNumber = number


def read(paths: Sequence[Path]) -> SourceImages:
    """Read the headers of the images. Raises what pydicom raises for a file that is none."""
    datasets = tuple(dcmread(path, stop_before_pixels=True) for path in paths)
    is_multi_frame = all("PerFrameFunctionalGroupsSequence" in one for one in datasets)
    return SourceImages(datasets, (_join(datasets),) if is_multi_frame else datasets)


def _join(parts: Sequence[Dataset]) -> Dataset:
    """Return the parts as one image, with each frame's position and what one grid has in common as shared.

    Writers put orientation and pixel spacing with each frame too (PS3.3 C.7.6.16.1.1); a library that writes a mask
    looks for them among the shared groups alone.
    """
    joined = Dataset()
    joined.update(parts[0])  # pydicom's copy would share its elements with the part
    joined.file_meta = parts[0].file_meta
    joined.SharedFunctionalGroupsSequence = Items(
        [_groups(parts[0], parts[0].PerFrameFunctionalGroupsSequence[0], OF_GRID)]
    )
    frames = [
        _groups(part, frame, OF_FRAME) for part in parts for frame in part.PerFrameFunctionalGroupsSequence
    ]
    joined.PerFrameFunctionalGroupsSequence = Items(frames)
    joined.NumberOfFrames = len(frames)
    return joined


def _groups(image: Dataset, frame: Dataset, keywords: Sequence[str]) -> Dataset:
    """Return functional groups of a frame, its own or the image's shared ones."""
    shared = next(iter(image.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    groups = Dataset()
    for keyword in keywords:
        if (own := frame.get(keyword) or shared.get(keyword)) is not None:
            setattr(groups, keyword, own)
    return groups


def _derivations(written: Dataset) -> Iterator[Dataset]:
    for groups in (
        *written.get("SharedFunctionalGroupsSequence", ()),
        *written.PerFrameFunctionalGroupsSequence,
    ):
        yield from groups.get("DerivationImageSequence", ())


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference
