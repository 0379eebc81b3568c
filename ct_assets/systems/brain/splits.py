"""Who tests and which fold validates whom: the platform's split ledger, over groups of slices.

Belongs here: from the feature table to groups (patients and studies, as far as headers know them) and back
to slices; the check that nothing crosses. The ledger itself is `cohort.splits`.
"""

from collections import Counter
from datetime import UTC, datetime

import polars as pl

from ct_assets import tables
from ct_assets.cohort import splits as ledgers
from ct_assets.cohort.splits_checks import leakage
from ct_assets.errors import SafetyError, UsageError
from ct_assets.files import digest_of
from ct_assets.settings.brain import GroupBy, RunOptions
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables.brain import BrainSplit

LEAST_FOLDS = 2
BOTH = "both"
"""Stratum of a patient with slices of both labels."""


def assign(
    features: pl.DataFrame, options: RunOptions, ledger: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the usable slices with `test` and `fold` (`BrainSplit`), and the ledger, extended by new groups.

    Groups are split, stratified by the labels of their slices: 0, 1 or both. Raises `UsageError` where the
    data cannot be split so.
    """
    usable = features.filter(pl.col("ok") == 1)
    groups = _groups(usable)
    _refuse_too_few(groups, options.k_folds, features.filter(pl.col("ok") == 0)["error"])
    settings = SplitSettings(
        folds=options.k_folds, test_share=options.test_size, salt=f"brain-{options.seed}", strata=("stage",)
    )
    extended = ledgers.extend(ledger, groups, settings, datetime.now(UTC))
    places = extended.select(
        pl.col("patient_id").alias("group_id"), (pl.col("split") == ledgers.TEST).alias("test"), "fold"
    )
    placed = usable.join(places, on="group_id", how="left", maintain_order="left")
    return placed.select(BrainSplit.column_names()), extended


def redealt(training: pl.DataFrame, folds: int, seed: int) -> pl.DataFrame:
    """Return training slices with other folds than the ledger's: a winner is judged on folds it was not chosen on."""
    settings = SplitSettings(folds=folds, test_share=0.0, salt=f"brain-fresh-{seed}", strata=("stage",))
    fresh = ledgers.extend(None, _groups(training), settings, datetime.now(UTC))
    dealt = fresh.select(pl.col("patient_id").alias("group_id"), "fold")
    return training.drop("fold").join(dealt, on="group_id", how="left", maintain_order="left")


def with_holdout(training: pl.DataFrame, share: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the final model trains on, and what only ends its training; no group is in both.

    Both hold both labels as long as there are two groups of each.
    """
    settings = SplitSettings(
        folds=LEAST_FOLDS, test_share=share, salt=f"brain-holdout-{seed}", strata=("stage",)
    )
    dealt = ledgers.extend(None, _groups(training), settings, datetime.now(UTC))
    held = set(dealt.filter(pl.col("split") == ledgers.TEST)["patient_id"])
    for label in ("0", "1"):
        groups = _with(dealt, label)["patient_id"].to_list()
        if len(groups) > 1 and not held & set(groups):
            held.add(min(groups, key=lambda group: digest_of([seed, group])))
    is_held = pl.col("group_id").is_in(sorted(held))
    return training.filter(~is_held), training.filter(is_held)


def check_leakage(placed: pl.DataFrame, group_by: GroupBy) -> pl.DataFrame:
    """Return what stands on two sides of a split (`LeakageFindings`); empty means: nothing."""
    parts = placed.select(
        pl.col("group_id").alias("patient_id"),
        pl.when("test").then(pl.lit(ledgers.TEST)).otherwise(pl.lit(ledgers.TRAIN)).alias("split"),
        "fold",
    ).unique()
    identities = placed.select(
        pl.col("group_id").alias("patient_id"), pl.col("pixel_sha256").alias("pixel_digest")
    )
    if group_by != "file":
        identities = identities.with_columns(placed["study_id"].alias("study_instance_uid"))
    return leakage(parts, identities)


def require_no_leakage(placed: pl.DataFrame, group_by: GroupBy) -> None:
    """Raise `SafetyError` where a patient, a study or equal pixels cross splits."""
    findings = check_leakage(placed, group_by)
    if findings.height:
        kinds = ", ".join(sorted(set(findings["kind"])))
        raise SafetyError(
            f"shared_between_splits: {findings.height} identities ({kinds}) stand on two sides of a split; "
            "nothing is trained"
        )


def training_part(placed: pl.DataFrame) -> pl.DataFrame:
    """Return the slices outside the test set."""
    return placed.filter(~pl.col("test"))


def test_part(placed: pl.DataFrame) -> pl.DataFrame:
    """Return the slices of the test set."""
    return placed.filter(pl.col("test"))


def empty_split() -> pl.DataFrame:
    """Return a table of no slices."""
    return tables.frame([], BrainSplit)


def _groups(usable: pl.DataFrame) -> pl.DataFrame:
    """Return a row a group, as the ledger takes patients: the label of its slices, or `both`, and their number."""
    label = pl.col("label")
    return (
        usable.group_by("group_id")
        .agg(
            pl.when(label.n_unique() > 1)
            .then(pl.lit(BOTH))
            .otherwise(label.max().cast(pl.String))
            .alias("stage"),
            pl.len().cast(pl.Int64).alias("scans"),
        )
        .rename({"group_id": "patient_id"})
        .sort("patient_id")
    )


def _with(groups: pl.DataFrame, label: str) -> pl.DataFrame:
    """Return the groups that hold a slice of a label."""
    return groups.filter(pl.col("stage").is_in([label, BOTH]))


def _refuse_too_few(groups: pl.DataFrame, folds: int, errors: pl.Series) -> None:
    told = ", ".join(f"{count} {code}" for code, count in sorted(Counter(errors).items()))
    unusable = f"; {errors.len()} slices cannot be used ({told})" if errors.len() else ""
    if groups.is_empty():
        raise UsageError(f"no_usable_slice: nothing can be split{unusable}")
    if groups.height < 2:
        raise UsageError(
            "single_study_only: all usable slices are of one patient or study, so nothing can be split; correct "
            f"the identifiers, or set group_by to study or file where they mean nothing{unusable}"
        )
    for label, name in (("1", "positive"), ("0", "negative")):
        count = _with(groups, label).height
        if count < folds + 1:
            raise UsageError(
                f"{count} patients or studies with a {name} slice are too few for {folds} folds and a test: at "
                f"least {folds + 1} are needed; lower --k-folds or add data{unusable}"
            )
