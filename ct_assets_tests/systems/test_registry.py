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
node = next(graph.get(key) for key in graph.get_all_asset_keys() if key.to_user_string() == "toy_model")
print(node.group_name, sorted(key.to_user_string() for key in node.parent_keys))
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
    assert printed.strip() == "toy ['fold_volumes']"


def test_a_withdrawal_names_its_trainings_by_their_patients(toy):
    assert affected_models.find(subject("P1"), toy) == {("toy", "e/0", affected_models.LEARNED)}
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
