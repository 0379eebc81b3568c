"""Checks of the ledger: a leak or a rewritten row is found; a sound ledger raises nothing."""

import polars as pl

from ct_assets.cohort import splits, splits_checks
from ct_assets_tests.cohort.test_splits import made, people


def in_part(ledger: pl.DataFrame, split: str, fold: int | None = None) -> str:
    rows = ledger.filter(pl.col("split") == split)
    if fold is not None:
        rows = rows.filter(pl.col("fold") == fold)
    return rows["patient_id"][0]


def identities(ledger: pl.DataFrame, **shared: tuple[str, str]) -> pl.DataFrame:
    """Return an identity of its own for everyone, but one that the two named patients share."""
    rows = pl.DataFrame({"patient_id": ledger["patient_id"]})
    for kind, pair in shared.items():
        own = [("same" if one in pair else f"{kind}-{one}") for one in rows["patient_id"]]
        rows = rows.with_columns(pl.Series(kind, own))
    return rows


class TestLeakage:
    def test_identities_of_ones_own_are_no_leak(self):
        ledger = made(people(40))
        assert splits_checks.leakage(ledger, identities(ledger, pixel_digest=("-", "-"))).is_empty()

    def test_a_study_in_training_and_test_is_found(self):
        ledger = made(people(40))
        pair = (in_part(ledger, "test"), in_part(ledger, "train", 0))
        found = splits_checks.leakage(ledger, identities(ledger, study_instance_uid=pair))
        assert found["kind"].to_list() == ["study_instance_uid"]
        assert found["parts"].to_list() == [["fold 0", "test"]]
        assert sorted(found["patient_ids"][0]) == sorted(pair)

    def test_a_picture_in_two_folds_is_found(self):
        ledger = made(people(40))
        pair = (in_part(ledger, "train", 1), in_part(ledger, "train", 2))
        found = splits_checks.leakage(ledger, identities(ledger, pixel_digest=pair))
        assert found["parts"].to_list() == [["fold 1", "fold 2"]]

    def test_a_frame_of_reference_within_one_fold_is_no_leak(self):
        ledger = made(people(40))
        pair = ledger.filter(pl.col("fold") == 0)["patient_id"][:2]
        found = splits_checks.leakage(ledger, identities(ledger, frame_of_reference_uid=tuple(pair)))
        assert found.is_empty()

    def test_columns_that_are_no_identity_are_not_looked_at(self):
        ledger = made(people(40))
        rows = identities(ledger).with_columns(manufacturer=pl.lit("one for all"))
        assert splits_checks.leakage(ledger, rows).is_empty()

    def test_a_patient_with_two_rows_is_found(self):
        ledger = made(people(40))
        twice = pl.concat(
            [ledger, ledger[:1].with_columns(split=pl.lit("test"), fold=pl.lit(None, pl.Int64))]
        )
        if ledger["split"][0] == "test":
            twice = pl.concat(
                [ledger, ledger[:1].with_columns(split=pl.lit("train"), fold=pl.lit(0, pl.Int64))]
            )
        assert splits_checks.leakage(twice, identities(ledger))["kind"].to_list() == ["patient_id"]


class TestRewriting:
    def test_a_grown_ledger_was_not_rewritten(self):
        ledger = made(people(30))
        grown = splits.extend(ledger, people(40), _settings(), ledger["added_at"][0])
        assert splits_checks.rewriting(grown, ledger) == []

    def test_an_edited_fold_breaks_the_chain(self):
        ledger = made(people(30))
        edited = ledger.with_columns(
            fold=pl.when(pl.col("fold") == 0).then(pl.lit(1, pl.Int64)).otherwise("fold")
        )
        assert splits_checks.rewriting(edited)[0].code == "ledger_chain_broken"
        assert splits_checks.broken_rows(ledger) == []

    def test_a_ledger_made_anew_differs_from_its_older_copy(self):
        old, new = made(people(30)), made(people(30), salt="other")
        assert {one.code for one in splits_checks.rewriting(new, old)} == {"ledger_rewritten"}

    def test_a_missing_row_is_found(self):
        ledger = made(people(30))
        assert splits_checks.rewriting(splits.chained(ledger[:-1]), ledger)[-1].subject == "row 29"

    def test_a_tombstone_in_its_place_is_allowed(self):
        ledger = made(people(30))
        after = splits.withdraw(ledger, ledger["patient_id"][3], "tomb")
        assert splits_checks.rewriting(after, ledger) == []


class TestWarnings:
    def test_a_large_cohort_warns_of_nothing(self):
        assert splits_checks.warnings(made(people(200)), people(200)) == []

    def test_too_few_patients_are_told_what_is_possible(self):
        found = splits_checks.warnings(made(people(4)))
        assert found[0].code == "few_patients_for_folds"
        assert "folds: 3" in found[0].sentence

    def test_a_class_that_a_training_part_lacks_is_named(self):
        patients = pl.DataFrame(
            {"patient_id": [f"p{n}" for n in range(12)], "stage": ["I"] * 11 + ["II"], "site": ["A"] * 12}
        )
        found = [
            one for one in splits_checks.warnings(made(patients)) if one.code == "class_missing_in_training"
        ]
        assert len(found) == 1
        assert "II" in found[0].sentence

    def test_a_corrected_label_is_reported(self):
        ledger = made(people(60))
        patient, stage = ledger["patient_id"][0], ledger["stage"][0]
        other = next(one for one in ("I", "II") if one != stage)
        now = people(60).with_columns(
            stage=pl.when(pl.col("patient_id") == patient).then(pl.lit(other)).otherwise("stage")
        )
        found = splits_checks.warnings(ledger, now)
        assert [(one.code, one.subject) for one in found] == [("label_corrected", patient)]


def _settings():
    from ct_assets.settings.folds import SplitSettings

    return SplitSettings()
