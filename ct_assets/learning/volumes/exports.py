"""Exports that others can use at once: an nnU-Net v2 raw dataset with our folds, a MONAI datalist with folds.

Belongs here: their layouts. nnU-Net: `documentation/dataset_format.md` of its repository (imagesTr with a
channel suffix, labelsTr, imagesTs, dataset.json) and `splits_final.json`, a list of train and val case names.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti, nifti_read, values
from ct_assets.imaging.volume import Volume

CHANNEL = "_0000"


def nnunet(manifest: pl.DataFrame, root: Path, folder: Path, *, number: int = 1, name: str = "CT") -> Path:
    """Write `Dataset<number>_<name>` below `folder` and return it; images are hard links where the disk allows.

    Training cases without a mask are left out, as nnU-Net has no place for them. `splits_final.json` lies in the
    dataset's folder: copy it to nnUNet_preprocessed/Dataset…/ before training, then nnU-Net trains on these folds.
    Labels other than 0, 1, 2, … are refused, since nnU-Net wants consecutive ones.
    """
    if not re.fullmatch(r"[A-Za-z0-9]+", name) or not 0 < number < 1000:
        raise UsageError(f"nnU-Net dataset {number} {name!r}: a number from 1 to 999 and letters or digits")
    dataset = folder / f"Dataset{number:03d}_{name}"
    training = manifest.filter((pl.col("split") == "train") & pl.col("label").is_not_null()).sort("case_id")
    if training.is_empty():
        raise UsageError("nnU-Net needs training cases with masks; there are none")
    labels: set[int] = set()
    for row in training.iter_rows(named=True):
        _place(root / row["image"], dataset / "imagesTr" / f"{row['case_id']}{CHANNEL}.nii.gz")
        labels |= _place_labels(root / row["label"], dataset / "labelsTr" / f"{row['case_id']}.nii.gz")
    for row in manifest.filter(pl.col("split") == "test").sort("case_id").iter_rows(named=True):
        _place(root / row["image"], dataset / "imagesTs" / f"{row['case_id']}{CHANNEL}.nii.gz")
    present = sorted(labels - {0})
    if present != list(range(1, len(present) + 1)):
        raise UsageError(f"nnU-Net wants labels 1, 2, … without a gap; the masks hold {present}")
    files.write_json(
        dataset / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **{f"label_{value}": value for value in present}},
            "numTraining": training.height,
            "file_ending": ".nii.gz",
        },
    )
    files.write_json(dataset / "splits_final.json", splits_final(training))
    return dataset


def splits_final(manifest: pl.DataFrame) -> list[dict[str, list[str]]]:
    """Return our folds as nnU-Net keeps them; patients who validate in no fold train in all."""
    training = manifest.filter(pl.col("split") == "train").sort("case_id")
    folds = sorted(int(fold) for fold in training["fold"].drop_nulls().unique())
    parts = []
    for fold in folds:
        validates = (training["fold"].cast(pl.Int64) == fold).fill_null(False)
        parts.append(
            {
                "train": training.filter(~validates)["case_id"].to_list(),
                "val": training.filter(validates)["case_id"].to_list(),
            }
        )
    return parts


def monai_datalist(manifest: pl.DataFrame, path: Path) -> dict[str, Any]:
    """Write a MONAI datalist: `training` with `fold`, `testing`; paths as in the manifest. Return it."""
    training, testing = [], []
    for row in manifest.sort("case_id").iter_rows(named=True):
        entry: dict[str, Any] = {
            name: row[name] for name in ("image", "label", "stage") if name in row and row[name] is not None
        }
        entry["case_id"] = row["case_id"]
        if row["split"] == "train":
            # A patient who validates in no fold gets -1: no fold's validation, every fold's training.
            training.append({**entry, "fold": -1 if row["fold"] is None else int(row["fold"])})
        else:
            testing.append(entry)
    content = {"name": "CT", "training": training, "testing": testing}
    files.write_json(path, content)
    return content


def _place_labels(source: Path, target: Path) -> set[int]:
    """Place a label map and return its labels; one that is not stored as whole numbers is written as such."""
    try:
        stored = nifti_read.read(source).volume
        labels, _ = values.as_labels(stored.array)
    except nifti_read.NiftiRefused as refusal:
        raise UsageError(f"{source.name}: {refusal.detail}; nnU-Net needs whole labels") from None
    if np.issubdtype(stored.array.dtype, np.integer):
        _place(source, target)
    else:
        nifti.write(target, Volume(labels, stored.grid))
    return {int(value) for value in np.unique(labels)}


def _place(source: Path, target: Path) -> None:
    """Link or copy a file; a NIfTI that is not compressed is compressed on the way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if source.suffix != ".gz":
        nifti.write(target, nifti.read(source))
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
