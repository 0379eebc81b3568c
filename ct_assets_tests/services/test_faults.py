"""What a busy platform meets: each fault made on purpose, with what the user then sees."""

import http.server
import shutil
import subprocess
import sys
import threading
import time

import dagster as dg
import polars as pl
import pytest

from ct_assets import files, progress
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.step_lock import only_writer
from ct_assets.defs.operations import alerts
from ct_assets.defs.operations.run_history import UNDER_WAY, failure_of
from ct_assets.errors import UsageError
from ct_assets.intake import batches, deliveries
from ct_assets.phantom import cohort
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

OF_BATCHES = ("deid", "audits/deid", "audits/uid", "audits/metadata", "quarantine")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return cohort.make(
        tmp_path_factory.mktemp("phantom") / "cohort", patients=3, seed=5, faulty=(), workers=2
    )


def platform_of(folder, phantom, **changes):
    platforms.write_settings(folder, phantom.labels_csv, **changes)
    return platforms.settings_of(folder)


@pytest.fixture
def settings(tmp_path, phantom):
    return platform_of(tmp_path, phantom)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, phantom):
    """The same deliveries in a platform that nothing happened to, as far as the headers."""
    settings = platform_of(tmp_path_factory.mktemp("quiet"), phantom)
    for drop in phantom.drops:
        platforms.take(settings, drop)
    platforms.run(settings, until="metadata_audit")
    return platforms.digests(settings.data_root, OF_BATCHES)


@pytest.fixture(scope="module")
def quiet_week(tmp_path_factory, phantom):
    """The first delivery alone in such a platform."""
    settings = platform_of(tmp_path_factory.mktemp("quiet_week"), phantom)
    platforms.take(settings, phantom.drops[0])
    platforms.run(settings, until="metadata_audit")
    return platforms.digests(settings.data_root, OF_BATCHES)


def command(settings, *arguments, **changes):
    config = settings.data_root.parent / "settings.yaml"
    return subprocess.Popen(
        [sys.executable, "-c", "from ct_assets.cli import main; main()", *arguments, "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=servers.environment(**changes),
    )  # fmt: skip


def ended(process):
    said = process.communicate(timeout=400)[1]
    return process.returncode, said


def failures(instance):
    return instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))


def told(settings, *, later_hours=0.0):
    with open_instance(settings) as instance:
        platform = Platform(settings)
        alerts.look(instance, platform, {}, now=time.time() + later_hours * 3600)
        book = alerts.AlertBook(alerts.book_path(platform.layout))
        return {(alert.kind, alert.partition, alert.code) for _, alert in book.since(0)}


class TestTwoSchedulersOnOneInbox:
    def test_a_batch_is_registered_once_and_both_end_well(self, settings, phantom, quiet, tried):
        for drop in phantom.drops:
            platforms.take(settings, drop)
        both = [command(settings, "run", "--until", "metadata_audit") for _ in range(2)]
        ended = [process.communicate(timeout=400)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], ended
        assert platforms.digests(settings.data_root, OF_BATCHES) == quiet
        registered = [
            row["batch"] for row in deliveries.read(settings.layout) if row["event"] == "registered"
        ]
        assert len(registered) == len(set(registered)) == len(phantom.drops)
        tried("two schedulers on one inbox", "each batch is registered once; same bytes")

    def test_two_requests_of_one_delivery_are_one_run(self, settings, phantom):
        from ct_assets.defs.operations.sensors import inbox_sensor

        batch = platforms.take(settings, phantom.drops[0])
        keys = set()
        with dg.DagsterInstance.ephemeral() as instance:
            for _ in range(2):
                context = dg.build_sensor_context(
                    instance=instance, resources={"platform": Platform(settings)}
                )
                keys |= {
                    (request.partition_key, request.run_key) for request in inbox_sensor(context).run_requests
                }
        assert len(keys) == 1
        assert next(iter(keys))[0] == batch


