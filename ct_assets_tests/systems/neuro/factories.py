"""Small images and data sets for the tests of the token cache."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ct_assets.neuro import CacheManager, DatasetMetadata

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"


def nifti_file(path: Path, array_ijk: np.ndarray, spacing=(1.0, 1.0, 1.0), affine_ras=None) -> Path:
    """Write voxels indexed (i, j, k); by default the axes run to R, A, S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0]) if affine_ras is None else affine_ras
    nib.save(nib.Nifti1Image(array_ijk, affine), path)
    return path


def box_head(shape=(48, 64, 40), air=-1000, tissue=40, margin=8) -> np.ndarray:
    """A block of tissue in air, int16, indexed (i, j, k)."""
    array = np.full(shape, air, dtype=np.int16)
    inner = tuple(slice(margin, size - margin) for size in shape)
    array[inner] = tissue
    return array


def dicom_series(
    folder: Path,
    slices: int = 12,
    *,
    mode: str = "ct",
    step_mm: float = 4.0,
    pixel_mm: float = 1.0,
    shear_mm: float = 0.0,
    series_uid: str | None = None,
    study_uid: str = "1.2.3.4",
    value=lambda k: 40,
    samples: int = 1,
    rows: int = 40,
    columns: int = 48,
) -> list[Path]:
    """Write axial slices from feet to head with a square of `value(k)` in air; HU = stored - 1024."""
    folder.mkdir(parents=True, exist_ok=True)
    series_uid = series_uid or generate_uid(entropy_srcs=[str(folder)])
    paths = []
    for k in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CT_CLASS if mode == "ct" else MR_CLASS
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series_uid, str(k)])
        one = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID = meta.MediaStorageSOPClassUID
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        one.Modality = "CT" if mode == "ct" else "MR"
        one.PatientID, one.StudyInstanceUID, one.SeriesInstanceUID = "P1", study_uid, series_uid
        one.FrameOfReferenceUID = study_uid + ".9"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.InstanceNumber = k + 1
        one.ImagePositionPatient = [-20.0, -15.0 + shear_mm * k, step_mm * k]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [pixel_mm, pixel_mm], step_mm
        one.Rows, one.Columns = rows, columns
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.SamplesPerPixel = samples
        one.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
        pixels = np.full((rows, columns), 24 if mode == "ct" else 0, dtype=np.uint16)
        pixels[8:-8, 8:-8] = value(k) + (1024 if mode == "ct" else 0)
        if mode == "ct":
            one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        if samples == 3:
            one.BitsAllocated, one.BitsStored, one.HighBit, one.PlanarConfiguration = 8, 8, 7, 0
            pixels = np.zeros((rows, columns, 3), dtype=np.uint8)
        one.PixelData = pixels.tobytes()
        path = folder / f"IM{series_uid[-4:]}_{k:03d}.dcm"
        pydicom.dcmwrite(path, one, enforce_file_format=True)
        paths.append(path)
    return paths


def data_set(data_dir: Path, studies: dict[str, tuple[str, int]], shape=(48, 64, 32), cached=True) -> Path:
    """Write `studies` {name: (mode, number of images)} of small blocks, their metadata and their cache."""
    random = np.random.default_rng(0)
    for name, (mode, images) in studies.items():
        for number in range(images):
            array = box_head(shape, air=-1000 if mode == "ct" else 0, tissue=40 if mode == "ct" else 500)
            array = array + random.integers(0, 20, array.shape, dtype=np.int16)
            nifti_file(data_dir / "raw" / name / f"image{number}.nii.gz", array, (1, 1, 4))
    metadata = DatasetMetadata.from_directory(data_dir, {name: mode for name, (mode, _) in studies.items()})
    metadata.save(data_dir / "metadata.json")
    if cached:
        CacheManager(data_dir).build_cache()
    return data_dir
