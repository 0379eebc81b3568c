"""Smaller sets: training patients only, stratified, seeded, within budget, laid out like the full set."""

import polars as pl
import pytest

from ct_assets import tables
from ct_assets.errors import UsageError
from ct_assets.imaging.store import Store
from ct_assets.learning.volumes import derived
from ct_assets.learning.volumes.dataset import load_case
from ct_assets.learning.volumes.plan import Plan
from ct_assets.settings.folds import DerivedSettings
from ct_assets.tables.folds import FoldVolumes
from ct_assets_tests.learning.volumes import STAGES, cohort


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("derived")
    return folder, cohort(folder, patients=14, folds=3, tested=2)


def build(world, name="home", **settings):
    folder, manifest = world
    chosen = DerivedSettings(
        **{"patients": 8, "spacing": (3.0, 3.0, 3.0), "patch_size": (32, 32, 32)} | settings
    )
    out = folder / "derived" / name
    return derived.build(name, chosen, manifest, folder, out, folder / "store", 1), out


def test_only_training_patients_are_drawn(world):
    _, out = build(world)
    drawn = pl.read_parquet(out / "manifest.parquet")
    assert drawn.height == 8
    assert set(drawn["split"]) == {"train"}


def test_each_stage_has_its_share(world):
    summary, _ = build(world)
    assert set(summary.stages["set"]) == set(STAGES)
    for stage, share in summary.stages["whole"].items():
        assert summary.stages["set"][stage] == pytest.approx(share, abs=0.13)


def test_the_same_seed_draws_the_same_and_a_larger_set_holds_the_smaller(world):
    training = world[1].filter(pl.col("split") == "train")
    order = derived.draw_order(training, 3)
    assert order == derived.draw_order(training[::-1], 3)
    assert order != derived.draw_order(training, 4)
    assert sorted(order) == sorted(training["patient_id"])


def test_patients_keep_their_folds(world):
    _, out = build(world)
    manifest = world[1]
    fold_of = dict(zip(manifest["case_id"], manifest["fold"], strict=True))
    for fold in ("0", "1", "2"):
        volumes = tables.read_table(out / "folds" / fold / "volumes.parquet", FoldVolumes)
        validated = volumes.filter(pl.col("role") == "validation")["case_id"]
        assert all(str(fold_of[case]) == fold for case in validated)


def test_it_stands_in_for_the_full_set_by_one_word(world):
    folder, _ = world
    build(world)
    place = derived.source(folder, "0", "home")
    full = derived.source(folder, "0")
    assert full.plan == folder / "folds/0/plan.json"
    plan = Plan.load(place.plan)
    volumes = tables.read_table(place.volumes, FoldVolumes)
    item = load_case(volumes.row(0, named=True), plan, place.store, STAGES)
    assert item["image"].ndim == 4


def test_the_budget_of_megabytes_is_kept_and_the_size_told(world):
    whole, out = build(world, "large")
    budget = whole.megabytes * 0.6
    small, out = build(world, "small", max_mb=budget)
    store = Store(out / "store")
    assert store.size_of(store.all_keys()) <= budget * 1e6
    assert small.megabytes <= budget
    assert 2 <= small.patients < whole.patients


def test_a_budget_for_nobody_is_refused(world):
    with pytest.raises(UsageError, match="two patients take"):
        build(world, "none", max_mb=0.001)


def test_drift_from_the_whole_is_told(world):
    summary, _ = build(world)
    assert {"note", "alarms", "findings"} == set(summary.drift)


def test_the_same_settings_give_the_same_digest(world):
    assert build(world, "one")[0].digest != build(world, "two")[0].digest  # the name is part of it
    assert build(world, "one")[0].digest == build(world, "one")[0].digest
