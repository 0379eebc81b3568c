"""Patients never cross splits, labels are balanced, nobody moves."""

import polars as pl
import pytest

from ct_assets import tables
from ct_assets.errors import SafetyError, UsageError
from ct_assets.settings.brain import RunOptions
from ct_assets.systems.brain import splits
from ct_assets.tables.brain import BrainFeatures


def features_of(patients, *, slices=1, positive_every=3, bad=()):
    rows = []
    for number in range(patients):
        for k in range(slices):
            name = f"ID_{number:04d}{k}"
            rows.append(
                {
                    **dict.fromkeys(tables.dtypes(BrainFeatures)), "id": name, "path": f"{name}.dcm",
                    "label": int(number % positive_every == 0), "ok": int(name not in bad),
                    "error": "no_dicom_file" if name in bad else None, "warnings": [],
                    "group_id": f"g{number:04d}", "study_id": f"s{number:04d}", "pixel_sha256": name,
                }
            )  # fmt: skip
    return tables.frame(rows, BrainFeatures)


OPTIONS = RunOptions(k_folds=3, test_size=0.2)


class TestPlaces:
    def test_the_share_and_the_balance_are_those_asked_for(self):
        placed, _ = splits.assign(features_of(150), OPTIONS)
        test = splits.test_part(placed)
        assert test.height == 30
        assert test["label"].mean() == pytest.approx(1 / 3, abs=0.02)
        for fold in range(3):
            part = placed.filter(pl.col("fold") == fold)
            assert part.height == pytest.approx(40, abs=1)
            assert part["label"].mean() == pytest.approx(1 / 3, abs=0.03)

    def test_a_patients_slices_stay_together(self):
        placed, _ = splits.assign(features_of(60, slices=3), OPTIONS)
        parts = placed.group_by("group_id").agg(pl.struct("test", "fold").n_unique().alias("parts"))
        assert parts["parts"].max() == 1

    def test_unusable_slices_have_no_place(self):
        placed, _ = splits.assign(features_of(60, bad=("ID_00030",)), OPTIONS)
        assert "ID_00030" not in placed["id"]
        assert placed.height == 59

    def test_every_training_slice_is_validated_once_and_no_test_slice(self):
        placed, _ = splits.assign(features_of(60), OPTIONS)
        assert splits.training_part(placed)["fold"].null_count() == 0
        assert splits.test_part(placed)["fold"].null_count() == splits.test_part(placed).height

    def test_the_same_seed_gives_the_same_places_and_another_gives_others(self):
        table = features_of(90)
        one = splits.assign(table, OPTIONS)[0]
        assert one.equals(splits.assign(table, OPTIONS)[0])
        other = splits.assign(table, OPTIONS.model_copy(update={"seed": 7}))[0]
        assert set(splits.test_part(one)["id"]) != set(splits.test_part(other)["id"])

    def test_nobody_moves_when_patients_come(self):
        before, ledger = splits.assign(features_of(60), OPTIONS)
        after, _ = splits.assign(features_of(80), OPTIONS, ledger)
        kept = after.filter(pl.col("id").is_in(before["id"].to_list())).sort("id")
        assert kept.select("id", "test", "fold").equals(before.sort("id").select("id", "test", "fold"))


class TestLeakage:
    def test_a_sound_split_has_none(self):
        placed, _ = splits.assign(features_of(60, slices=2), OPTIONS)
        assert splits.check_leakage(placed, "patient").is_empty()

    @pytest.mark.parametrize("column", ["group_id", "study_id", "pixel_sha256"])
    def test_a_patient_study_or_picture_on_both_sides_fails_the_run(self, column):
        placed, _ = splits.assign(features_of(60), OPTIONS)
        first_test = splits.test_part(placed)[column][0]
        first_train = splits.training_part(placed)["id"][0]
        broken = placed.with_columns(
            pl.when(pl.col("id") == first_train).then(pl.lit(first_test)).otherwise(column).alias(column)
        )
        with pytest.raises(SafetyError, match="shared_between_splits"):
            splits.require_no_leakage(broken, "patient")

    def test_two_folds_count_as_two_sides(self):
        placed, _ = splits.assign(features_of(60, slices=2), OPTIONS)
        training = splits.training_part(placed)
        name, fold = training.select("id", "fold").row(0)
        moved = placed.with_columns(
            pl.when(pl.col("id") == name).then(pl.lit((fold + 1) % 3)).otherwise("fold").alias("fold")
        )
        assert not splits.check_leakage(moved, "patient").is_empty()


