"""A run that is killed anywhere, then run again, ends with the same bytes as an undisturbed one."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.operations.run_history import UNDER_WAY
from ct_assets.defs.operations.withdrawal import refuse_while_running
from ct_assets.phantom import cohort
from ct_assets_tests.defs import platforms

pytestmark = pytest.mark.slow

PLACES = {
    "registering": "verifying",
    "de-identifying": "de-identifying:",
    "between the batches": "headers:",
    "the cohort's tables": "ct_prepro_audit",
    "the NIfTI cache": Path("nifti/imagesTr/*.nii.gz"),
    "a plan": "fold_plan, fold_volumes, split_drift of 0",
    "the volumes": "volumes:",
    "the second fold": "fold_plan, fold_volumes, split_drift of 1",
}
"""Where to kill: at the first line of progress that holds these words, or once such a file is there."""

KILLED_ONCE = ("registering", "de-identifying", "the NIfTI cache", "the second fold")
"""Places at which a run is killed once; the last test is killed at all of them, one after the other."""

LEFT_OVERS = (".partial-", ".old-")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return cohort.make(
        tmp_path_factory.mktemp("phantom") / "cohort",
        patients=7,
        seed=3,
        faulty=("no_seg", "missing_slice"),
        workers=2,
    )


def fresh(folder: Path, phantom: cohort.PhantomCohort):
    platforms.write_settings(folder, phantom.labels_csv)
    settings = platforms.settings_of(folder)
    for drop in phantom.drops:
        platforms.take(settings, drop)
    return settings


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, phantom):
    settings = fresh(tmp_path_factory.mktemp("undisturbed"), phantom)
    platforms.run(settings)
    return platforms.digests(settings.data_root)


def run_and_kill(config: Path, place: str | Path) -> bool:
    """Run the command and kill its whole process group as soon as it comes to the place."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CT_ASSETS_")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from ct_assets.cli import main; main()", "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True).start()

    def is_there() -> bool:
        if isinstance(place, Path):
            time.sleep(0.002)
            return any((config.parent / "data").glob(str(place)))
        try:
            return place in lines.get(timeout=0.05)
        except queue.Empty:
            return False

    while not (came := is_there()) and process.poll() is None:
        pass
    if came and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return came


def under_way(settings):
    with open_instance(settings) as instance:
        return [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))]


@pytest.mark.parametrize("place", KILLED_ONCE)
def test_a_killed_run_is_made_good_by_the_next(place, tmp_path, phantom, undisturbed):
    settings = fresh(tmp_path, phantom)
    assert run_and_kill(tmp_path / "settings.yaml", PLACES[place]), f"the run never came to: {place}"
    platforms.run(settings)
    found = platforms.digests(settings.data_root)
    visible = {path: digest for path, digest in found.items() if not any(mark in path for mark in LEFT_OVERS)}
    assert visible == undisturbed
    assert under_way(settings) == [], "the killed run holds nothing any more"


def test_killed_again_and_again_it_still_ends_right(tmp_path, phantom, undisturbed):
    settings = fresh(tmp_path, phantom)
    for where in PLACES.values():
        run_and_kill(tmp_path / "settings.yaml", where)
        refuse_while_running(settings)  # a withdrawal, say: the killed run does not count as running
    platforms.run(settings)
    found = platforms.digests(settings.data_root)
    assert {
        path: digest for path, digest in found.items() if not any(mark in path for mark in LEFT_OVERS)
    } == undisturbed
