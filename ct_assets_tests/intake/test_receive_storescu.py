"""The receiver as a process of its own, against dcmtk's storescu: many at once, cut off, no room, killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ct_assets.intake.network import settling
from ct_assets.layout import Layout
from ct_assets_tests.intake.senders import SENDER, delivered, has_dcmtk, storescu, wait_for, write_series

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not has_dcmtk(), reason="storescu is not installed here (Debian: apt install dcmtk)"),
]

SLICES = 100


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Path]:
    """Three patients' CT of 100 slices of 512 x 512 pixels, as files."""
    folder = tmp_path_factory.mktemp("series")
    return [write_series(folder / name, SLICES, patient=name) for name in ("A", "B", "C")]


class Process:
    """`ct-assets receive` over a data root."""

    def __init__(self, folder: Path, data_root: Path, **changes: object) -> None:
        from ct_assets_tests.services.servers import free_port

        self.layout, self.port = Layout(data_root), free_port()
        receive = {"senders": [SENDER], "quiet_seconds": 0.5, "keep_free_mb": 0, "port": self.port, **changes}
        self.config = folder / "receive.yaml"
        self.config.write_text(yaml.safe_dump({"data_root": str(data_root), "receive": receive}))
        self.log = folder / "receive.log"
        self.start()

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CT_ASSETS_")}
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from ct_assets.cli import main; main()",
                    "receive",
                    "--config",
                    self.config,
                ],
                stderr=log,
                env=environment,
            )
        wait_for(lambda: b"receiving as" in self.log.read_bytes()[before:], 60)

    def kill(self) -> None:
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()

    def stop(self) -> int:
        self.running.terminate()
        return self.running.wait(120)


@pytest.fixture
def receive(tmp_path):
    started = []

    def start(data_root: Path | None = None, **changes: object) -> Process:
        started.append(Process(tmp_path, data_root or tmp_path / "data", **changes))
        return started[-1]

    yield start
    for one in started:
        if one.running.poll() is None:
            one.stop()


def sizes(layout: Layout) -> list[int]:
    return sorted(len(files) for files in delivered(layout).values())


def arrived(layout: Layout) -> int:
    return sum(1 for _ in (layout.inbox / ".receiving/studies").rglob("*.dcm"))


def test_three_hundred_slices_from_three_senders_at_once(receive, series, tried):
    one = receive()
    senders = [storescu(one.port, folder) for folder in series]
    assert [sender.wait(120) for sender in senders] == [0, 0, 0]
    wait_for(lambda: sizes(one.layout) == [SLICES] * 3, 30)
    digests = [digest for files in delivered(one.layout).values() for digest in files]
    assert len(set(digests)) == 3 * SLICES
    assert one.stop() == 0
    tried("300 slices from three senders at once", "three batches, every digest once")


def test_two_series_of_one_study_interleaved_are_one_batch(receive, tmp_path):
    first = write_series(tmp_path / "first", 30, series="first")
    second = write_series(tmp_path / "second", 30, series="second")
    one = receive()
    senders = [storescu(one.port, folder) for folder in (first, second)]
    assert [sender.wait(60) for sender in senders] == [0, 0]
    wait_for(lambda: sizes(one.layout) == [60], 30)


def test_a_sender_that_is_killed_in_the_middle_leaves_no_half_batch(receive, series, tried):
    one = receive()
    sender = storescu(one.port, series[0])
    wait_for(lambda: arrived(one.layout) >= 20, 60)
    sender.kill()
    sender.wait()
    wait_for(lambda: settling.open_studies(one.layout)[0].broken == {"association_aborted": 1}, 30)
    half = arrived(one.layout)
    assert 20 <= half < SLICES
    assert storescu(one.port, series[1]).wait(60) == 0
    wait_for(lambda: sizes(one.layout) == [SLICES], 30)
    assert storescu(one.port, series[0]).wait(60) == 0
    wait_for(lambda: sizes(one.layout) == [SLICES, SLICES], 30)
    tried("sender killed in the middle", "no batch of it; sent again, one whole batch")


def test_killed_in_the_middle_and_started_again_nothing_is_lost_and_nothing_twice(receive, series, tried):
    one = receive()
    senders = [storescu(one.port, folder) for folder in series]
    wait_for(lambda: arrived(one.layout) >= 60, 60)
    one.kill()
    assert all(sender.wait(60) != 0 for sender in senders), "the senders know"
    kept = arrived(one.layout)
    assert kept >= 60
    one.start()
    assert [study.broken for study in settling.open_studies(one.layout)] == [{"receiver_stopped": 1}] * 3
    assert arrived(one.layout) == kept
    senders = [storescu(one.port, folder) for folder in series]
    assert [sender.wait(120) for sender in senders] == [0, 0, 0]
    wait_for(lambda: sizes(one.layout) == [SLICES] * 3, 30)
    digests = [digest for files in delivered(one.layout).values() for digest in files]
    assert len(set(digests)) == 3 * SLICES
    tried("receiver SIGKILL with 300 slices under way", "every object once after the senders repeat")


def test_killed_again_and_again_every_object_ends_in_one_batch(receive, series, tried):
    """Also kills between the steps of handing over: the quiet time is short, the kills come at any moment."""
    one = receive(quiet_seconds=0)
    for _ in range(5):
        sender = storescu(one.port, series[0])
        wait_for(lambda: arrived(one.layout) >= 5 or delivered_safely(one.layout), 60)
        one.kill()
        sender.wait(60)
        one.start()
    assert storescu(one.port, series[0]).wait(60) == 0
    wait_for(lambda: sum(sizes(one.layout)) == SLICES and not settling.open_studies(one.layout), 30)
    digests = [digest for files in delivered(one.layout).values() for digest in files]
    assert len(digests) == len(set(digests)) == SLICES
    tried("receiver SIGKILL five times", "every object in one batch")


def delivered_safely(layout: Layout) -> bool:
    return any(not folder.name.startswith(".") for folder in layout.inbox.iterdir())


def test_a_disk_that_is_full_is_told_to_the_sender_and_what_was_acknowledged_stays(
    receive, series, tmp_path, tried
):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs more rights than this user has")
    try:
        one = receive(small / "data")
        assert storescu(one.port, series[0], "--required").wait(60) != 0
        wait_for(
            lambda: settling.open_studies(one.layout) and settling.open_studies(one.layout)[0].broken, 30
        )
        kept = arrived(one.layout)
        assert 30 < kept < 40, "slices of 0.5 MB on 20 MB"
        assert delivered(one.layout) == {}
        subprocess.run(["mount", "-o", "remount,size=120m", small], check=True)
        assert storescu(one.port, series[0]).wait(60) == 0
        wait_for(lambda: sizes(one.layout) == [SLICES], 30)
        one.stop()
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    tried("disk full while receiving", "A700; what was acknowledged stays; with room one whole batch")