class TestOneWriter:
    def test_the_second_waits_for_the_first_and_says_so(self, settings):
        order, said = [], []

        def first():
            with only_writer(settings.layout, "step", "b1"):
                order.append("first in")
                servers.wait_for(lambda: bool(said), "the second to say that it waits", every=0.02)
                order.append("first out")

        thread = threading.Thread(target=first)
        thread.start()
        servers.wait_for(lambda: bool(order), "the first", every=0.02)
        with progress.lines_to(said.append), only_writer(settings.layout, "step", "b1"):
            order.append("second in")
        thread.join()
        assert order == ["first in", "first out", "second in"]
        assert said == ["step: another process still works on this partition; waiting for it to end"]

    def test_other_partitions_do_not_wait(self, settings):
        with (
            only_writer(settings.layout, "step", "b1"),
            only_writer(settings.layout, "step", "b2", patience_s=0.1),
        ):
            pass

    def test_a_killed_process_holds_nothing(self, settings):
        script = (
            "import sys, time; from pathlib import Path; from ct_assets.layout import Layout; "
            "from ct_assets.defs.engine.step_lock import only_writer\n"
            f"with only_writer(Layout(Path({str(settings.data_root)!r})), 'step', 'b1'):\n"
            "    print('in', flush=True); time.sleep(600)"
        )
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "in\n"
        process.kill()
        process.wait()
        with only_writer(settings.layout, "step", "b1", patience_s=5):
            pass

    def test_patience_ends_with_what_to_do(self, settings):
        with (
            only_writer(settings.layout, "step", "b1"),
            pytest.raises(UsageError, match="look for it in the UI's runs"),
            only_writer(settings.layout, "step", "b1", patience_s=0.2),
        ):
            pass


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a few megabytes, mounted for the test; only root may do that."""
    mount = servers.program("mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    yield folder
    subprocess.run([servers.program("umount"), "--lazy", folder], check=False)


class TestAFullDisk:
    def test_a_delivery_that_does_not_fit_is_refused_with_figures_and_leaves_nothing(
        self, small_disk, phantom, tried
    ):
        settings = platform_of(small_disk, phantom)
        ballast = small_disk / "ballast"
        fill(ballast, small_disk, leave=1 << 20)
        with pytest.raises(UsageError, match=r"the copy of the delivery needs .* GB, and .* has .* GB free"):
            platforms.take(settings, phantom.drops[0])
        assert [path.name for path in settings.layout.inbox.iterdir() if path.is_dir()] == []
        tried("disk full at ingest", "refused before copying, with the figures; exit 2")

    @pytest.mark.parametrize("kilobytes", [0, 200, 3072, 3300])
    def test_wherever_the_room_ends_it_is_told_and_goes_on_once_there_is_some(
        self, small_disk, phantom, quiet_week, tried, kilobytes
    ):
        """From the opening of Dagster's database over the stage itself to the records of what it made."""
        settings = platform_of(small_disk, phantom)
        platforms.take(settings, phantom.drops[0])
        ballast = small_disk / "ballast"
        with open_instance(settings):
            pass  # Dagster's own files are there before the disk is full
        fill(ballast, small_disk, leave=kilobytes << 10)
        code, said = ended(command(settings, "run", "--until", "metadata_audit"))
        assert code == 2 or (code == 0 and kilobytes > 3072), said  # how much is logged depends on the clock
        assert code == 0 or " GB free: make room" in said or ("disk_full: " in said and "Make room" in said)
        assert "Traceback" not in said
        ballast.unlink()
        code, said = ended(command(settings, "run", "--until", "metadata_audit"))
        assert code == 0, said
        assert platforms.digests(settings.data_root, OF_BATCHES) == quiet_week
        with open_instance(settings) as instance:
            assert instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)) == []
            failed = {failure_of(instance, record).code for record in failures(instance)}
        assert failed <= {"disk_full", "run_worker_lost"}
        tried(f"disk full, {kilobytes} kB left", "told with what to do; with room it goes on, same bytes")

    def test_a_stage_that_finds_no_room_is_told_of_as_such(self, small_disk, phantom):
        settings = platform_of(small_disk, phantom)
        batch = platforms.take(settings, phantom.drops[0])
        with open_instance(settings):
            pass
        fill(small_disk / "ballast", small_disk, leave=1 << 20)
        with pytest.raises(UsageError, match="GB free: make room"):
            platforms.run(settings, until="metadata_audit")
        assert not list(settings.layout.released.glob("*/*/*/*/*.dcm")), "nothing half-written was released"
        (small_disk / "ballast").unlink()
        assert ("run failed", batch, "disk_full") in told(settings)

    def test_a_file_that_stood_stays_as_it_was(self, small_disk):
        path = small_disk / "table.json"
        files.write_json(path, {"old": True})
        fill(small_disk / "ballast", small_disk, leave=0)
        with pytest.raises(OSError, match="No space left"):
            files.write_bytes(path, b"x" * (1 << 20))
        (small_disk / "ballast").unlink()
        assert files.read_json(path) == {"old": True}
        assert [found.name for found in small_disk.iterdir()] == ["table.json"]


