"""A predicted mask as a DICOM Segmentation that refers to the series it was drawn on.

Belongs here: the SEG object (PS3.3 A.51), written by highdicom. Reading such objects is `ct_assets.dicom.seg`.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import ct_assets
from ct_assets.dicom import source_images
from ct_assets.imaging.volume import Volume

SERIES_NUMBER = 9001
"""High enough to come after a study's own series."""
MANUFACTURER = "ct_assets"
SEGMENT_LABEL = "Tumour"


def write(path: Path, mask: Volume, sources: Sequence[Path], *, model: str, stage_text: str | None) -> None:
    """Write `mask` (1 tumour, on the series' grid or another in its frame of reference) as a binary SEG.

    `sources` are the files of the series' slices; frames refer to the slice in whose plane they lie. UIDs
    follow from series, model and mask, so that the same prediction has the same ones. Raises what highdicom
    raises where the series lacks what a SEG must copy from it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both libraries quote values, a patient's name among them
        _segmentation(mask, sources, model, stage_text).save_as(path)


def _segmentation(
    mask: Volume, sources: Sequence[Path], model: str, stage_text: str | None
) -> hd.seg.Segmentation:
    images = source_images.read(sources)
    first = images.datasets[0]
    content = hashlib.sha256(np.packbits(_drawn(mask)).tobytes()).hexdigest()
    uids = [_uid(str(first.SeriesInstanceUID), model, content, part) for part in ("series", "instance")]
    segmentation = hd.seg.Segmentation(
        source_images=images.joined,
        pixel_array=_hd_volume(mask, first),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(model)],
        series_instance_uid=uids[0],
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=ct_assets.__version__,
        device_serial_number=model[:16],
        content_label="TUMOUR",
        content_description=stage_text,
        series_description="Predicted tumour mask (research use only)",
    )
    images.restore_references(segmentation)
    return segmentation


def _hd_volume(mask: Volume, first: Dataset) -> hd.Volume:
    """Return the mask in highdicom's axis order: its affine maps (slice, row, column), ours (i, j, k)."""
    affine = mask.grid.affine_lps[:, [2, 1, 0, 3]]
    return hd.Volume(
        _drawn(mask).astype(np.uint8),
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
    )


def _drawn(mask: Volume) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.array, dtype=bool)


def _segment(model: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=SEGMENT_LABEL,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=CodedConcept("108369006", "SCT", "Neoplasm"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MANUFACTURER,
            version=f"{ct_assets.__version__} {model[:12]}",
            family=codes.DCM.ArtificialIntelligence,
        ),
        anatomic_regions=[codes.SCT.Lung],
    )


def _uid(*parts: str) -> str:
    """Return a UID that follows from the parts (PS3.5 B.2: 2.25 and a 128-bit number)."""
    return f"2.25.{int(hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32], 16)}"
