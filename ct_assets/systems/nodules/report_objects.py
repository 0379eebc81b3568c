"""Findings as DICOM objects that refer to their series: a Segmentation and a Comprehensive 3D SR (TID 1500).

Belongs here: writing both with highdicom, with one tracking UID a finding in both. Does not: measuring (`findings`).
Equal predictions have equal UIDs.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom import sr
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import ct_assets
from ct_assets.dicom import source_images
from ct_assets.dicom.source_images import SourceImages
from ct_assets.imaging.volume import Grid
from ct_assets.systems.nodules.findings import Finding, uid_of

MANUFACTURER = "ct_assets"
SEG_SERIES_NUMBER, SR_SERIES_NUMBER = 9002, 9003
"""High enough to come after a study's own series."""
OWN_SCHEME = "99CTASSETS"

NODULE = CodedConcept("27925004", "SCT", "Nodule")
ABNORMALITY = codes.SCT.MorphologicallyAbnormalStructure
LUNG = CodedConcept("39607008", "SCT", "Lung")
CT_OF_CHEST = CodedConcept("24627-2", "LN", "CT Chest")
DIAMETERS = (
    CodedConcept("81827009", "SCT", "Diameter"),
    CodedConcept("diameter-2", OWN_SCHEME, "Second principal diameter"),
    CodedConcept("diameter-3", OWN_SCHEME, "Third principal diameter"),
)
VOLUME = CodedConcept("118565006", "SCT", "Volume")
ATTENUATION = CodedConcept("112031", "DCM", "Attenuation Coefficient")
MEAN = CodedConcept("373098007", "SCT", "Mean")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
FINDING_CONTEXT = CodedConcept("408729009", "SCT", "Finding context")
NOT_DETECTED = CodedConcept("260415000", "SCT", "Not detected")
MILLIMETRE = CodedConcept("mm", "UCUM", "millimeter")
CUBIC_MILLIMETRE = CodedConcept("mm3", "UCUM", "cubic millimeter")
HOUNSFIELD = CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = CodedConcept("%", "UCUM", "Percent")
ENGLISH = CodedConcept("en-US", "RFC5646", "English (United States)")


def write(
    seg_path: Path,
    sr_path: Path,
    found: Sequence[Finding],
    masks: Sequence[npt.NDArray[np.bool_]],
    grid: Grid,
    sources: Sequence[Path],
    *,
    model: str,
) -> None:
    """Write the masks of `found` (each (k, j, i) on `grid`) as a SEG, and the measurements as an SR.

    `sources` are the files of the series' slices. Segment numbers follow the order of `found`. Without findings there
    is no SEG (the Standard has none without a segment), and the SR states that there are none. Raises what highdicom
    raises where the series lacks what the objects must copy from it.
    """
    images = source_images.read(sources)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both libraries quote values, a patient's name among them
        segmentation = _segmentation(found, masks, grid, images, model) if found else None
        report = _report(found, segmentation, images.datasets, model)
        if segmentation is not None:
            segmentation.save_as(seg_path)
        report.save_as(sr_path)


def _segmentation(
    found: Sequence[Finding],
    masks: Sequence[npt.NDArray[np.bool_]],
    grid: Grid,
    images: SourceImages,
    model: str,
) -> hd.seg.Segmentation:
    series, instance = _uids("seg", found, images.datasets, model)
    # highdicom's affine maps (slice, row, column), ours (i, j, k).
    volume = hd.Volume(
        np.stack(masks, axis=-1).astype(np.uint8),
        grid.affine_lps[:, [2, 1, 0, 3]],
        coordinate_system="PATIENT",
        frame_of_reference_uid=str(images.datasets[0].FrameOfReferenceUID),
        channels={"SegmentNumber": list(range(1, len(found) + 1))},
    )
    segmentation = hd.seg.Segmentation(
        source_images=images.joined,
        pixel_array=volume,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=f"Nodule {number}",
                segmented_property_category=ABNORMALITY,
                segmented_property_type=NODULE,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=_algorithm(model),
                tracking_uid=finding.tracking_uid,
                tracking_id=f"Nodule {number}",
                anatomic_regions=[LUNG],
            )
            for number, finding in enumerate(found, start=1)
        ],
        series_instance_uid=series,
        series_number=SEG_SERIES_NUMBER,
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=ct_assets.__version__,
        device_serial_number=model[:16],
        content_label="NODULES",
        series_description="Detected lung nodules (research use only)",
    )
    images.restore_references(segmentation)
    return segmentation


def _report(
    found: Sequence[Finding],
    segmentation: hd.seg.Segmentation | None,
    datasets: Sequence[Dataset],
    model: str,
) -> sr.Comprehensive3DSR:
    series, instance = _uids("sr", found, datasets, model)
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uid_of("device", model), manufacturer_name=MANUFACTURER, model_name=model[:64]
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=CT_OF_CHEST,
        imaging_measurements=[_none_detected(series)]
        if segmentation is None
        else [
            _measurements(number, finding, segmentation, model)
            for number, finding in enumerate(found, start=1)
        ],
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(ENGLISH),
        referenced_images=datasets,
    )
    return sr.Comprehensive3DSR(
        evidence=datasets if segmentation is None else [*datasets, segmentation],
        content=content[0],
        series_instance_uid=series,
        series_number=SR_SERIES_NUMBER,
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description="Measurements of detected lung nodules (research use only)",
    )


def _measurements(
    number: int, finding: Finding, segmentation: hd.seg.Segmentation, model: str
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    values = [
        sr.Measurement(name, round(value, 3), MILLIMETRE)
        for name, value in zip(DIAMETERS, finding.diameters_mm, strict=True)
    ]
    values.append(sr.Measurement(VOLUME, round(finding.volume_mm3, 3), CUBIC_MILLIMETRE))
    values.append(sr.Measurement(CERTAINTY, round(100 * finding.confidence, 3), PERCENT))
    if finding.mean_hu is not None:
        values.append(sr.Measurement(ATTENUATION, round(finding.mean_hu, 3), HOUNSFIELD, derivation=MEAN))
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=finding.tracking_uid, identifier=f"Nodule {number}"),
        referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, number),
        finding_type=NODULE,
        finding_category=ABNORMALITY,
        algorithm_id=sr.AlgorithmIdentification(name=MANUFACTURER, version=_version(model)),
        finding_sites=[sr.FindingSite(LUNG)],
        measurements=values,
    )


def _none_detected(series: str) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return the one group of a report without findings: TID 1500 wants one."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid_of("none", series), identifier="No nodule"),
        finding_type=NODULE,
        finding_sites=[sr.FindingSite(LUNG)],
        qualitative_evaluations=[sr.QualitativeEvaluation(FINDING_CONTEXT, NOT_DETECTED)],
    )


def _algorithm(model: str) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=MANUFACTURER, version=_version(model), family=codes.DCM.ArtificialIntelligence
    )


def _version(model: str) -> str:
    return f"{ct_assets.__version__} {model[:12]}"


def _uids(kind: str, found: Sequence[Finding], datasets: Sequence[Dataset], model: str) -> tuple[str, str]:
    content = (str(datasets[0].SeriesInstanceUID), model, *(finding.tracking_uid for finding in found))
    return uid_of(kind, "series", *content), uid_of(kind, "instance", *content)
