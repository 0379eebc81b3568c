"""Masks drawn on several multi-frame images: their references name the image and the frame of it."""

import copy

import numpy as np
import pytest
from pydicom import dcmread

from ct_assets.dicom import source_images
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.models import segmentation_object
from ct_assets_tests.dicom.factory import enhanced_ct, uid

FRAMES = 6
BLANK = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
)


def parts(folder, sizes, *, grid_in_frames=False):
    """Write an Enhanced CT of 6 frames, the highest first, in parts of so many frames; return the paths."""
    paths, start = [], 0
    for number, size in enumerate(sizes):
        part = copy.deepcopy(enhanced_ct(FRAMES))
        for keyword in BLANK:
            setattr(part, keyword, "")
        part.PositionReferenceIndicator, part.SeriesNumber = "", 1
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = uid("part", number)
        part.PerFrameFunctionalGroupsSequence = part.PerFrameFunctionalGroupsSequence[start : start + size]
        part.NumberOfFrames, start = size, start + size
        if grid_in_frames:
            shared = part.SharedFunctionalGroupsSequence[0]
            for frame in part.PerFrameFunctionalGroupsSequence:
                frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
                frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
        del part.PixelData
        path = folder / f"{number}.dcm"
        part.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def references(segmentation):
    """Return z of each frame to the instances and frames that it refers to."""
    return {
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2]): [
            (source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"))
            for derivation in frame.DerivationImageSequence
            for source in derivation.SourceImageSequence
        ]
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    }


@pytest.mark.parametrize("grid_in_frames", [False, True])
@pytest.mark.parametrize("sizes", [(6,), (2, 2, 2), (1, 5)])
def test_a_mask_refers_to_the_part_and_the_frame_in_whose_plane_it_lies(tmp_path, sizes, grid_in_frames):
    paths = parts(tmp_path, sizes, grid_in_frames=grid_in_frames)
    grid = Grid.of((FRAMES, 6, 8), (0.75, 0.75, 2.0))
    array = np.zeros(grid.shape, np.uint8)
    array[1:5, 2:4, 3:6] = 1
    target = tmp_path / "mask.dcm"
    segmentation_object.write(target, Volume(array, grid), paths, model="m" * 64, stage_text=None)
    written = dcmread(target)
    frames = [(uid("part", number), at + 1) for number, size in enumerate(sizes) for at in range(size)]
    at_z = {(FRAMES - 1 - place) * 2.0: [frame] for place, frame in enumerate(frames)}
    assert references(written) == {z: at_z[z] for z in (2.0, 4.0, 6.0, 8.0)}
    named = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    everywhere = [uid("part", number) for number in range(len(sizes))]
    assert [one.ReferencedSOPInstanceUID for one in named] == everywhere
    assert [one.ReferencedSOPInstanceUID for one in written.SourceImageSequence] == everywhere


def test_the_files_own_data_sets_are_not_changed_by_joining(tmp_path):
    images = source_images.read(parts(tmp_path, (2, 2, 2), grid_in_frames=True))
    assert [one.NumberOfFrames for one in images.datasets] == [2, 2, 2]
    assert "PixelMeasuresSequence" not in images.datasets[1].SharedFunctionalGroupsSequence[0]
    assert len(images.joined) == 1
    assert images.joined[0].NumberOfFrames == FRAMES
