"""Dagster and MLflow on one Postgres, and a service whose processes are killed with SIGKILL while it works."""

import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import dagster as dg
import psutil
import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.run_history import UNDER_WAY
from ct_assets.errors import UsageError
from ct_assets.phantom import cohort
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed here")
pytestmark = pytest.mark.timeout(600)

INGESTED = ("dicom_batch", "deid_dicom", "deid_audit", "uid_map", "metadata_audit")


@pytest.fixture(scope="module")
def database():
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Cohorts of other people each: one drop a test."""
    made = [
        cohort.make(
            tmp_path_factory.mktemp("phantom") / f"cohort{seed}", patients=3, seed=seed, faulty=(), workers=2
        )
        for seed in range(3)
    ]
    return made


@pytest.fixture(scope="module")
def drops(phantoms):
    return iter([drop for made in phantoms for drop in made.drops])


@pytest.fixture(scope="module")
def platform(tmp_path_factory, database, phantoms):
    """A platform on Postgres whose three processes run."""
    folder = tmp_path_factory.mktemp("platform")
    config = platforms.write_settings(
        folder,
        phantoms[0].labels_csv,
        service={
            "database": database,
            "code_server": {"port": servers.free_port()},
            "queue": {"check_seconds": 2, "max_runs": 2},
        },
    )
    settings = platforms.settings_of(folder)
    with servers.service(config, folder / "logs") as running, open_instance(settings) as instance:
        running.start("code")
        server = settings.service.code_server
        servers.wait_for(lambda: servers.answers(server.port), "the code server", seconds=120)
        running.start("daemon")
        yield settings, running, instance


def runs_of(instance, batch):
    return instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": batch}))


def started(instance, batch, step="deidentify"):
    """Return the run of a batch once the given step of it is at work."""

    def at_work():
        for run in runs_of(instance, batch):
            if run.status == dg.DagsterRunStatus.STARTED and any(
                event.dagster_event
                and event.dagster_event.event_type == dg.DagsterEventType.STEP_START
                and event.dagster_event.step_key == step
                for event in instance.all_logs(run.run_id)
            ):
                return run
        return None

    return servers.wait_for(at_work, f"{step} of {batch} to begin", seconds=180, every=0.1)


def succeeded(instance, batch, seconds=180):
    """Wait until every asset of the batch stands."""

    def whole():
        return all(
            instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[batch]), limit=1
            ).records
            for name in INGESTED
        )

    servers.wait_for(whole, f"the assets of {batch}", seconds=seconds)


def test_one_setting_puts_dagster_and_mlflow_into_one_database(platform, database):
    import psycopg2

    settings, _, instance = platform
    assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
    from ct_assets.learning.training import tracking

    client = tracking.client(Platform(settings).tracking_uri)
    experiment = client.create_experiment("trial")
    assert client.get_experiment(experiment).name == "trial"
    with psycopg2.connect(database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_schema, table_name FROM information_schema.tables")
        found = set(cursor.fetchall())
    assert {("public", "event_logs"), ("public", "alembic_version")} <= found
    assert {("mlflow", "experiments"), ("mlflow", "alembic_version")} <= found
    assert ("public", "experiments") not in found


def test_a_killed_run_worker_fails_its_run_which_is_retried_from_where_it_failed(platform, drops, tried):
    settings, _, instance = platform
    batch = platforms.take(settings, next(drops))
    run = started(instance, batch)
    pid = servers.worker_pid(instance, run.run_id)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    servers.wait_for(
        lambda: instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE,
        "the failure",
        seconds=60,
    )
    noticed = time.monotonic() - killed
    succeeded(instance, batch)
    done = time.monotonic() - killed
    retry = servers.wait_for(
        lambda: next(
            (other for other in runs_of(instance, batch) if other.parent_run_id == run.run_id), None
        ),
        "the retry",
    )
    assert retry.step_keys_to_execute is not None
    assert "dicom_batch" not in retry.step_keys_to_execute, "what was done is not done again"
    tried(
        "run worker SIGKILL",
        "run fails, is retried from deidentify, done",
        f"{noticed:.1f} s, done at {done:.0f} s",
    )


def test_a_killed_daemon_takes_no_run_with_it_and_goes_on_when_it_is_back(platform, drops, tried):
    settings, running, instance = platform
    batch = platforms.take(settings, next(drops))
    run = started(instance, batch)
    running.running["daemon"].kill()
    servers.wait_for(
        lambda: instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS, "the run to end by itself",
        seconds=120,
    )  # fmt: skip
    waiting = platforms.take(settings, next(drops))
    back = time.monotonic()
    running.start("daemon")
    started(instance, waiting, "dicom_batch")
    resumed = time.monotonic() - back
    succeeded(instance, waiting)
    tried(
        "daemon SIGKILL",
        "the run survives; the next batch begins after restart",
        f"{resumed:.0f} s after restart",
    )


def test_a_killed_code_server_takes_no_run_with_it_and_goes_on_when_it_is_back(platform, drops, tried):
    settings, running, instance = platform
    batch = platforms.take(settings, next(drops))
    run = started(instance, batch)
    running.running["code"].kill()
    servers.wait_for(
        lambda: instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS, "the run to end by itself",
        seconds=120,
    )  # fmt: skip
    waiting = platforms.take(settings, next(drops))
    back = time.monotonic()
    running.start("code")
    started(instance, waiting, "dicom_batch")
    resumed = time.monotonic() - back
    succeeded(instance, waiting)
    tried(
        "code server SIGKILL",
        "the run survives; the next batch begins after restart",
        f"{resumed:.0f} s after restart",
    )


def test_when_all_are_killed_at_once_the_lost_run_is_found_and_its_batch_done(platform, drops, tried):
    """As when the machine loses its power: nobody is left who could tell that the run ended."""
    settings, running, instance = platform
    batch = platforms.take(settings, next(drops))
    run = started(instance, batch)
    for role in ("code", "daemon"):  # with all that they started, the run's process too
        running.running[role].end(signal.SIGKILL)
    time.sleep(2)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
    back = time.monotonic()
    running.start("code")
    server = settings.service.code_server
    servers.wait_for(lambda: servers.answers(server.port), "the code server", seconds=120)
    running.start("daemon")
    servers.wait_for(
        lambda: instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE,
        "the lost run to be found",
        seconds=180,
    )
    found = time.monotonic() - back
    succeeded(instance, batch)
    tried(
        "all processes SIGKILL at once",
        "the lost run is found after restart and tried again",
        f"{found:.0f} s after restart, done at {time.monotonic() - back:.0f} s",
    )


def test_the_bytes_are_those_of_a_platform_that_nobody_disturbed(platform, phantoms, drops, tmp_path):
    settings, _, instance = platform
    not_taken = set(drops)
    platforms.write_settings(tmp_path, phantoms[0].labels_csv)
    quiet = platforms.settings_of(tmp_path)
    for made in phantoms:
        for drop in made.drops:
            if drop not in not_taken:
                platforms.take(quiet, drop)
    platforms.run(quiet, until="metadata_audit")
    assert sorted(instance.get_dynamic_partitions(BATCH)) == sorted(
        path.name for path in quiet.layout.raw.iterdir()
    )
    of_batches = ("deid", "audits/deid", "audits/uid", "audits/metadata", "quarantine")
    assert platforms.digests(settings.data_root, of_batches) == platforms.digests(quiet.data_root, of_batches)


def test_a_withdrawal_leaves_nothing_of_the_person_in_either_schema(platform, database):
    from ct_assets.defs.operations import withdrawal as forget
    from ct_assets.learning.training import tracking
    from ct_assets.lifecycle.finder import Finder

    settings, _, instance = platform
    instance.report_runless_asset_event(dg.AssetMaterialization("labels", metadata={"note": "of case_0042"}))
    client = tracking.client(Platform(settings).tracking_uri)
    client.set_experiment_tag(client.create_experiment("withdrawn"), "worst", "case_0042")
    assert dumped(database).count("case_0042") > 1
    forget._scrub(settings, Finder(frozenset({"case_0042"})))
    assert "case_0042" not in dumped(database)
    assert client.get_experiment_by_name("withdrawn").tags == {"worst": "withdrawn"}


def dumped(database):
    """Return the whole database as Postgres' own tool writes it."""
    dump = servers.program("pg_dump", "/usr/lib/postgresql/15/bin", "/usr/local/bin")
    return subprocess.check_output([dump, "--inserts", database.replace("+psycopg2", "")], text=True)


