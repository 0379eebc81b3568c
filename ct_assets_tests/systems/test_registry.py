"""A system that registers itself is known to graph, withdrawal, backup, storage needs and status: no file is edited."""

import subprocess
import sys
from types import SimpleNamespace

import polars as pl
import pytest

from ct_assets import files, registry
from ct_assets.layout import Layout
from ct_assets.lifecycle import affected_models, originals, schema
from ct_assets.reports.status import collect
from ct_assets.settings import load_settings
from ct_assets.storage import needs
from ct_assets.storage.tree import patterns
from ct_assets_tests.systems.toy import TOY

GRAPH_WITH_IT = """
from ct_assets import registry
from ct_assets_tests.systems.toy import TOY
registry.register(TOY)
from ct_assets.defs.engine.build import build_definitions
graph = build_definitions().resolve_asset_graph()
for key in sorted(graph.get_all_asset_keys()):
    node = graph.get(key)
    if node.group_name == "toy":
        print(key.to_user_string(), "<-", *sorted(parent.to_user_string() for parent in node.parent_keys))
"""
OF_THE_TOY = """
toy_cohort <-
toy_cv_report <- toy_cohort toy_predictions
toy_final_model <- toy_cohort toy_cv_report toy_model
toy_model <- toy_cohort
toy_predictions <- toy_cohort toy_model
toy_test_report <- toy_cohort toy_final_model
"""
TRAINED_BY_A_COMMAND = """
import json, sys
from pathlib import Path
from ct_assets import registry
from ct_assets_tests.systems.toy import TOY
registry.register(TOY)
from ct_assets.defs.engine.launch import train_system
from ct_assets.settings import load_settings
settings = load_settings(environ={"CT_ASSETS_DATA": sys.argv[1]})
for _ in range(2):
    print(json.dumps(sorted(map(str, train_system(settings, "toy", to_the_test=True).made))))
for path in Path(sys.argv[1], "toy/models/toys/2").glob("best.safetensors"):
    path.unlink()
print(json.dumps(sorted(map(str, train_system(settings, "toy", to_the_test=True).made))))
"""


@pytest.fixture
def toy(tmp_path):
    """A data root with one training of the toy system, and the system registered."""
    layout = Layout(tmp_path)
    training = tmp_path / "toy/models/e/0"
    files.write_bytes(training / "best.safetensors", b"weights")
    files.write_json(training / "patients.json", {"train": ["P1"], "validation": ["P2"]})
    with registry.registered(TOY):
        yield layout


def subject(pseudonym):
    return SimpleNamespace(pseudonyms={pseudonym})


def test_its_assets_are_in_the_graph():
    printed = subprocess.check_output([sys.executable, "-c", GRAPH_WITH_IT], text=True)
    assert printed.strip() == OF_THE_TOY.strip()


@pytest.mark.slow
def test_a_command_trains_it_to_the_test_report_once_and_again_what_is_gone(tmp_path):
    import json

    printed = subprocess.check_output([sys.executable, "-c", TRAINED_BY_A_COMMAND, str(tmp_path)], text=True)
    first, second, third = (json.loads(line) for line in printed.splitlines() if line.startswith("["))
    folds = [str((f"toy_{part}", f"toys|{fold}")) for part in ("model", "predictions") for fold in "012"]
    rest = [str((f"toy_{part}", "toys")) for part in ("cv_report", "final_model", "test_report")]
    assert first == sorted([str(("toy_cohort", None)), *folds, *rest])
    assert second == []
    assert str(("toy_model", "toys|2")) in third
    assert str(("toy_model", "toys|1")) not in third
    assert (tmp_path / "reports/toy/tests/toys/index.html").exists()


def test_a_withdrawal_names_its_trainings_by_their_patients(toy):
    assert affected_models.find(subject("P1"), toy) == {("toy", "e/0", affected_models.LEARNED)}
    assert affected_models.find(subject("P2"), toy) == set()


def test_a_bundle_learned_from_whoever_its_members_learned_from(toy):
    files.write_bytes(toy.root / "toy/models/e/final/fold-0.safetensors", b"weights")
    files.write_json(toy.root / "toy/models/e/final/bundle.json", {"digest": "d"})
    learned = {("toy", "e/0", affected_models.LEARNED), ("toy", "e/final", affected_models.LEARNED)}
    assert affected_models.find(subject("P1"), toy) == learned
    assert affected_models.find(subject("P2"), toy) == set()


def test_its_ledger_gets_tombstones_and_is_held_to_its_form(toy):
    assert toy.root / "toy/splits.parquet" in affected_models.ledgers(toy)
    pl.DataFrame({"patient_id": ["P1"]}).write_parquet(toy.root / "toy/splits.parquet")
    assert [line for line in schema.outdated(toy) if line.startswith("splits.parquet lacks")]


def test_its_folder_holds_products_and_no_originals(toy):
    assert toy.root / "toy" in originals.product_folders(toy)


def test_a_machine_that_trains_it_fetches_what_it_needs(toy):
    wanted = patterns(needs.of_group("toy", None))
    assert wanted.match("toy/models/e/0/best.safetensors")
    assert not wanted.match("raw/dicom_input/b1/x")
    assert not wanted.match("brain/features.parquet")


def test_status_shows_it(toy):
    shown = collect(load_settings(environ={"CT_ASSETS_DATA": str(toy.root)})).experiments
    assert [(row["experiment"], row["trained folds"]) for row in shown] == [("toy", "1 trainings")]


def test_a_backup_holds_it(toy):
    from ct_assets.lifecycle import backup

    assert "toy/models/e/0/best.safetensors" in set(backup._kept(toy.root, None))


def test_two_systems_of_one_name_are_refused(toy):
    with pytest.raises(ValueError, match="the system toy is registered already"):
        registry.register(TOY)


class TestBrain:
    """Folders as the brain system lays them out: default folds, fresh folds of a baseline, a final training."""

    @pytest.fixture
    def brain(self, tmp_path):
        models = tmp_path / "brain/models"
        names = [f"{configuration}/{fold}" for configuration in ("default", "baseline") for fold in "012"]
        for name in [*names, *(f"baseline/fresh/{fold}" for fold in "012"), "final"]:
            for phase in ("", "head", "finetune"):
                files.write_bytes(models / name / phase / "best.safetensors", b"weights")
        (tmp_path / "brain/final").mkdir()
        pl.DataFrame({"patient_id": ["P1"], "split": ["train"], "fold": [0]}).write_parquet(
            tmp_path / "brain/splits.parquet"
        )
        return Layout(tmp_path)

    def test_without_lists_each_training_is_named_once_and_no_phase_is_one(self, brain):
        learned = {f"{configuration}/{fold}" for configuration in ("default", "baseline") for fold in "12"}
        found = affected_models.find(subject("P1"), brain)
        assert {name for _, name, how in found if how == affected_models.LEARNED} == learned | {"final"}
        fresh = {f"baseline/fresh/{fold}" for fold in "012"}
        assert {name for _, name, how in found if how == affected_models.MAY_HAVE} == fresh

    def test_with_lists_fresh_folds_are_told_exactly(self, brain):
        for fold in "012":
            folder = brain.root / "brain/models/baseline/fresh" / fold
            files.write_json(folder / "patients.json", {"train": ["P1"] if fold != "1" else []})
        found = {name for _, name, _ in affected_models.find(subject("P1"), brain)}
        assert {"baseline/fresh/0", "baseline/fresh/2"} <= found
        assert "baseline/fresh/1" not in found
