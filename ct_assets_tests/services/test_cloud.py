"""`configs/azure.yaml` as it is shipped: a gateway takes a delivery, two machines work, all over the store."""

import os
import shutil
import subprocess
import sys

import pytest

from ct_assets.phantom import cohort
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets_tests.defs.platforms import KEY_HEX
from ct_assets_tests.services import servers
from ct_assets_tests.services.servers_storage import azurite

pytestmark = pytest.mark.timeout(600)
pytest.importorskip("adlfs", reason="the extra `azure` is not installed here")


@pytest.fixture
def store(tmp_path):
    with azurite(tmp_path / "store") as running:
        yield running


@pytest.fixture
def tracking(tmp_path):
    """A remote MLflow server, with artifacts of its own."""
    port = servers.free_port()
    arguments = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    arguments += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    arguments += ["--artifacts-destination", str(tmp_path / "artifacts")]
    server = servers.start("mlflow", arguments, tmp_path, environ=servers.environment())
    try:
        servers.wait_for(lambda: servers.answers(port), f"MLflow: {server.said()[-500:]}", seconds=300)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.end()


@pytest.fixture
def machine(tmp_path, store, tracking):
    """Return how to start a machine that has the shipped settings, the secrets and nothing else."""

    def start(name, **more):
        folder = tmp_path / name
        shutil.copytree(PROJECT_ROOT / "configs", folder / "configs")
        environ = {**os.environ, **servers.environment(), **store.environ, **more}
        environ |= {"CT_ASSETS_DEID_KEY": KEY_HEX, "CT_ASSETS_TRACKING_URI": tracking}

        def command(*arguments, fails=False):
            done = subprocess.run(
                [sys.executable, "-c", "from ct_assets.cli import main; main()", *arguments, "--config",
                 str(folder / "configs/azure.yaml")], env=environ, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert fails or done.returncode == 0, done.stderr[-4000:]
            return done

        return command

    return start


def test_the_cloud_users_settings_work_as_they_are_shipped(machine, store, tracking, tmp_path, tried):
    made = cohort.make(tmp_path / "phantom", patients=4, seed=11, faulty=(), workers=2)
    gateway = machine("gateway")
    for drop in made.drops:
        gateway("ingest", str(drop))
    worker = machine("worker", CT_ASSETS_LABELS=str(made.labels_csv))
    worker("run", "--until", "cohort_manifest")
    other = machine("other", CT_ASSETS_LABELS=str(made.labels_csv))
    assert "4" in other("status").stdout
    assert "nothing to do" in other("run", "--until", "cohort_manifest").stderr
    files, root = store.files()
    assert files.glob(f"{root}/generations/*.json")
    refused = other("promote", "lung", fails=True)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "lung" in refused.stderr, "the remote server answered, and knows no such model yet"
    tried(
        "configs/azure.yaml on Azurite and a remote MLflow",
        "gateway ingests, one machine works, another agrees",
    )
