"""The split ledger: append-only, balanced, frozen, and honest about what it cannot do."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets import tables
from ct_assets.cohort import splits
from ct_assets.errors import UsageError
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables.cohort import SplitLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def people(count: int, seed: int = 0, start: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "patient_id": [f"P{seed}-{number:05d}" for number in range(count)],
            "stage": random.choice(["I", "II", "IIIa", "IIIb"], count, p=[0.3, 0.2, 0.3, 0.2]).tolist(),
            "site": random.choice(["A", "B", "C"], count, p=[0.5, 0.3, 0.2]).tolist(),
            "scans": random.integers(1, 4, count),
        }
    )[start:]


def made(patients: pl.DataFrame, **chosen: object) -> pl.DataFrame:
    return splits.extend(None, patients, SplitSettings.model_validate(chosen), NOW)


def largest_deviation(ledger: pl.DataFrame, column: str) -> float:
    """Largest difference between a class's share in a fold and in all folds, in percentage points."""
    train = ledger.filter(pl.col("split") == "train")
    worst = 0.0
    for value in train[column].unique():
        whole = (train[column] == value).mean()
        for fold in train["fold"].unique():
            part = train.filter(pl.col("fold") == fold)
            worst = max(worst, abs((part[column] == value).mean() - whole))
    return 100 * worst


class TestGrowth:
    def test_nobody_moves_when_a_cohort_grows_in_ten_steps(self):
        everyone = people(200)
        ledger = None
        for step in range(1, 11):
            grown = splits.extend(ledger, everyone[: 20 * step], SplitSettings(), NOW)
            if ledger is not None:
                assert grown[: ledger.height].equals(ledger)
            ledger = grown
        assert ledger is not None
        assert ledger.height == 200
        assert ledger["patient_id"].n_unique() == 200

    def test_a_cohort_that_came_in_parts_is_still_balanced(self):
        everyone = people(500)
        ledger = None
        for step in range(1, 11):
            ledger = splits.extend(ledger, everyone[: 50 * step], SplitSettings(), NOW)
        assert ledger is not None
        assert largest_deviation(ledger, "stage") <= 2.0
        assert largest_deviation(ledger, "site") <= 2.0

    def test_the_same_patients_again_add_nothing(self):
        ledger = made(people(30))
        assert splits.extend(ledger, people(30), SplitSettings(), NOW).equals(ledger)

    def test_a_corrected_label_moves_nobody(self):
        ledger = made(people(30))
        corrected = people(30).with_columns(stage=pl.lit("II"))
        assert splits.extend(ledger, corrected, SplitSettings(), NOW).equals(ledger)

    def test_the_test_share_is_kept_as_the_cohort_grows(self):
        everyone = people(300)
        ledger = made(everyone[:40])
        assert (ledger["split"] == "test").sum() == 6
        ledger = splits.extend(ledger, everyone, SplitSettings(), NOW)
        assert (ledger["split"] == "test").sum() == 45


class TestOrder:
    @settings(deadline=None, max_examples=30)
    @given(st.permutations(range(25)))
    def test_the_order_of_the_rows_changes_nothing(self, order):
        assert made(people(25)[list(order)]).equals(made(people(25)))

    def test_another_salt_draws_another_test_set(self):
        one, other = made(people(100)), made(people(100), salt="another")
        tested = [set(ledger.filter(pl.col("split") == "test")["patient_id"]) for ledger in (one, other)]
        assert tested[0] != tested[1]


class TestBalance:
    @pytest.mark.parametrize("seed", range(3))
    def test_at_500_patients_stage_and_site_are_within_one_and_a_half_points(self, seed):
        ledger = made(people(500, seed))
        assert largest_deviation(ledger, "stage") <= 1.5
        assert largest_deviation(ledger, "site") <= 1.5

    @pytest.mark.parametrize("seed", range(3))
    def test_at_500_patients_scans_a_fold_are_within_8_percent(self, seed):
        train = made(people(500, seed)).filter(pl.col("split") == "train")
        scans = train.group_by("fold").agg(pl.col("scans").sum())["scans"]
        assert (scans.max() - scans.min()) / scans.mean() <= 0.08

    def test_the_test_set_has_each_stage_in_its_share(self):
        ledger = made(people(500))
        tested = ledger.filter(pl.col("split") == "test")
        for stage in ("I", "II", "IIIa", "IIIb"):
            whole = (ledger["stage"] == stage).mean()
            assert (tested["stage"] == stage).mean() == pytest.approx(whole, abs=0.03)