class TestADatabaseThatIsAway:
    def test_is_told_in_one_line_with_its_address_and_no_traceback(self, tmp_path, phantoms):
        port = servers.free_port()
        platforms.write_settings(
            tmp_path,
            phantoms[0].labels_csv,
            service={"database": f"postgresql+psycopg2://ct@127.0.0.1:{port}/ct_assets"},
        )
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}/ct_assets does not answer"):
            platforms.run(platforms.settings_of(tmp_path))

    def test_in_the_middle_of_a_run_is_told_in_one_line_and_the_next_run_goes_on(
        self, tmp_path, phantoms, tried
    ):
        with servers.postgres() as url:
            config = platforms.write_settings(tmp_path, phantoms[0].labels_csv, service={"database": url})
            settings = platforms.settings_of(tmp_path)
            platforms.take(settings, phantoms[0].drops[0])
            running = run_command(config)
            for line in running.stderr:
                if "reading:" in line:
                    break
            database = listening(urllib.parse.urlsplit(url).port)
            arguments = database.cmdline()
            database.send_signal(signal.SIGQUIT)  # at once, as in a crash
            database.wait(30)
            _, said = running.communicate(timeout=120)
            assert running.returncode == 2, said
            assert "tracking_away: the database of the platform does not answer" in said.splitlines()[-1]
            assert "Traceback" not in said
            again = servers.start(
                "again", arguments, tmp_path / "logs", user=servers.unprivileged(), cwd=Path("/")
            )
            try:
                servers.wait_for(lambda: servers.accepts(urllib.parse.urlsplit(url).port), "Postgres")
                running = run_command(config)
                _, said = running.communicate(timeout=120)
                assert running.returncode == 0, said
                with open_instance(settings) as instance:
                    assert instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)) == []
            finally:
                again.end(signal.SIGINT)
        tried(
            "Postgres gone in the middle of a command",
            "one line, exit 2; once it is back the next run goes on",
        )


def run_command(config):
    return subprocess.Popen(
        [sys.executable, "-c", "from ct_assets.cli import main; main()", "run", "--until", "metadata_audit",
         "--config", str(config)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=servers.environment(),
    )  # fmt: skip


def listening(port):
    """Return the process that listens on a port of loopback."""
    return next(
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp4")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid
    )
