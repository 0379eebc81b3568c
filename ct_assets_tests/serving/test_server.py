"""The real server process: keys by command, a request through the predictor process, streams that end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from ct_assets import files
from ct_assets_tests.services.servers import answers, free_port, wait_for
from ct_assets_tests.serving import studies

pytestmark = [pytest.mark.slow]
SECONDS_TO_END = 5


@pytest.fixture
def served(tmp_path):
    port, config = free_port(), tmp_path / "settings.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "data_root": str(tmp_path / "data"),
                "serving": {"models": {"stub": "models/stub/final"}, "min_free_gb": 0},
            }
        )
    )
    command = [str(Path(sys.executable).with_name("ct-assets")), "serve"]
    files.write_json(tmp_path / "data/models/stub/final/bundle.json", {"system": "lung"})
    made = subprocess.run(
        [*command, "keys", "new", "--role", "operator", "--config", str(config)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    key = made.stdout.splitlines()[0]
    process = subprocess.Popen([*command, "--config", str(config), "--port", str(port)], cwd=tmp_path)
    try:
        wait_for(lambda: answers(port), "the server", seconds=120)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
        ) as client:
            yield process, client, tmp_path / "data"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_request_goes_through_the_predictor_and_the_server_ends_with_open_streams(served, tried):
    process, client, _ = served
    assert client.get("/readyz").status_code == 200
    sent = client.post(
        "/v1/inference",
        content=studies.archive(studies.slices()),
        headers={"Content-Type": "application/zip"},
    )
    assert sent.status_code == 202
    ended = wait_for(
        lambda: (
            (found := client.get(sent.headers["location"]).json())["state"] in ("done", "failed") and found
        ),
        "the predictor",
        seconds=120,
    )
    # the bundle of this test has no weights: the predictor opened it and reported that
    assert (ended["state"], ended["reason"]["code"]) == ("failed", "request_failed")

    started = client.post("/v1/training", json={"experiment": "a", "fold": "0"}).json()
    assert started["state"] == "queued"  # nobody takes launches here: it waits
    with client.stream("GET", f"/v1/training/{started['id']}/events") as stream:
        assert stream.status_code == 200
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
        seconds = time.monotonic() - begun
    assert seconds < SECONDS_TO_END
    tried("SIGTERM with an open stream", "the server ends", f"{seconds:.1f} s")
