"""Asset bodies read what their row of the graph table declares, and nothing else."""

import ast
import inspect
import pickle
from pathlib import Path

import pytest

from ct_assets.defs import assets
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.inputs import OPEN_PLACES, Inputs, UndeclaredInputError
from ct_assets.defs.engine.platform import Platform
from ct_assets.layout import Layout
from ct_assets.settings import Settings

SETTINGS = Settings(data_root=Path("none"))
STAGES_NOT_CONVERTED = {"training.py", "evaluation.py", "brain.py", "neuro.py"}


def inputs(*names: str, partition: str | None = None) -> Inputs:
    return Inputs(Platform(SETTINGS), names, partition)


def test_a_declared_section_is_the_one_of_the_settings():
    assert inputs("labels").setting("labels") is SETTINGS.labels
    assert inputs("ct_prepro_audit").setting("conversion.masks") is SETTINGS.conversion.masks


@pytest.mark.parametrize(
    ("asset", "setting"), [("fold_plan", "audit"), ("fold_model", "labels"), ("fold_model", "labels.csv")]
)
def test_an_undeclared_setting_is_refused_by_name(asset, setting):
    with pytest.raises(UndeclaredInputError, match=rf"{asset}: reads the setting {setting}\b"):
        inputs(asset).setting(setting)


def test_a_partition_has_its_own_section():
    with pytest.raises(UndeclaredInputError, match=r"derived\.b"):
        inputs("derived_set", partition="a").setting("derived.b")


def test_an_undeclared_file_is_refused_by_name():
    assert inputs("labels").file("labels.csv") is None
    with pytest.raises(UndeclaredInputError, match=r"fold_volumes: reads the file labels\.csv"):
        inputs("fold_volumes").file("labels.csv")


def test_a_table_of_an_asset_that_is_no_input_is_refused_by_name():
    with pytest.raises(UndeclaredInputError, match=r"labels: reads layout\.cohort_manifest"):
        inputs("labels").table("cohort_manifest")
    with pytest.raises(FileNotFoundError):
        inputs("fold_plan").table("cohort_manifest")


def test_places_are_those_of_the_asset_and_of_its_inputs():
    layout = inputs("fold_volumes").layout
    assert layout.plan("0") == Layout(Path("none")).plan("0")
    assert layout.fold("0").name == "0"
    with pytest.raises(UndeclaredInputError, match=r"fold_volumes: reads layout\.ct_prepro_dir"):
        _ = layout.ct_prepro_dir


def test_worker_processes_are_held_to_the_same_places():
    layout = pickle.loads(pickle.dumps(inputs("labels").layout))
    assert layout.labels == Layout(Path("none")).labels
    with pytest.raises(UndeclaredInputError):
        _ = layout.nifti


def test_every_place_of_a_row_is_one_of_the_layout():
    known = {name for name in dir(Layout) if not name.startswith("_")} | {"root"}
    assert {place for node in GRAPH.values() for place in node.places} <= known
    assert known >= OPEN_PLACES


def asset_bodies() -> dict[str, ast.FunctionDef]:
    bodies = {}
    for path in sorted(Path(inspect.getfile(assets)).parent.glob("*.py")):
        if path.name in STAGES_NOT_CONVERTED:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(decorator, ast.Call)
                and isinstance(decorator.func, ast.Attribute)
                and decorator.func.attr in ("asset", "multi_asset")
                for decorator in node.decorator_list
            ):
                bodies[node.name] = node
    return bodies


@pytest.mark.parametrize(("name", "body"), asset_bodies().items(), ids=list(asset_bodies()))
def test_a_body_reads_through_its_inputs_alone(name, body):
    """The platform itself is only handed on: to the recorder, and to what makes links for a person."""
    handed_on = {
        argument
        for call in ast.walk(body)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("Recorder", "link", "link_or_path", "picture")
        for argument in ast.walk(call)
    }
    uses = {use for use in ast.walk(body) if isinstance(use, ast.Name) and use.id == "platform"}
    assert uses <= handed_on, f"{name} uses the platform beside its inputs"