class TestSmallCohorts:
    def test_twelve_patients_have_a_test_set_and_five_folds(self):
        ledger = made(people(12))
        assert (ledger["split"] == "test").sum() == 2
        assert set(ledger["fold"].drop_nulls()) == {0, 1, 2, 3, 4}

    def test_the_last_patient_of_a_stage_is_not_taken_for_the_test(self):
        patients = pl.DataFrame(
            {"patient_id": [f"p{n}" for n in range(12)], "stage": ["I"] * 11 + ["II"], "site": ["A"] * 12}
        )
        for salt in "abcdefgh":
            ledger = made(patients, salt=salt)
            assert ledger.filter(pl.col("patient_id") == "p11")["split"].item() == "train"

    def test_three_patients_are_one_tested_and_two_folds(self):
        ledger = made(people(3))
        assert sorted(ledger["split"]) == ["test", "train", "train"]
        assert sorted(ledger["fold"].drop_nulls()) == [0, 1]

    def test_two_patients_have_no_test_set(self):
        assert set(made(people(2))["split"]) == {"train"}

    def test_unknown_stage_and_site_are_no_obstacle(self):
        ledger = made(pl.DataFrame({"patient_id": [f"p{n}" for n in range(20)]}))
        sizes = ledger.filter(pl.col("split") == "train")["fold"].value_counts()["count"]
        assert sizes.max() - sizes.min() <= 1


class TestFrozenSettings:
    @pytest.mark.parametrize(
        ("changed", "named"),
        [({"folds": 4}, "folds"), ({"test_share": 0.3}, "test_share"), ({"salt": "x"}, "salt")],
    )
    def test_a_changed_setting_is_refused_with_the_way_out(self, changed, named):
        ledger = made(people(30))
        with pytest.raises(UsageError, match=f"{named}.*new ledger"):
            splits.extend(ledger, people(40), SplitSettings.model_validate(changed), NOW)

    def test_every_row_says_when_why_and_under_which_settings(self):
        ledger = made(people(30))
        assert set(ledger["added_at"]) == {NOW}
        assert ledger["settings_digest"].n_unique() == 1
        assert not ledger["why"].is_in([""]).any()


class TestWithdrawal:
    def test_a_withdrawn_patient_stays_as_a_tombstone_without_pseudonym(self):
        ledger = made(people(30))
        patient = ledger["patient_id"][4]
        after = splits.withdraw(ledger, patient, "tomb-1")
        row = after.row(4, named=True)
        assert patient not in after["patient_id"]
        assert (row["patient_id"], row["stage"], row["site"]) == ("tomb-1", None, None)
        assert (row["split"], row["fold"]) == (ledger["split"][4], ledger["fold"][4])

    def test_nobody_else_moves_after_a_withdrawal(self):
        ledger = made(people(30))
        after = splits.withdraw(ledger, ledger["patient_id"][4], "tomb-1")
        grown = splits.extend(after, people(60), SplitSettings(), NOW, tombstone=lambda one: f"t-{one}")
        placed = ("patient_id", "split", "fold")
        assert grown[: after.height].select(placed).equals(after.select(placed))

    def test_a_withdrawn_patient_who_comes_again_is_left_out(self):
        ledger = made(people(30))
        patient = ledger["patient_id"][4]
        after = splits.withdraw(ledger, patient, f"t-{patient}")
        again = splits.extend(after, people(30), SplitSettings(), NOW, tombstone=lambda one: f"t-{one}")
        assert again.equals(after)


class TestSites:
    def test_leave_one_site_out_makes_a_fold_of_each_site(self):
        ledger = made(people(60), scheme="leave_one_site_out", folds=3)
        train = ledger.filter(pl.col("split") == "train")
        assert train.group_by("site").agg(pl.col("fold").n_unique())["fold"].to_list() == [1, 1, 1]

    def test_the_number_of_folds_must_be_that_of_sites(self):
        with pytest.raises(UsageError, match="folds: 3"):
            made(people(60), scheme="leave_one_site_out", folds=5)

    def test_a_site_that_comes_later_trains_everywhere_and_validates_nowhere(self):
        chosen = SplitSettings(scheme="leave_one_site_out", folds=3, test_share=0)
        ledger = splits.extend(None, people(60), chosen, NOW)
        late = pl.DataFrame({"patient_id": ["new"], "stage": ["I"], "site": ["Z"]})
        row = splits.extend(ledger, late, chosen, NOW).row(-1, named=True)
        assert (row["split"], row["fold"]) == ("train", None)


def test_the_ledger_fits_its_declared_table(tmp_path):
    tables.write_table(tmp_path / "splits.parquet", made(people(30)), SplitLedger)
    assert tables.read_table(tmp_path / "splits.parquet", SplitLedger).equals(made(people(30)))
