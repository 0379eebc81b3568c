"""An API over an empty platform, with a key of each role and a stand-in for Dagster."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ct_assets.serving.app import create_app
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Serving
from ct_assets.serving.runs import RunsAwayError
from ct_assets.settings import Settings
from ct_assets.settings.serving import ServingSettings


@dataclass
class RunsStandIn:
    """Remembers what was launched; `is_away` as a webserver that does not answer."""

    launched: dict[str, dict] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    is_away: bool = False

    def launch(self, job, *, tag, partition, config):
        if self.is_away:
            raise RunsAwayError
        run_id = f"run-{len(self.launched) + 1}"
        self.launched[run_id] = {"job": job, "tag": tag, "partition": partition, "config": config}
        self.states[run_id] = "QUEUED"
        return run_id

    def find(self, tag):
        return next((run_id for run_id, run in self.launched.items() if run["tag"] == tag), None)

    def status(self, run_id):
        return self.states.get(run_id)

    def cancel(self, run_id):
        self.states[run_id] = "CANCELED"


@dataclass
class Api:
    """The served platform, as a test sees it."""

    serving: Serving
    client: TestClient
    runs: RunsStandIn
    keys: dict[str, str]

    def headers(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[role]}"}


@pytest.fixture
def api_settings(tmp_path: Path) -> Settings:
    return Settings(
        data_root=tmp_path / "data",
        serving=ServingSettings(models={"stub": "models/stub/final"}, min_free_gb=0),
    )


@pytest.fixture
def api(api_settings):
    runs = RunsStandIn()
    serving = Serving.open(api_settings, runs)
    keys = {role.name.lower(): serving.keys.make("test", role, 1)[1] for role in list(Role)[1:]}
    with TestClient(create_app(serving, logs=False), raise_server_exceptions=False) as client:
        yield Api(serving, client, runs, keys)
