"""Ending a running training by Dagster's terminate button or by a signal: checkpoint first, then release."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from ct_assets import tables
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import EXPERIMENT
from ct_assets.learning.training import checkpoints, state
from ct_assets.learning.training.train import train_fold
from ct_assets.settings import load_settings
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.settings.training import load_training_config
from ct_assets.tables.cohort import CohortManifest
from ct_assets_tests.defs.platforms import KEY_HEX
from ct_assets_tests.learning import tiny

PATIENCE_S = 900
NAME = "endless"
LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) {
  __typename ... on PythonError { message } ... on TerminateRunFailure { message } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@pytest.fixture
def platform(tmp_path):
    """A platform at training's door, whose training would take hours."""
    cohort = tiny.make(tmp_path / "data", patients=6, tests=0)
    facts = {
        "age_years": pl.lit(60, pl.Int32), "sex": pl.lit("F"), "image_series_id": pl.lit("1.2.3"),
        "image_series_instance_uid": pl.lit("1.2.3"), "mask_sop_instance_uid": pl.lit("1.2.4"),
        "tumour_segment_number": pl.lit(1, pl.Int64), "input_digest": pl.lit("-"),
        "label_version": pl.lit("-"), "tnm_edition": pl.lit(None, pl.String),
    }  # fmt: skip
    manifest = cohort.manifest.with_columns(**facts).select(CohortManifest.column_names())
    tables.write_table(cohort.layout.cohort_manifest, manifest, CohortManifest)
    training = tiny.config(stages=[{"epochs": 1}], steps_per_epoch=1_000_000)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(training.model_dump(mode="json")))
    (tmp_path / "key").write_text(KEY_HEX)
    (tmp_path / "key").chmod(0o600)
    settings = {
        "data_root": str(tmp_path / "data"),
        "deid": {"key_file": str(tmp_path / "key")},
        "labels": {"stages": tiny.STAGES, "spellings": {}},
        "splits": {"folds": 3},
        "training": str(tmp_path / "train.yaml"),
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.fixture
def ui(platform):
    """Webserver, daemon and code server, as `ct-assets ui` starts them; yields a function that asks GraphQL."""
    settings = load_settings(platform / "settings.yaml", environ={})
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions(EXPERIMENT, [NAME])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CT_ASSETS_")}
    command = [str(Path(sys.executable).with_name("ct-assets")), "ui", "--port", str(port)]
    with (platform / "ui.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--config", str(platform / "settings.yaml")],
            cwd=PROJECT_ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip

    def ask(query: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: dict[str, Any] = json.load(answer)
        assert "errors" not in content, content["errors"]
        return content["data"]

    try:
        wait_for(lambda: answers(ask) or server.poll() is not None)
        assert server.poll() is None, (platform / "ui.log").read_text()[-2000:]
        yield ask
    finally:
        server.terminate()
        server.wait(60)


def answers(ask) -> bool:
    try:
        return bool(ask("{ version }"))
    except OSError:
        return False


def wait_for(condition, patience_s: float = PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    pytest.fail("waited in vain")


@pytest.mark.slow
def test_the_terminate_button_saves_a_training_and_releases_it(platform, ui):
    launched = ui(
        LAUNCH,
        p={
            "selector": {
                "repositoryLocationName": "ct_assets",
                "repositoryName": "__repository__",
                "pipelineName": "cross_validation",
                "assetSelection": [{"path": ["fold_model"]}],
            },
            "executionMetadata": {
                "tags": [
                    {"key": "dagster/partition", "value": f"{NAME}|0"},
                    {"key": "dagster/partition/experiment", "value": NAME},
                    {"key": "dagster/partition/fold", "value": "0"},
                ]
            },
        },
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]
    settings = load_settings(platform / "settings.yaml", environ={})
    folder = settings.layout.fold_model(NAME, "0")

    def status() -> str:
        return str(ui(STATUS, id=run)["runOrError"]["status"])

    wait_for(lambda: ((known := state.read(folder)) and known.step >= 3) or status() == "FAILURE")
    assert status() == "STARTED", (platform / "ui.log").read_text()[-4000:]
    training = state.read(folder)
    assert ui(TERMINATE, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_for(lambda: status() == "CANCELED")

    paused = wait_for(lambda: (known := state.read(folder)) and known.phase == "paused" and known)
    saved = checkpoints.load(folder / checkpoints.LAST_NAME)
    assert saved["position"]["step"] == paused.step >= training.step
    wait_for(lambda: not process_is_there(training.pid))

    # Released: the same training can be taken up here, at that very step.
    from ct_assets.learning.training import control

    arguments = tiny.TinyCohort(
        settings.layout, tables.read_table(settings.layout.cohort_manifest, CohortManifest)
    ).arguments(load_training_config(platform / "train.yaml"), experiment=NAME)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control.Control, "pending", lambda self: seen.append(1) or "pause")
        with pytest.raises(control.TrainingPaused):
            train_fold(**arguments)
    assert state.read(folder).step == paused.step + 1


@pytest.mark.slow
def test_one_command_waits_for_another_and_a_killed_one_keeps_nobody_waiting(platform):
    """Two trainings never share a device; a place in the pool ends with the process that held it."""
    settings = load_settings(platform / "settings.yaml", environ={})

    def train(fold):
        command = [str(Path(sys.executable).with_name("ct-assets")), "train", "--experiment", NAME]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CT_ASSETS_")}
        with (platform / f"{fold}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--fold", fold, "--config", str(platform / "settings.yaml")],
                cwd=PROJECT_ROOT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def works(process, fold):
        known = state.read(settings.layout.fold_model(NAME, fold))
        said = (platform / f"{fold}.log").read_text()
        assert process.poll() is None, said[-2000:]
        return known is not None and known.step >= 3

    processes = [first := train("0")]
    try:
        wait_for(lambda: works(first, "0"))
        processes.append(second := train("1"))
        wait_for(lambda: "waiting for a place in the pool training" in (platform / "1.log").read_text(), 120)
        assert not works(second, "1")
        second.terminate()
        second.wait(120)
        first.kill()
        first.wait()
        processes.append(third := train("1"))
        wait_for(lambda: works(third, "1"))
        third.terminate()
        third.wait(60)
        assert state.read(settings.layout.fold_model(NAME, "1")).phase == "paused"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def process_is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie of the code server is no process that holds anything
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
