"""A Ray cluster of two nodes does the runs and the steps; one is lost in the middle, the bytes are the same."""

import json
import time

import dagster as dg
import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.phantom import cohort
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

pytest.importorskip("dagster_ray", reason="the extra `ray` is not installed here")
pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed here")
pytestmark = pytest.mark.timeout(900)

SMALL = {"cpus": 2, "memory_gb": 0.5}
"""A whole node of the test's cluster; a run takes one processor itself."""
TO_THE_DOOR = ("fold_plan", "fold_volumes", "split_drift")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return [
        cohort.make(
            tmp_path_factory.mktemp("phantom") / f"cohort{seed}", patients=4, seed=seed, faulty=(), workers=2
        )
        for seed in (21, 22)
    ]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, phantoms):
    """The same platform in one process, without a cluster."""
    folder = tmp_path_factory.mktemp("quiet")
    platforms.write_settings(folder, phantoms[0].labels_csv)
    settings = platforms.settings_of(folder)
    for made in phantoms:
        for drop in made.drops:
            platforms.take(settings, drop)
    platforms.run(settings)
    return settings


@pytest.fixture(scope="module")
def cluster():
    with servers.ray_cluster(2) as started:
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory, phantoms, cluster):
    folder = tmp_path_factory.mktemp("platform")
    with servers.postgres() as database:
        config = platforms.write_settings(
            folder,
            phantoms[0].labels_csv,
            service={
                "database": database,
                "code_server": {"port": servers.free_port()},
                "queue": {"check_seconds": 3, "max_runs": 4},
                "ray": {"address": cluster.address, "launch": "both"},
            },
            execution={"workers": 1, "resources": dict.fromkeys(TO_THE_DOOR, SMALL)},
        )
        settings = platforms.settings_of(folder)
        with servers.service(config, folder / "logs") as running, open_instance(settings) as instance:
            running.start("code")
            code = settings.service.code_server
            servers.wait_for(lambda: servers.answers(code.port), "the code server", seconds=180)
            running.ports["operate"] = servers.free_port()
            running.start("operate")
            graphql = f"http://127.0.0.1:{running.ports['operate']}/operate/graphql"
            servers.wait_for(lambda: sensors(graphql), "the definitions", seconds=120)
            stop(graphql, "automation")  # the tests launch by hand what they look at
            running.start("daemon")
            yield settings, running, instance, graphql


def sensors(graphql):
    selector = {"repositoryName": "__repository__", "repositoryLocationName": "ct_assets"}
    query = """query($s: RepositorySelector!) { sensorsOrError(repositorySelector: $s)
      { ... on Sensors { results { name sensorState { id selectorId status } } } } }"""
    return servers.ask(graphql, query, {"s": selector})["sensorsOrError"].get("results")


def stop(graphql, name):
    state = next(sensor["sensorState"] for sensor in sensors(graphql) if sensor["name"] == name)
    query = "mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }"
    answer = servers.ask(graphql, query, {"id": state["id"]})
    assert answer["stopSensor"]["__typename"] == "StopSensorMutationResult", answer


def launch(graphql, job, partition):
    query = """mutation($e: ExecutionParams!) { launchRun(executionParams: $e)
      { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
    selector = {
        "repositoryName": "__repository__", "repositoryLocationName": "ct_assets", "jobName": job,
    }  # fmt: skip
    tags = [{"key": "dagster/partition", "value": partition}]
    params = {
        "selector": selector,
        "mode": "default",
        "runConfigData": "{}",
        "executionMetadata": {"tags": tags},
    }
    answer = servers.ask(graphql, query, {"e": params})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def at_work(instance, run_id, steps):
    """Return the step of a run that is at work."""
    began, ended = set(), set()
    for event in instance.all_logs(run_id):
        if event.dagster_event and event.dagster_event.step_key in steps:
            kind = event.dagster_event.event_type
            if kind == dg.DagsterEventType.STEP_START:
                began.add(event.dagster_event.step_key)
            elif kind in (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE):
                ended.add(event.dagster_event.step_key)
    return next(iter(began - ended), None)


def of_batches(settings):
    return platforms.digests(
        settings.data_root, ("deid", "audits/deid", "audits/uid", "audits/metadata", "quarantine")
    )


def test_a_node_is_lost_while_it_works_on_batches_and_the_bytes_are_the_same(
    platform, phantoms, quiet, cluster, tried
):
    settings, _, instance, _ = platform
    batches = [platforms.take(settings, drop) for made in phantoms for drop in made.drops]

    def batch_on_the_other_node():
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            on_it = cluster.host_of(f"dagster-run-{run.run_id}") == servers.RAY_OTHER
            if on_it and at_work(instance, run.run_id, ("deidentify", "metadata_audit", "dicom_batch")):
                return run
        return None

    run = servers.wait_for(batch_on_the_other_node, "a batch on the second node", seconds=240, every=0.2)
    lost = time.monotonic()
    cluster.kill(servers.RAY_OTHER)
    hosts = {cluster.host_of(job["submission_id"]) for job in cluster.jobs()}
    assert servers.RAY_HEAD in hosts, "both nodes worked"

    def all_there():
        made = instance.get_materialized_partitions(dg.AssetKey("metadata_audit"))
        return set(made) == set(batches)

    servers.wait_for(all_there, "all batches", seconds=400, every=1)
    took = time.monotonic() - lost
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert of_batches(settings) == of_batches(quiet)
    tried(
        "Ray node lost, 4 batches as runs",
        "its runs fail, are retried on the other node; same bytes",
        f"{took:.0f} s",
    )


def test_a_node_is_lost_while_it_works_on_a_step_and_the_bytes_are_the_same(platform, quiet, cluster, tried):
    settings, _, instance, graphql = platform
    platforms.run(settings, until="nifti_cohort")
    run_id = launch(graphql, "folds", "0")
    run_job = f"dagster-run-{run_id}"
    servers.wait_for(lambda: cluster.host_of(run_job) == servers.RAY_HEAD, "the run on the head", seconds=240)
    cluster.add(servers.RAY_OTHER, 2)  # beside the run there is no room on the head for a step

    def step_on_the_other_node():
        for job in cluster.jobs():
            if job["submission_id"].startswith("dagster-step-") and job["status"] == "RUNNING":
                host = cluster.host_of(job["submission_id"])
                if host == servers.RAY_OTHER and at_work(instance, run_id, TO_THE_DOOR):
                    return job
        return None

    job = servers.wait_for(step_on_the_other_node, "a step on the second node", seconds=240, every=0.2)
    lost = time.monotonic()
    cluster.kill(servers.RAY_OTHER)
    cluster.add(servers.RAY_OTHER, 2)  # the machine is back, with nothing on it
    servers.wait_for(lambda: servers.RAY_OTHER in cluster.alive(), "the second node again", seconds=240)
    servers.wait_for(
        lambda: instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS,
        "the run",
        seconds=400,
        every=1,
    )
    took = time.monotonic() - lost
    retried = [event for event in instance.all_logs(run_id) if event.dagster_event
               and event.dagster_event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]  # fmt: skip
    assert retried, f"the step of {json.dumps(job['submission_id'])} was begun anew"
    ours, theirs = settings.layout.fold("0"), quiet.layout.fold("0")
    assert platforms.digests(ours.parent, ("0",)) == platforms.digests(theirs.parent, ("0",))
    tried(
        "Ray node lost, steps of a fold",
        "the step is begun anew once the node is back; same bytes",
        f"{took:.0f} s",
    )