def fill(path, folder, *, leave):
    size = shutil.disk_usage(folder).free - leave
    with path.open("wb") as opened:
        while size > 0:
            try:
                size -= opened.write(b"\0" * min(size, 1 << 20))
                opened.flush()
            except OSError:
                break


class TestAClockThatJumps:
    def arriving(self, settings):
        settings.layout.make_restricted()
        folder = settings.layout.inbox / "arriving"
        folder.mkdir()
        (folder / "IM1").write_bytes(b"one")

    def test_back_makes_a_folder_wait_no_longer_than_its_time(self, settings, tried):
        self.arriving(settings)
        tomorrow = time.time() + 86400
        seen = batches.settle(settings.layout, {}, now=tomorrow, settle_seconds=60)
        seen = batches.settle(settings.layout, seen, now=tomorrow - 86400, settle_seconds=60)
        batches.settle(settings.layout, seen, now=tomorrow - 86400 + 61, settle_seconds=60)
        assert [found.batch for found in batches.complete_batches(settings.layout)] == ["arriving"]
        tried("clock set back a day", "a folder without a marker waits its usual time; nothing is told twice")

    def test_forward_alone_makes_no_batch_of_a_folder_that_still_changes(self, settings):
        self.arriving(settings)
        seen = batches.settle(settings.layout, {}, now=time.time(), settle_seconds=60)
        (settings.layout.inbox / "arriving/IM2").write_bytes(b"two")
        batches.settle(settings.layout, seen, now=time.time() + 86400, settle_seconds=60)
        assert batches.complete_batches(settings.layout) == []

    def test_runs_end_with_the_same_bytes_whatever_the_clock_says(self, settings, phantom, quiet):
        """The clock of the process is wound on by ten years: no clock time stands in what is made."""
        faketime = servers.program("faketime")
        for drop in phantom.drops:
            platforms.take(settings, drop)
        done = subprocess.run(
            [faketime, "-f", "+3650d", sys.executable, "-c", "from ct_assets.cli import main; main()", "run",
             "--until", "metadata_audit", "--config", str(settings.data_root.parent / "settings.yaml")],
            env=servers.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert platforms.digests(settings.data_root, OF_BATCHES) == quiet


class TestABatchThatChangesUnderTheReader:
    def test_is_refused_and_nothing_is_taken(self, settings, phantom, tmp_path, tried):
        drop = tmp_path / "drop"
        shutil.copytree(phantom.drops[0], drop)
        victim = next(path for path in sorted(drop.rglob("*")) if path.is_file())
        stop = threading.Event()

        def write():
            while not stop.is_set():
                with victim.open("ab") as opened:
                    opened.write(b"x")
                time.sleep(0.001)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with pytest.raises(UsageError, match="changed while it was read"):
                platforms.take(settings, drop)
        finally:
            stop.set()
            writer.join()
        assert batches.complete_batches(settings.layout) == []
        tried("batch changes under the reader", "refused; nothing was taken")


class TestAMarkerThatLies:
    def test_the_run_fails_by_code_and_a_corrected_delivery_goes_through(self, settings, phantom, tried):
        batch = platforms.take(settings, phantom.drops[0], "week-1")
        victim = next(path for path in sorted(settings.layout.inbox_batch(batch).rglob("*")) if path.suffix == ".dcm"
                      or (path.is_file() and path.name != ".complete"))  # fmt: skip
        victim.write_bytes(b"other")
        with pytest.raises(UsageError, match="file_altered"):
            platforms.run(settings, until="metadata_audit")
        assert ("run failed", batch, "file_altered") in told(settings)
        assert not settings.layout.raw_batch(batch).exists()
        platforms.take(settings, phantom.drops[0], "week-1")
        platforms.run(settings, until="metadata_audit")
        assert settings.layout.metadata_audit(batch).exists()
        tried("marker that lies", "the run fails with file_altered; the corrected delivery goes through")


class TestACorrectedDelivery:
    def test_replaces_its_batch_keeps_the_old_originals_and_retires_what_is_gone(
        self, settings, phantom, tmp_path, tried
    ):
        batch = platforms.take(settings, phantom.drops[0], "week-1")
        platforms.run(settings, until="metadata_audit")
        before = {path.name for path in settings.layout.deid_batch(batch).rglob("*.dcm")}
        corrected = tmp_path / "corrected"
        shutil.copytree(phantom.drops[0], corrected)
        largest = max(
            (path for path in corrected.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        largest.unlink()
        platforms.take(settings, corrected, "week-1")
        platforms.run(settings, until="metadata_audit")
        after = {path.name for path in settings.layout.deid_batch(batch).rglob("*.dcm")}
        assert len(before - after) == 1
        assert not after - before
        assert [row["event"] for row in deliveries.read(settings.layout)] == [
            "registered",
            "superseded",
            "registered",
        ]
        assert pl.read_parquet(settings.layout.metadata_audit(batch)).height == len(after)
        tried(
            "corrected re-delivery", "replaces its batch; old originals kept aside; one released file retired"
        )


class TestARunCutOffWhileItRecords:
    def test_what_one_pass_makes_is_made_again_as_a_whole(self, settings, phantom, quiet_week, tried):
        """Of three assets that one step makes, some are recorded and one is not."""
        batch = platforms.take(settings, phantom.drops[0])
        platforms.run(settings, until="metadata_audit")
        with open_instance(settings) as instance:
            instance.report_runless_asset_event(dg.AssetMaterialization("uid_map", partition=batch))
        made = platforms.run(settings, until="metadata_audit").made
        assert {(name, batch) for name in ("deid_dicom", "deid_audit", "uid_map")} <= set(made)
        assert platforms.digests(settings.data_root, OF_BATCHES) == quiet_week
        assert platforms.run(settings, until="metadata_audit").made == []
        tried("a run cut off while it records", "what one pass makes is made again as a whole; same bytes")


class TestAPartitionDeletedInTheUi:
    def test_is_told_and_the_next_run_brings_it_back_without_work(self, settings, phantom, tried):
        batch = platforms.take(settings, phantom.drops[0])
        platforms.run(settings, until="metadata_audit")
        with open_instance(settings) as instance:
            instance.delete_dynamic_partition(BATCH, batch)
        assert ("stuck", batch, "partition_removed") in told(settings)
        outcome = platforms.run(settings, until="metadata_audit")
        assert outcome.made == [], "what was made still stands"
        with open_instance(settings) as instance:
            assert instance.has_dynamic_partition(BATCH, batch)
        tried(
            "partition deleted in the UI", "told as partition_removed; the next run brings it back, no work"
        )


class TestATrackingServerThatIsAway:
    def test_training_tells_it_later_and_a_look_at_it_is_one_line(self, tmp_path, tried):
        """The training itself is tried in `learning/test_tracking.py`; here what a person asks for directly."""
        config = tmp_path / "settings.yaml"
        config.write_text(
            f"data_root: {tmp_path}/data\ntracking: {{uri: 'http://127.0.0.1:{servers.free_port()}'}}\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", "from ct_assets.cli import main; main()", "promote", "lung", "--config", str(config)],
            capture_output=True, text=True, env=servers.environment(), check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "127.0.0.1" in done.stderr
        tried(
            "tracking server away", "training goes on and sends later; `promote` says in one line who is away"
        )


def test_a_webhook_that_hangs_does_not_stop_the_watch(settings, monkeypatch):
    from ct_assets.reports import notify
    from ct_assets.reports.alerts import Alert

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            time.sleep(60)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(notify, "TIMEOUT_S", 0.5)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011 (any way of being away)
            notify.post(
                f"http://127.0.0.1:{server.server_port}/",
                [Alert("stale", "labels", None, "asset_stale")],
                None,
            )
        assert time.monotonic() - began < 30, "given up long before the other side answers"
        server.shutdown()
