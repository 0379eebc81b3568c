"""What runs by itself, and what a failed safety check holds back, on this tick and on later ones."""

import dagster as dg
import pytest

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.partitions import BATCH


class World:
    """The real graph over an empty instance; materializations are reported instead of run."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance, self.cursor = definitions, instance, None

    def made(self, name: str, version: str, partition: str | None = None) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(name, partition=partition, tags={"dagster/data_version": version})
        )

    def checked(self, name: str, check: str, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(name), check_name=check, passed=passed, blocking=True
            )
        )

    def passed_all_checks(self, name: str) -> None:
        for node in self.definitions.resolve_asset_graph().asset_check_nodes:
            if node.key.asset_key == dg.AssetKey(name):
                self.checked(name, node.key.name, passed=True)

    def tick(self) -> dict[str, set[str | None]]:
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        requested = {name: result.get_requested_partitions(dg.AssetKey(name)) for name in GRAPH}
        return {name: keys for name, keys in requested.items() if keys}


@pytest.fixture
def world(definitions):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(BATCH, ["b1", "b2"])
        made = World(definitions, instance)
        made.tick()
        yield made


def made_as_far_as_splits(world: World) -> None:
    for name in ("dicom_batch", "deid_dicom", "deid_audit", "uid_map", "metadata_audit"):
        world.made(name, "v1", "b1")
        world.passed_all_checks(name)
    for name in ("ct_prepro_audit", "labels", "eligibility", "splits"):
        world.made(name, "v1")
        world.passed_all_checks(name)


def test_an_empty_platform_runs_nothing(world):
    assert world.tick() == {}


def test_a_de_identified_batch_is_audited_and_its_labels_read(world):
    for name in ("dicom_batch", "deid_dicom", "deid_audit", "uid_map"):
        world.made(name, "v1", "b1")
        world.passed_all_checks(name)
    requested = world.tick()
    assert requested["metadata_audit"] == {"b1"}
    assert requested["labels"] == {None}


def test_one_missing_batch_does_not_hold_up_the_cohort(world):
    """b2 is registered as a partition and was never made: rejected, say."""
    made_as_far_as_splits(world)
    assert "cohort_manifest" in world.tick()


def test_the_same_content_again_wakes_nothing(world):
    made_as_far_as_splits(world)
    world.tick()
    world.made("metadata_audit", "v1", "b1")
    assert "ct_prepro_audit" not in world.tick()


def test_changed_content_is_handled_once(world):
    made_as_far_as_splits(world)
    world.tick()
    world.made("metadata_audit", "v2", "b1")
    assert "ct_prepro_audit" in world.tick()
    assert "ct_prepro_audit" not in world.tick(), "a failure is not retried at every tick"


@pytest.mark.parametrize("check", ["no_patient_in_two_splits", "ledger_was_not_rewritten"])
def test_a_failed_safety_check_holds_back_what_stands_behind_it_on_every_tick(world, check):
    made_as_far_as_splits(world)
    world.checked("splits", check, passed=False)
    assert [name for _ in range(3) for name in world.tick() if name == "cohort_manifest"] == []
    world.made("splits", "v2")
    world.passed_all_checks("splits")
    assert "cohort_manifest" in world.tick()


def test_a_warning_holds_back_nothing(world):
    made_as_far_as_splits(world)
    world.checked("splits", "splits_are_workable", passed=False)
    assert "cohort_manifest" in world.tick()


def test_training_is_never_requested(world):
    made_as_far_as_splits(world)
    for name in ("cohort_manifest", "nifti_cohort"):
        world.made(name, "v1")
        world.passed_all_checks(name)
    world.tick()
    for name in ("fold_plan", "fold_volumes", "split_drift"):
        for fold in "01234":
            world.made(name, "v1", fold)
        world.passed_all_checks(name)
    later = {name for _ in range(3) for name in world.tick()}
    assert not later & {name for name, node in GRAPH.items() if node.group in ("training", "evaluation")}
