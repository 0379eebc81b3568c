"""The cohort manifest: a row a case that training may use, and who of the eligible is to be split.

Belongs here: joining what eligibility, ledger, audits and labels say of each eligible patient. Does not:
judging (`cohort.eligibility`), splitting (`cohort.splits`), making the files it names
(`imaging.nifti_cohort`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from ct_assets import files, tables
from ct_assets.cohort import case_numbers
from ct_assets.errors import UsageError
from ct_assets.layout import NIFTI_FOLDER, Layout
from ct_assets.tables.cohort import CaseNumbers, CohortManifest

TRAIN = "train"
FOLDERS = {TRAIN: ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


@dataclass(frozen=True)
class Built:
    """The manifest, and the case numbers that it rests on."""

    manifest: pl.DataFrame
    """`tables.cohort.CohortManifest`."""
    numbers: pl.DataFrame
    """`tables.cohort.CaseNumbers`."""


def patients_to_split(eligibility: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Return the eligible patients as `cohort.splits.extend` takes them: patient_id, stage, site; sorted."""
    eligible = eligibility.filter("is_eligible").select("patient_id")
    return eligible.join(labels.select("patient_id", "stage", "site"), on="patient_id", how="left").sort(
        "patient_id"
    )


def build(
    *,
    eligibility: pl.DataFrame,
    labels: pl.DataFrame,
    splits: pl.DataFrame,
    patients: pl.DataFrame,
    series: pl.DataFrame,
    masks: pl.DataFrame,
    layout: Layout,
    tombstone: Callable[[str], str] | None = None,
) -> Built:
    """Return the manifest of the eligible patients, with case numbers for those who had none.

    Numbers that were given before are read from `layout.case_numbers` and never change. Raises
    `UsageError` where an eligible patient has no stage, no place in the ledger, no principal series or not
    one SEG: the query of the eligibility must ask for these.
    """
    eligible = eligibility.filter("is_eligible").select("patient_id").sort("patient_id")
    _refuse_incomplete(eligible, labels, splits, patients)
    before = tables.read_table(layout.case_numbers, CaseNumbers) if layout.case_numbers.exists() else None
    numbers = case_numbers.extend(before, eligible["patient_id"], tombstone=tombstone)
    segments = masks.filter(pl.col("kind") == "seg").select(
        "patient_id", "sop_instance_uid", "tumour_segment_number"
    )
    joined = (
        eligible.join(numbers.select("patient_id", "case_id"), on="patient_id")
        .join(splits.select("patient_id", "split", "fold"), on="patient_id")
        .join(labels, on="patient_id")
        .join(
            patients.select(
                "patient_id",
                pl.col("principal_series_id").alias("image_series_id"),
                pl.col("principal_series_instance_uid").alias("image_series_instance_uid"),
                pl.col("seg_sop_instance_uid").alias("mask_sop_instance_uid"),
            ),
            on="patient_id",
        )
        .join(
            segments.unique(["patient_id", "sop_instance_uid"], keep="first", maintain_order=True),
            left_on=["patient_id", "mask_sop_instance_uid"],
            right_on=["patient_id", "sop_instance_uid"],
            how="left",
        )
        .join(
            series.select(pl.col("series_id").alias("image_series_id"), "decision", "reasons"),
            on="image_series_id",
            how="left",
            suffix="_of_series",
        )
        .sort("case_id")
    )
    manifest = joined.with_columns(
        _path(0).alias("image"),
        _path(1).alias("label"),
        pl.Series(
            "input_digest", [_input_digest(row) for row in joined.iter_rows(named=True)], dtype=pl.String
        ),
    ).select(CohortManifest.column_names())
    return Built(manifest, numbers)


def write(built: Built, layout: Layout) -> None:
    """Write case numbers, then the manifest: a killed run has given numbers that the next one finds."""
    if layout.case_numbers.exists():
        case_numbers.refuse_rewritten(tables.read_table(layout.case_numbers, CaseNumbers), built.numbers)
    tables.write_table(layout.case_numbers, built.numbers, CaseNumbers)
    tables.write_table(layout.cohort_manifest, built.manifest, CohortManifest)


def _path(which: int) -> pl.Expr:
    """Return the expression of a case's image (0) or mask (1), relative to the data root."""
    folder = pl.col("split").replace_strict({split: names[which] for split, names in FOLDERS.items()})
    return pl.format(f"{NIFTI_FOLDER}/{{}}/{{}}.nii.gz", folder, pl.col("case_id"))


def _input_digest(row: dict[str, object]) -> str:
    """Digest what decides which voxels the case has, as far as the cohort knows.

    Not where a file lies, nor that it came twice: a case is not made again for that.
    """
    names = (
        "image_series_id",
        "decision",
        "reasons_of_series",
        "mask_sop_instance_uid",
        "tumour_segment_number",
    )
    return files.digest_of([row[name] for name in names])


def _refuse_incomplete(
    eligible: pl.DataFrame, labels: pl.DataFrame, splits: pl.DataFrame, patients: pl.DataFrame
) -> None:
    needed = {
        "a stage": labels.filter(pl.col("stage").is_not_null()),
        "a place in the split ledger": splits,
        "a principal CT series": patients.filter(pl.col("principal_series_id").is_not_null()),
        "exactly one SEG": patients.filter(pl.col("seg_sop_instance_uid").is_not_null()),
    }
    for what, having in needed.items():
        if without := eligible.join(having, on="patient_id", how="anti").height:
            raise UsageError(
                f"{without} eligible patients are without {what}; the query of eligibility must ask for it"
            )