class TestPatientsWithSlicesOfBothLabels:
    """Heads of patients who all have a lesion somewhere: no patient is negative, half of the slices are."""

    def mixed(self, patients=60, *, pure=0):
        table = features_of(patients, slices=4)
        here = pl.col("id").str.slice(-1).cast(pl.Int64) >= 2
        number = pl.col("id").str.slice(3, 4).cast(pl.Int64)
        label = pl.when(number < pure).then(number % 2).otherwise(here.cast(pl.Int64))
        return table.with_columns(label.cast(pl.Int64).alias("label"))

    def test_they_are_split_and_every_part_holds_both_labels(self):
        placed, ledger = splits.assign(self.mixed(), OPTIONS)
        assert set(ledger["stage"]) == {"both"}
        for part in (splits.test_part(placed), *(placed.filter(pl.col("fold") == fold) for fold in range(3))):
            assert part["label"].mean() == 0.5
        assert splits.check_leakage(placed, "patient").is_empty()

    def test_they_are_spread_over_folds_beside_patients_of_one_label(self):
        placed, _ = splits.assign(self.mixed(pure=30), OPTIONS)
        for fold in range(3):
            part = placed.filter(pl.col("fold") == fold).group_by("group_id").agg(pl.col("label").n_unique())
            assert (part["label"] == 2).sum() == pytest.approx(8, abs=1)

    def test_a_holdout_of_one_patient_is_enough_for_both_labels(self):
        training = splits.training_part(splits.assign(self.mixed(), OPTIONS)[0])
        rest, held = splits.with_holdout(training, 0.02, seed=42)
        assert held["label"].n_unique() == rest["label"].n_unique() == 2
        assert held["group_id"].n_unique() == 1


class TestRefusals:
    def test_one_patient_cannot_be_split(self):
        one = features_of(30).with_columns(pl.lit("g").alias("group_id"))
        with pytest.raises(UsageError, match=r"single_study_only.*group_by"):
            splits.assign(one, OPTIONS)

    def test_fewer_positive_patients_than_folds(self):
        with pytest.raises(
            UsageError, match="2 patients or studies with a positive slice are too few for 3 folds"
        ):
            splits.assign(features_of(20, positive_every=10), OPTIONS)

    def test_slices_that_cannot_be_used_are_counted_by_reason(self):
        table = features_of(20)
        bad = pl.lit("slice_values_not_hu").alias("error"), pl.lit(0, dtype=pl.Int64).alias("ok")
        with pytest.raises(
            UsageError, match=r"no_usable_slice: .*20 slices cannot be used \(20 slice_values"
        ):
            splits.assign(table.with_columns(*bad), OPTIONS)
        with pytest.raises(UsageError, match=r"too few .*; 2 slices cannot be used \(2 no_dicom_file\)"):
            splits.assign(features_of(20, positive_every=10, bad=("ID_00010", "ID_00020")), OPTIONS)


class TestHoldoutAndFreshFolds:
    def test_the_holdout_shares_no_patient_and_holds_its_share(self):
        training = splits.training_part(splits.assign(features_of(120, slices=2), OPTIONS)[0])
        rest, held = splits.with_holdout(training, 0.1, seed=42)
        assert not set(rest["group_id"]) & set(held["group_id"])
        assert held.height + rest.height == training.height
        assert held.height == pytest.approx(0.1 * training.height, abs=2)
        assert held["label"].n_unique() == 2

    @pytest.mark.parametrize("share", [0.01, 0.05])
    def test_a_small_holdout_still_holds_both_labels(self, share):
        training = splits.training_part(splits.assign(features_of(40, positive_every=6), OPTIONS)[0])
        rest, held = splits.with_holdout(training, share, seed=42)
        assert held["label"].n_unique() == rest["label"].n_unique() == 2
        assert not set(rest["group_id"]) & set(held["group_id"])

    def test_fresh_folds_differ_and_hold_the_same_slices(self):
        training = splits.training_part(splits.assign(features_of(120), OPTIONS)[0])
        fresh = splits.redealt(training, 3, seed=42)
        assert set(fresh["id"]) == set(training["id"])
        assert fresh["fold"].to_list() != training["fold"].to_list()
        assert sorted(fresh["fold"].unique()) == [0, 1, 2]
