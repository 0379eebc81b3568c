"""What only sequences tell: frames of enhanced images and SEG, segments, structure sets and their references.

Belongs here: reading those objects with pydicom into columns of the header index. Does not: pixels of a SEG
beyond counting (`dicom.mask_pixels`), contours as masks (`dicom.rtstruct`).
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ct_assets.dicom.functional_groups import RawGroup, per_frame
from ct_assets.dicom.rtstruct import StructureSet
from ct_assets.dicom.uids import (
    CT_IMAGES,
    LABEL_MAP_SEGMENTATION,
    MULTI_FRAME_CT_IMAGES,
    RT_STRUCTURE_SET,
    SEGMENTATIONS,
)

NEEDS_SEQUENCES = MULTI_FRAME_CT_IMAGES | SEGMENTATIONS | {RT_STRUCTURE_SET}
"""SOP classes whose facts stand in sequences."""

Floats = npt.NDArray[np.float64]
Item = Dataset | RawGroup

_NAN = float("nan")


def columns_of(dataset: Dataset, sop_class_uid: str, *, with_frames: bool = True) -> dict[str, Any]:
    """Return the index columns that the sequences of an enhanced image or a SEG tell.

    `with_frames` False leaves out the places of a SEG's frames.
    """
    columns: dict[str, Any] = {}
    if sop_class_uid in MULTI_FRAME_CT_IMAGES or (sop_class_uid in SEGMENTATIONS and with_frames):
        columns |= frames(dataset)
    if sop_class_uid in MULTI_FRAME_CT_IMAGES:
        columns |= _shared_acquisition(dataset)
    if sop_class_uid in SEGMENTATIONS:
        columns |= segments(dataset) | segmentation_references(dataset)
        if sop_class_uid == LABEL_MAP_SEGMENTATION:
            columns["segmentation_type"] = "LABELMAP"
    return columns


def frames(dataset: Dataset) -> dict[str, Any]:
    """Return position, orientation, spacing and rescale of each frame (PS3.3 C.7.6.16.2), in frame order."""
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    groups = per_frame(dataset)
    several: dict[str, list[Any]] = {name: [] for name in _FRAME_COLUMNS}
    for group in groups:
        for name, (sequence, keyword, count) in _FRAME_COLUMNS.items():
            item = _first(group, sequence) or _first(shared, sequence)
            several[name].append(_values(item, keyword, count))
    columns: dict[str, Any] = {"frame_positions_mm": _flat(several.pop("frame_positions_mm"), agree=False)}
    for name, values in several.items():
        columns[name] = _flat(_holes_as_null(values) if name in _WITH_HOLES else values, agree=True)
    if "SegmentSequence" in dataset:
        columns["frame_segment_numbers"] = [_frame_segment(group, shared) for group in groups]
    return columns


def segments(dataset: Dataset) -> dict[str, Any]:
    """Return number, label and codes of each segment (PS3.3 C.8.20.4)."""
    items = list(dataset.get("SegmentSequence") or [])
    return {
        "segment_numbers": [_integer(item.get("SegmentNumber")) for item in items],
        "segment_labels": [_text(item.get("SegmentLabel")) for item in items],
        "segment_types": [_code(item, "SegmentedPropertyTypeCodeSequence") for item in items],
        "segment_categories": [_code(item, "SegmentedPropertyCategoryCodeSequence") for item in items],
        "segment_algorithms": [_text(item.get("SegmentAlgorithmType")) for item in items],
    }


def segmentation_references(dataset: Dataset) -> dict[str, Any]:
    """Return the series and instances a SEG refers to as its images.

    These are the sources of its frames, the top-level SourceImageSequence (PS3.3 C.7.6.1.1.4) and the common
    instance references of its study (C.12.2). Where none of them can be a CT, also the references in other
    studies and the ReferencedImageSequence (C.7.6.1.1.5), which else may name a prior or a localizer.
    """
    sources = _referenced(dataset.get("SourceImageSequence"))
    other = _referenced(dataset.get("ReferencedImageSequence"))
    for group in [*(dataset.get("SharedFunctionalGroupsSequence") or []), *per_frame(dataset)]:
        for derivation in group.get("DerivationImageSequence") or []:
            sources += _referenced(derivation.get("SourceImageSequence"))
        other += _referenced(group.get("ReferencedImageSequence"))
    series, instances, may_be_ct = _series_references([dataset])
    if not sources and not may_be_ct:
        of_others, in_others, _ = _series_references(
            dataset.get("StudiesContainingOtherReferencedInstancesSequence") or []
        )
        series, instances = series + of_others, instances + in_others + other
    return {
        "referenced_series_instance_uids": _distinct(series),
        "referenced_sop_instance_uids": _distinct([*instances, *sources]),
        "referenced_frame_of_reference_uids": _distinct([dataset.get("FrameOfReferenceUID")]),
    }


def _series_references(studies: Iterable[Dataset]) -> tuple[list[Any], list[Any], bool]:
    """Return series, instances, and whether any of them can be a CT by its class."""
    series: list[Any] = []
    instances: list[Any] = []
    may_be_ct = False
    for study in studies:
        for item in study.get("ReferencedSeriesSequence") or []:
            references = item.get("ReferencedInstanceSequence") or []
            classes = [_text(reference.get("ReferencedSOPClassUID")) for reference in references]
            may_be_ct |= not classes or any(name is None or name in CT_IMAGES for name in classes)
            series.append(item.get("SeriesInstanceUID"))
            instances += _referenced(references)
    return series, instances, may_be_ct


def _referenced(items: Any) -> list[Any]:
    return [item.get("ReferencedSOPInstanceUID") for item in items or []]


def structures(found: StructureSet, *, with_contours: bool = True) -> dict[str, Any]:
    """Return the ROIs, contours and references of a structure set (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8).

    `with_contours` False leaves out counts, boxes and planes of the contours.
    """
    dataset = found.dataset
    rois = [roi.segment for roi in found.rois]
    observed = {
        _integer(item.get("ReferencedROINumber")): item
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    counts: list[int] = []
    boxes: list[float] = []
    planes: list[float] = []
    for roi in found.rois if with_contours else ():
        closed = [outline.points_lps_mm for outline in found.outlines(roi).closed]
        counts.append(len(closed))
        boxes.extend(_box(closed))
        planes.extend(value for points in closed for value in points[0].tolist())
    instances: list[Any] = []
    series: list[Any] = []
    frames_of_reference: list[Any] = [roi.frame_of_reference_uid for roi in found.rois]
    for reference in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames_of_reference.append(reference.get("FrameOfReferenceUID"))
        for study in reference.get("RTReferencedStudySequence") or []:
            for referenced in study.get("RTReferencedSeriesSequence") or []:
                series.append(referenced.get("SeriesInstanceUID"))
                instances += _referenced(referenced.get("ContourImageSequence"))
    instances += [
        source.sop_instance_uid
        for roi in found.rois
        for contour in roi.contours
        for source in contour.sources
    ]
    return {
        "segment_numbers": [roi.number for roi in rois],
        "segment_labels": [_text(roi.label) for roi in rois],
        "segment_types": [_text(observed.get(roi.number, {}).get("RTROIInterpretedType")) for roi in rois],
        "segment_categories": [
            _code(observed[roi.number], "RTROIIdentificationCodeSequence") if roi.number in observed else None
            for roi in rois
        ],
        "segment_algorithms": [_text(roi.algorithm_type) for roi in rois],
        "segment_contours": counts if with_contours else None,
        "segment_boxes_mm": boxes if with_contours else None,
        "contour_planes_mm": planes if with_contours else None,
        "referenced_series_instance_uids": _distinct(series),
        "referenced_sop_instance_uids": _distinct(instances),
        "referenced_frame_of_reference_uids": _distinct(frames_of_reference),
    }


_TEXT, _COUNT = 0, -1
"""Kinds of values: texts joined by "/", one whole number; else how many numbers."""
_FRAME_COLUMNS: dict[str, tuple[str, str, int]] = {
    "frame_positions_mm": ("PlanePositionSequence", "ImagePositionPatient", 3),
    "frame_orientations": ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    "frame_pixel_spacings_mm": ("PixelMeasuresSequence", "PixelSpacing", 2),
    "frame_types": ("CTImageFrameTypeSequence", "FrameType", _TEXT),
    "frame_acquisition_numbers": ("FrameContentSequence", "FrameAcquisitionNumber", _COUNT),
    "frame_temporal_position_indices": ("FrameContentSequence", "TemporalPositionIndex", _COUNT),
    "frame_rescale_slopes": ("PixelValueTransformationSequence", "RescaleSlope", 1),
    "frame_rescale_intercepts": ("PixelValueTransformationSequence", "RescaleIntercept", 1),
    "frame_rescale_types": ("PixelValueTransformationSequence", "RescaleType", _TEXT),
    "frame_kernels": ("CTReconstructionSequence", "ConvolutionKernel", _TEXT),
    "frame_kvps_kv": ("CTXRayDetailsSequence", "KVP", 1),
    "frame_slice_thicknesses_mm": ("PixelMeasuresSequence", "SliceThickness", 1),
    "frame_cardiac_phases_percent": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", 1),
    "frame_trigger_delays_ms": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", 1),
    "frame_respiratory_phases_percent": (
        "RespiratorySynchronizationSequence",
        "NominalPercentageOfRespiratoryPhase",
        1,
    ),
    "frame_stack_ids": ("FrameContentSequence", "StackID", _TEXT),
    "frame_contrast_phases": ("ContrastBolusUsageSequence", "ContrastBolusAgentPhase", _TEXT),
    "frame_acquisition_times": ("FrameContentSequence", "FrameAcquisitionDateTime", _TEXT),
}
_WITH_HOLES = frozenset(_FRAME_COLUMNS) - {
    "frame_positions_mm",
    "frame_orientations",
    "frame_pixel_spacings_mm",
    "frame_types",
}
"""Columns in which a frame may lack the value; a place is told of every frame or of none."""

_SHARED_ACQUISITION: dict[str, tuple[str, str]] = {
    "slice_thickness_mm": ("PixelMeasuresSequence", "SliceThickness"),
    "spacing_between_slices_mm": ("PixelMeasuresSequence", "SpacingBetweenSlices"),
    "rescale_slope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "rescale_intercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "rescale_type": ("PixelValueTransformationSequence", "RescaleType"),
    "convolution_kernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "reconstruction_diameter_mm": ("CTReconstructionSequence", "ReconstructionDiameter"),
    "kvp_kv": ("CTXRayDetailsSequence", "KVP"),
    "filter_type": ("CTXRayDetailsSequence", "FilterType"),
    "exposure_mas": ("CTExposureSequence", "ExposureInmAs"),
    "exposure_time_ms": ("CTExposureSequence", "ExposureTimeInms"),
    "xray_tube_current_ma": ("CTExposureSequence", "XRayTubeCurrentInmA"),
    "ctdi_vol_mgy": ("CTExposureSequence", "CTDIvol"),
    "gantry_detector_tilt_deg": ("CTAcquisitionDetailsSequence", "GantryDetectorTilt"),
    "data_collection_diameter_mm": ("CTAcquisitionDetailsSequence", "DataCollectionDiameter"),
    "table_height_mm": ("CTAcquisitionDetailsSequence", "TableHeight"),
    "single_collimation_width_mm": ("CTAcquisitionDetailsSequence", "SingleCollimationWidth"),
    "total_collimation_width_mm": ("CTAcquisitionDetailsSequence", "TotalCollimationWidth"),
    "spiral_pitch_factor": ("CTTableDynamicsSequence", "SpiralPitchFactor"),
    "body_part_examined": ("FrameAnatomySequence", "BodyPartExamined"),
}
"""Where an enhanced CT keeps what a plain one has at the top (PS3.3 A.38.1.4)."""

_TEXT_COLUMNS = frozenset(("rescale_type", "convolution_kernel", "filter_type", "body_part_examined"))


def _shared_acquisition(dataset: Dataset) -> dict[str, Any]:
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    first = next(iter(per_frame(dataset)), None)
    columns: dict[str, Any] = {}
    for name, (sequence, keyword) in _SHARED_ACQUISITION.items():
        item = _first(shared, sequence) or _first(first, sequence)
        value = None if item is None else item.get(keyword)
        if name in _TEXT_COLUMNS:
            found: Any = _text(value)
        else:
            values = _floats(value)
            found = values[0] if values and values[0] == values[0] else None
        if found is not None:
            columns[name] = found
    return columns


def _frame_segment(group: Item, shared: Dataset | None) -> int | None:
    item = _first(group, "SegmentIdentificationSequence") or _first(shared, "SegmentIdentificationSequence")
    return None if item is None else _integer(item.get("ReferencedSegmentNumber"))


def _first(dataset: Item | None, keyword: str) -> Any:
    items = None if dataset is None else dataset.get(keyword)
    return items[0] if items else None


def _values(item: Item | None, keyword: str, count: int) -> tuple[Any, ...] | None:
    """Return the values of a kind (`_FRAME_COLUMNS`), a tuple; None where they are not there."""
    value = None if item is None else item.get(keyword)
    if value is None:
        return None
    if count == _TEXT:
        return (_text(value),)
    if count == _COUNT:
        return (_integer(value),)
    values = _floats(value)
    return tuple(values) if len(values) == count and all(map(math.isfinite, values)) else None


def _flat(values: list[tuple[Any, ...] | None], *, agree: bool) -> list[Any] | None:
    """Concatenate the frames' values; one frame's where all agree; None where any frame has none."""
    present = [value for value in values if value is not None]
    if not present or len(present) != len(values):
        return None
    if agree and len(set(present)) == 1:
        return list(present[0])
    return [number for value in present for number in value]


def _holes_as_null(values: list[tuple[Any, ...] | None]) -> list[tuple[Any, ...] | None]:
    """Return one value a frame, null where a frame has none; as given where no frame has one."""
    if all(value is None for value in values):
        return values
    return [(None,) if value is None else value for value in values]


def _box(contours: list[Floats]) -> list[float]:
    if not contours:
        return [_NAN] * 6
    points = np.concatenate(contours)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def _floats(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    several = (
        value
        if isinstance(value, list | tuple) or (hasattr(value, "__iter__") and not isinstance(value, str))
        else [value]
    )
    try:
        return [float(part) for part in several]
    except (TypeError, ValueError):
        return []


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip() or None
    if hasattr(value, "__iter__"):
        return "/".join(str(part).strip() for part in value) or None
    return str(value).strip() or None


def _code(item: Dataset, sequence: str) -> str | None:
    """Return the first code of a sequence as `scheme:value meaning`, as far as it is there."""
    code = _first(item, sequence)
    if code is None:
        return None
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
    told = f"{_text(code.get('CodingSchemeDesignator')) or ''}:{_text(value) or ''}"
    return f"{told} {_text(code.get('CodeMeaning')) or ''}".strip()


def _distinct(values: list[Any]) -> list[str]:
    return list(dict.fromkeys(text for value in values if (text := _text(value))))
