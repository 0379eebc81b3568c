"""Exports: what nnU-Net and MONAI expect to find, with our folds."""

import json

import nibabel
import numpy as np
import polars as pl
import pytest

from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Volume
from ct_assets.learning.volumes import exports
from ct_assets_tests.learning.volumes import cohort


@pytest.fixture
def world(tmp_path):
    return tmp_path, cohort(tmp_path, patients=8, folds=3, tested=2)


def test_the_nnunet_dataset_has_the_layout_of_its_documentation(world):
    folder, manifest = world
    dataset = exports.nnunet(manifest, folder, folder / "raw", number=7, name="Lung")
    assert dataset.name == "Dataset007_Lung"
    described = json.loads((dataset / "dataset.json").read_text())
    training = sorted((dataset / "imagesTr").glob("*.nii.gz"))
    assert described["numTraining"] == len(training) == 6
    assert set(described) >= {"channel_names", "labels", "numTraining", "file_ending"}
    assert all(path.name.endswith("_0000.nii.gz") for path in training)
    cases = {path.name.removesuffix("_0000.nii.gz") for path in training}
    assert cases == {path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTr").glob("*.nii.gz")}
    assert len(list((dataset / "imagesTs").glob("*.nii.gz"))) == 2


def test_images_and_masks_of_the_nnunet_dataset_agree_as_its_integrity_check_wants(world):
    folder, manifest = world
    dataset = exports.nnunet(manifest, folder, folder / "raw")
    labels = json.loads((dataset / "dataset.json").read_text())["labels"]
    for path in (dataset / "imagesTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        mask = nibabel.load(dataset / "labelsTr" / path.name.replace("_0000.", "."))
        assert image.shape == mask.shape
        assert np.allclose(image.affine, mask.affine)
        assert set(np.unique(np.asanyarray(mask.dataobj))) <= set(labels.values())


def rewrite_labels(folder, manifest, change):
    """Store the first training case's mask again as `change` gives its voxels; return its case and the voxels."""
    row = manifest.filter(pl.col("split") == "train").row(0, named=True)
    label = nifti.read(folder / row["label"])
    nifti.write(folder / row["label"], Volume(change(label.array), label.grid))
    return row["case_id"], label.array


def test_labels_that_are_nearly_whole_are_whole_in_the_nnunet_dataset(world):
    folder, manifest = world
    case, drawn = rewrite_labels(folder, manifest, lambda array: array.astype(np.float32) * 0.9999)
    dataset = exports.nnunet(manifest, folder, folder / "raw")
    exported = nifti.read(dataset / "labelsTr" / f"{case}.nii.gz").array
    assert exported.dtype == np.uint8
    np.testing.assert_array_equal(exported, drawn)


def test_a_mask_of_fractions_is_refused_by_name(world):
    folder, manifest = world
    rewrite_labels(folder, manifest, lambda array: array.astype(np.float32) * 0.5)
    with pytest.raises(UsageError, match=r"\.nii\.gz: .*whole number"):
        exports.nnunet(manifest, folder, folder / "raw")


def test_nnunet_folds_are_ours(world):
    _, manifest = world
    folds = exports.splits_final(manifest)
    assert len(folds) == 3
    training = set(manifest.filter(pl.col("split") == "train")["case_id"])
    for number, fold in enumerate(folds):
        assert set(fold["val"]) == set(manifest.filter(pl.col("fold") == number)["case_id"])
        assert set(fold["train"]) | set(fold["val"]) == training
        assert not set(fold["train"]) & set(fold["val"])


def test_nnunet_folds_come_back_as_given_folds(world):
    from datetime import UTC, datetime

    from ct_assets.cohort import splits_given
    from ct_assets.settings.folds import SplitSettings

    folder, manifest = world
    dataset = exports.nnunet(manifest, folder, folder / "raw")
    ledger = splits_given.from_file(
        dataset / "splits_final.json", manifest, SplitSettings(), datetime(2026, 1, 1, tzinfo=UTC)
    )
    ours = manifest.select("patient_id", "split", "fold").sort("patient_id")
    assert ledger.select("patient_id", "split", "fold").sort("patient_id").equals(ours)


def test_labels_with_a_gap_are_refused(world):
    folder, manifest = world
    mask = nifti.read(folder / "case_0000_mask.nii.gz")
    nifti.write(folder / "case_0000_mask.nii.gz", Volume(mask.array * np.uint8(5), mask.grid))
    with pytest.raises(UsageError, match=r"1, 2, … without a gap"):
        exports.nnunet(manifest, folder, folder / "raw")


def test_the_monai_datalist_is_read_by_monai_with_folds(world):
    from monai.data import load_decathlon_datalist

    folder, manifest = world
    exports.monai_datalist(manifest, folder / "datalist.json")
    training = load_decathlon_datalist(str(folder / "datalist.json"), True, "training", base_dir=str(folder))
    assert len(training) == 6
    assert {entry["fold"] for entry in training} == {0, 1, 2}
    testing = load_decathlon_datalist(str(folder / "datalist.json"), True, "testing", base_dir=str(folder))
    assert len(testing) == 2
