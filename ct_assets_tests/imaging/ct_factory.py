"""CT series, SEG and structure sets made on the spot, so that a test shows all that matters."""

from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct_assets.dicom import index as headers
from ct_assets.dicom.series import Series, group
from ct_assets.settings import Settings

PREFIX = "1.2.826.0.1.3680043.10.9."
UNIT = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])


def uid(*parts: object) -> str:
    return generate_uid(prefix=PREFIX, entropy_srcs=[str(part) for part in parts])


@dataclass
class CtSeries:
    """A series in memory; change `slices` at will, then `save`."""

    slices: list[Dataset]
    stored: np.ndarray
    """Stored values (k, j, i)."""
    datasets_by_k: list[Dataset] = field(default_factory=list)

    def save(self, folder: Path, *, shuffle: int | None = 0) -> Path:
        """Write the slices under meaningless names, in an order of their own."""
        folder.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(shuffle).permutation(len(self.slices))
        for name, at in enumerate(order):
            self.slices[at].save_as(folder / f"im{name:04d}", enforce_file_format=True)
        return folder


def ct_series(
    *,
    shape: tuple[int, int, int] = (6, 5, 4),
    spacing_mm: tuple[float, float, float] = (0.7, 0.9, 2.5),
    origin_mm: tuple[float, float, float] = (-30.0, 20.0, -100.0),
    direction: np.ndarray = UNIT,
    name: str = "a",
    patient: str = "P1",
    slope: float = 1,
    intercept: float = -1024,
    signed: bool = False,
    bits: int = 16,
    stored: np.ndarray | None = None,
    step_mm: np.ndarray | None = None,
    **elements: object,
) -> CtSeries:
    """Make a series: `shape` (k, j, i), `spacing_mm` along i, j, k, `direction` with unit columns i, j, k.

    `step_mm` overrides the way from slice to slice (a tilted gantry).
    """
    if stored is None:
        rng = np.random.default_rng(len(name))
        stored = rng.integers(0, 2000, size=shape)
    stored = stored.astype(np.int16 if signed else np.uint16)
    step = direction[:, 2] * spacing_mm[2] if step_mm is None else np.asarray(step_mm)
    slices = []
    for k in range(shape[0]):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("sop", name, k)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study", patient), uid("series", name)
        ds.FrameOfReferenceUID = uid("frame", patient)
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, "", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "000000", "1", ""
        ds.ReferringPhysicianName, ds.Manufacturer = "", "Maker"
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.InstanceNumber = 1, shape[0] - k  # against the positions
        ds.PositionReferenceIndicator = ""
        ds.ImagePositionPatient = [f"{v:.6f}"[:16] for v in np.asarray(origin_mm) + k * step]
        ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*direction[:, 0], *direction[:, 1])]
        ds.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        ds.SliceThickness, ds.KVP = spacing_mm[2], 120
        ds.Rows, ds.Columns = shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
        ds.PixelRepresentation = int(signed)
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "HU"
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        ds.PixelData = stored[k].tobytes()
        slices.append(ds)
    return CtSeries(list(slices), stored, slices)


def seg_of(
    series: CtSeries,
    masks: dict[int, np.ndarray],
    *,
    kind: str = "BINARY",
    labels: dict[int, str] | None = None,
    **options: object,
) -> Dataset:
    """Let highdicom, an independent writer, make a SEG of `masks` (number to (k, j, i) array)."""
    labels = labels or {}
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=labels.get(number, f"GTV-{number}"),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type="MANUAL",
        )
        for number in masks
    ]
    stack = np.stack(list(masks.values()), axis=-1)
    if kind == "LABELMAP":
        pixels = sum(number * (mask > 0) for number, mask in masks.items()).astype(np.uint8)
    else:
        pixels = stack.astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
    return hd.seg.Segmentation(
        source_images=series.datasets_by_k,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=uid("seg series", kind, series.datasets_by_k[0].SeriesInstanceUID),
        series_number=9,
        sop_instance_uid=uid("seg", kind, series.datasets_by_k[0].SeriesInstanceUID, *masks),
        instance_number=1,
        manufacturer="Maker",
        manufacturer_model_name="Model",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def structure_set(
    series: CtSeries,
    rois: dict[str, list[np.ndarray]],
    *,
    name: str = "rt",
    references: bool = True,
    sop_uids: list[str] | None = None,
) -> Dataset:
    """Make an RTSTRUCT; `rois` maps names to contours, each (n, 3) in LPS millimetres.

    `references=False` leaves out ReferencedFrameOfReferenceSequence; `sop_uids` are the images named.
    """
    first = series.datasets_by_k[0]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("rtstruct", name)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = first.StudyInstanceUID, uid("rt series", name)
    ds.PatientID, ds.Modality = first.PatientID, "RTSTRUCT"
    named = [one.SOPInstanceUID for one in series.datasets_by_k] if sop_uids is None else sop_uids
    if references:
        referenced = Dataset()
        referenced.SeriesInstanceUID = first.SeriesInstanceUID
        referenced.ContourImageSequence = [_image(sop) for sop in named]
        study = Dataset()
        study.RTReferencedSeriesSequence = [referenced]
        frame = Dataset()
        frame.FrameOfReferenceUID = first.FrameOfReferenceUID
        frame.RTReferencedStudySequence = [study]
        ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, (label, contours) in enumerate(rois.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, label
        roi.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        ds.StructureSetROISequence.append(roi)
        item = Dataset()
        item.ReferencedROINumber = number
        item.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{v:.6f}" for v in np.asarray(points).ravel()]
            if sop_uids is not None:
                contour.ContourImageSequence = [_image(sop) for sop in sop_uids[:1]]
            item.ContourSequence.append(contour)
        ds.ROIContourSequence.append(item)
    return ds


def _image(sop: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, sop
    return item


def grouped(folder: Path, settings: Settings | None = None) -> list[Series]:
    """Scan and group a folder."""
    return group(headers.scan(folder, root=folder, workers=1), (settings or Settings()).audit)


def reread(folder: Path) -> list[Dataset]:
    """Read the written files back, by position along z."""
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(found, key=lambda ds: float(ds.ImagePositionPatient[2]))
