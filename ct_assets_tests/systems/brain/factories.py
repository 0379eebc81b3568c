"""Slices of head CT and their label tables, each with what its test is about."""

from pathlib import Path

import numpy as np
import polars as pl
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import features, images
from ct_assets.tables.brain import BrainSplit

AXIAL = [1, 0, 0, 0, 1, 0]


def head(size: int = 48, *, lesion: bool = False, seed: int = 0) -> np.ndarray:
    """HU of a disc of brain in a ring of skull, off the middle, with a bright spot where asked."""
    rng = np.random.default_rng(seed)
    j, i = np.indices((size, size))
    away = np.hypot((j - size * 0.5) / 1.15, i - size * 0.45)
    hu = np.full((size, size), -1000.0)
    hu[away < 0.38 * size] = 1000
    hu[away < 0.33 * size] = 35
    if lesion:
        hu[np.hypot(j - size * 0.4, i - size * 0.35) < 0.09 * size] = 75
    return np.rint(hu + rng.normal(0, 3, hu.shape)).astype(np.int16)


def dicom(path: Path, hu: np.ndarray | None = None, **elements: object) -> Dataset:
    """Write a CT slice; elements replace what the header says, None takes one out."""
    pixels = head() if hu is None else hu
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.ImageOrientationPatient = AXIAL
    dataset.ImagePositionPatient = [0, 0, 0]
    dataset.PixelSpacing = [2, 2]
    dataset.PixelData = (pixels.astype(np.int32) + 1024).astype(np.int16).tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return dataset


def data_set(root: Path, patients: int = 12, slices: int = 1, size: int = 48) -> Path:
    """Write a folder of slices with labels; every second patient has a lesion."""
    rows = ["ID,Label"]
    for number in range(patients):
        study = generate_uid(entropy_srcs=[f"study{number}"])
        for k in range(slices):
            name = f"ID_{number:03d}{k}"
            dicom(
                root / f"CTs/{name}.dcm",
                head(size, lesion=number % 2 == 1, seed=100 * number + k),
                PatientID=f"P{number}",
                StudyInstanceUID=study,
                SeriesInstanceUID=generate_uid(entropy_srcs=[f"series{number}"]),
                ImagePositionPatient=[0, 0, 5 * k],
            )
            rows.append(f"{name},{number % 2}")
    (root / "labels1.csv").write_text("\n".join(rows) + "\n")
    return root


def table_of(root: Path, **options: object) -> pl.DataFrame:
    """Return the feature table of a folder that `data_set` wrote."""
    from ct_assets.systems.brain.dataset import validate_dataset_structure

    structure = validate_dataset_structure(root)
    return features.features(features.folder_items(structure), structure.ct_dir, **options)


def placed_of(table: pl.DataFrame, folds: int = 3, test_every: int = 0) -> pl.DataFrame:
    """Place slices by hand: folds in turn of pairs, so that each fold has both labels."""
    usable = table.filter(pl.col("ok") == 1).with_row_index("n")
    placed = usable.with_columns(
        (pl.lit(test_every > 0) & ((pl.col("n") // 2) % max(1, test_every) == 0)).alias("test"),
        ((pl.col("n") // 2) % folds).cast(pl.Int64).alias("fold"),
    ).with_columns(pl.when("test").then(None).otherwise("fold").alias("fold"))
    return placed.select(BrainSplit.column_names()).cast({"test": pl.Boolean, "fold": pl.Int64})


def prepared_of(
    table: pl.DataFrame, root: Path, folder: Path, size: int = 32, **changes: object
) -> images.Prepared:
    return images.prepare(table, root / "CTs", config(**changes), size, folder, workers=1)


def config(**changes: object) -> BrainConfig:
    """A configuration of one epoch a stage."""
    return BrainConfig.model_validate({"epochs_head": 1, "epochs_ft": 1, "lr_ft": 1e-3} | changes)
