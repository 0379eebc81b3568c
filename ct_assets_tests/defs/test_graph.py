"""The graph as a whole: what a change to it does must be seen and agreed to."""

import json
from pathlib import Path

import dagster as dg

from ct_assets.definitions import defs
from ct_assets.defs.engine.graph import GRAPH, TRAINING_DOOR

SNAPSHOT = Path(__file__).with_name("graph_snapshot.json")


def picture_of_the_graph() -> dict[str, dict[str, object]]:
    graph = defs.resolve_asset_graph()
    checks: dict[str, list[str]] = {}
    for node in graph.asset_check_nodes:
        mark = " (blocking)" if node.blocking else ""
        checks.setdefault(node.key.asset_key.to_user_string(), []).append(node.key.name + mark)
    picture = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        name = key.to_user_string()
        partitions = node.partitions_def
        picture[name] = {
            "group": node.group_name,
            "partitions": type(partitions).__name__ if partitions else None,
            "inputs": sorted(parent.to_user_string() for parent in node.parent_keys),
            "automated": node.automation_condition is not None,
            "owners": sorted(node.owners),
            "checks": sorted(checks.get(name, [])),
        }
    return picture


def test_the_graph_is_the_one_agreed_on():
    """To change the graph, look at the difference, and write the new picture with `python -m` this module."""
    assert picture_of_the_graph() == json.loads(SNAPSHOT.read_text())


def test_every_asset_of_the_table_exists_and_no_other():
    assert {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} == set(GRAPH)


def test_every_asset_tells_a_person_what_it_is():
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.code_version, spec.key


def test_nothing_behind_trainings_door_runs_by_itself():
    behind = {name for name, node in GRAPH.items() if node.group in ("training", "evaluation", "derived")}
    assert not {name for name in behind if GRAPH[name].automated}
    assert all(GRAPH[name].automated for name in TRAINING_DOOR)


def test_the_safety_checks_block():
    blocking = {
        f"{node.key.asset_key.to_user_string()}.{node.key.name}"
        for node in defs.resolve_asset_graph().asset_check_nodes
        if node.blocking
    }
    assert {
        "dicom_batch.complete_and_unaltered",
        "deid_dicom.leak_scan_finds_nothing",
        "deid_audit.every_file_has_a_disposition",
        "uid_map.no_original_uid_is_left",
        "splits.no_patient_in_two_splits",
        "nifti_cohort.every_case_has_its_pair",
        "fold_plan.plan_knows_training_patients_only",
        "test_report.test_set_was_read_once",
    } <= blocking


def test_the_definitions_pass_dagsters_own_validation():
    dg.Definitions.validate_loadable(defs)


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(picture_of_the_graph(), indent=1) + "\n")
