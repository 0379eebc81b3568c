"""One person out of Dagster's storage: records of runs that show their rows, and what the graph then knows.

Belongs here: the only place that removes anything from Dagster's storage. Does not: who it is about
(`ct_assets.lifecycle.person`).

A run whose record names the person, or may show a row of theirs in a preview, is deleted by Dagster's own means.
What it made is reported again without previews, so that nothing is made anew only because its record is gone.
Batches that held the person are reported as they are now: their originals need not be read again.
"""

from collections.abc import Iterator
from functools import partial
from importlib import import_module

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from ct_assets import files, progress, registry
from ct_assets.defs.engine import partitions, provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import open_instance, tracking_url
from ct_assets.defs.engine.lost_runs import end_lost
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.lifecycle import backup, databases, originals, person, schema
from ct_assets.lifecycle import withdraw as forgetting
from ct_assets.lifecycle.deliveries import Outcome
from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.person import Subject
from ct_assets.lifecycle.unfinished import due, refuse_unfinished
from ct_assets.settings import Settings
from ct_assets.storage.outputs import OutputRecords

PREVIEW = "preview"
RUNS_A_PAGE = 200
DEID_ASSETS = ("dicom_batch", "deid_dicom", "deid_audit", "uid_map")
WITHDRAWAL = "withdrawal"


def withdraw(
    settings: Settings, patient: str | None, *, yes: bool, workers: int, in_advance: bool = False
) -> None:
    """Do what `ct-assets withdraw` does: tell what is there, and with `yes` take the person out.

    `patient` None goes on with a withdrawal that was broken off. With `in_advance` a PatientID of whom nothing
    is here is refused from now on.
    """
    key, layout = SecretKey.load(settings.deid.key_file), settings.layout
    schema.hold(layout)
    if patient is None:
        _finish(settings, key, workers)
        return
    refuse_unfinished(layout)
    try:
        found = forgetting.look(patient, layout, key, workers)
    except UsageError:
        if not forgetting.has_withdrawn(patient, layout, key):
            if not (in_advance and yes):
                raise
            forgetting.refuse_in_advance(patient, layout, key)
            progress.say("nothing of theirs is here; nothing of that number will be taken in")
            return
        progress.say("has withdrawn already: nothing of theirs is here, and nothing comes in again")
        return
    forgetting.say(found.lines(layout))
    if yes:
        _carry_out(settings, key, found, workers)
    else:
        progress.say("nothing was changed; repeat with --yes to take the person out")


def _finish(settings: Settings, key: SecretKey, workers: int) -> None:
    """Finish a withdrawal that was broken off, and do those that a restored backup does not know."""
    layout = settings.layout
    has_note = layout.withdrawals_due.exists()
    if layout.withdrawal_under_way.exists():
        _carry_out(settings, key, forgetting.look_again(layout, key, workers), workers)
    elif not has_note:
        raise UsageError("no withdrawal was broken off here")
    if has_note:
        people = set(person.known_people(layout, key, originals.take_census(layout, workers)))
        for patient in due(layout, people, key):
            _carry_out(settings, key, forgetting.look(patient, layout, key, workers), workers)
        layout.withdrawals_due.unlink()


def _carry_out(settings: Settings, key: SecretKey, found: forgetting.Found, workers: int) -> None:
    refuse_while_running(settings)
    layout = settings.layout
    report = forgetting.carry_out(
        found,
        layout,
        key,
        tracking_uri=Platform(settings).tracking_uri,
        forget_runs=partial(forget_runs, settings),
        holders=[partial(import_module(name).forget, settings) for name in registry.HOLDERS],
        workers=workers,
    )
    forgetting.say(report.lines())
    if settings.labels.csv is not None:
        progress.say("take the person out of the clinic's table as well; it is not the platform's to change")
    if known_backups := backup.known(layout):
        progress.say(
            f"{len(known_backups)} backups were made before and still hold the person: make a new one and destroy those"
        )


def refuse_while_running(settings: Settings) -> None:
    """Raise `UsageError` while runs are under way or wait: they could write what is just being removed."""
    with open_instance(settings) as instance:
        end_lost(instance, settings.layout)
        busy = instance.get_run_records(dg.RunsFilter(statuses=[*_UNDER_WAY]), limit=1)
    if busy:
        raise UsageError(
            "runs are under way or queued; wait for them or end them, and stop the service and its sensors"
        )


_UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def forget_runs(settings: Settings, subject: Subject, outcome: Outcome) -> None:
    """Take a person out of the records of runs, and bring what the graph knows in line with what is there."""
    platform, finder = Platform(settings), subject.finder
    if (records := OutputRecords.of(settings)) is not None:
        records.renew()
    with open_instance(settings) as instance:
        for batch in sorted(outcome.empty_batches):
            instance.delete_dynamic_partition(partitions.BATCH, batch)
        for batch in sorted(subject.batches - outcome.empty_batches):
            _report_batch(instance, platform, batch)
        doomed = list(_runs_with(instance, finder, subject.batches))
        for run_id in doomed:
            _report_again(instance, run_id, finder)
        for run_id in doomed:
            instance.compute_log_manager.delete_logs(prefix=[run_id])
            instance.delete_run(run_id)
    if doomed:
        progress.say(f"records of {len(doomed)} runs removed")
    _scrub(settings, finder)


def _report_batch(instance: dg.DagsterInstance, platform: Platform, batch: str) -> None:
    """Report a batch's originals and de-identification as they are now, with the checks that held before."""
    from ct_assets.intake.batches import marker_digest

    paths = platform.layout.deid_paths(batch)
    records = provenance.Records(instance)
    if not paths.audit.exists() or records.latest("deid_dicom", batch) is None:
        return
    audit = files.sha256_file(paths.audit)
    versions = {
        "dicom_batch": marker_digest(platform.layout, batch) or "",
        "deid_dicom": audit,
        "deid_audit": audit,
        "uid_map": files.digest_of([files.sha256_file(paths.uid_map), files.sha256_file(paths.patient_map)]),
    }
    for name in DEID_ASSETS:
        digest = provenance.input_digest(records, platform, name, batch)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key=name,
                partition=batch,
                metadata={WITHDRAWAL: True, provenance.INPUT_DIGEST: digest},
                tags={provenance.DATA_VERSION_TAG: versions[name]},
            )
        )


def _runs_with(instance: dg.DagsterInstance, finder: Finder, batches: set[str]) -> Iterator[str]:
    """Yield the runs whose record names the person, or shows rows of a table that may hold theirs."""
    cursor = None
    while records := instance.get_run_records(limit=RUNS_A_PAGE, cursor=cursor):
        for record in records:
            if _is_about(instance, record.dagster_run, finder, batches):
                yield record.dagster_run.run_id
        cursor = records[-1].dagster_run.run_id


def _is_about(instance: dg.DagsterInstance, run: dg.DagsterRun, finder: Finder, batches: set[str]) -> bool:
    of_other_batch = False
    partition = run.tags.get("dagster/partition")
    if partition is not None and partition in set(instance.get_dynamic_partitions(partitions.BATCH)):
        of_other_batch = partition not in batches
    if finder.has(dg.serialize_value(run).encode()):
        return True
    for entry in instance.all_logs(run.run_id):
        if finder.has(dg.serialize_value(entry).encode()):
            return True
        made = _materialization(entry)
        if made is not None and PREVIEW in made.metadata and not of_other_batch:
            return True
    return False


def _materialization(entry: dg.EventLogEntry) -> dg.AssetMaterialization | None:
    event = entry.dagster_event
    if event is None or not event.is_step_materialization:
        return None
    return event.step_materialization_data.materialization


def _report_again(instance: dg.DagsterInstance, run_id: str, finder: Finder) -> None:
    """Report what a run made once more, where that is still the latest, without previews and names."""
    for entry in instance.all_logs(run_id):
        made = _materialization(entry)
        if made is None or made.asset_key.to_user_string() not in GRAPH:
            continue
        if _run_of_latest(instance, made) != run_id:
            continue
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key=made.asset_key,
                partition=made.partition,
                metadata={
                    name: value
                    for name, value in made.metadata.items()
                    if name != PREVIEW and not finder.has(repr(value).encode())
                },
                tags=made.tags,
            )
        )
    _report_checks_again(instance, run_id)


def _run_of_latest(instance: dg.DagsterInstance, made: dg.AssetMaterialization) -> str | None:
    wanted = dg.AssetRecordsFilter(
        asset_key=made.asset_key, asset_partitions=None if made.partition is None else [made.partition]
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].run_id if records else None


def _report_checks_again(instance: dg.DagsterInstance, run_id: str) -> None:
    """Report the checks that a run evaluated last once more, with their outcome alone."""
    keys = {
        event.asset_check_evaluation_data.asset_check_key
        for entry in instance.all_logs(run_id)
        if (event := entry.dagster_event) is not None
        and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(sorted(keys))
    for key, record in latest.items():
        event = record.event.dagster_event if record.event is not None else None
        if record.run_id != run_id or event is None:
            continue
        evaluation = event.asset_check_evaluation_data
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=record.status == AssetCheckExecutionRecordStatus.SUCCEEDED,
                severity=evaluation.severity,
                blocking=evaluation.blocking,
                metadata={WITHDRAWAL: True},
            )
        )


def _scrub(settings: Settings, finder: Finder) -> None:
    """Overwrite what is left in cells (checks keep theirs when a run goes), and write SQLite files anew."""
    home = settings.layout.dagster_home
    for path in sorted(home.rglob("*")):
        if path.is_file() and databases.is_sqlite(path):
            databases.scrub_sqlite(path, finder)
    _remove_emptied_runs(settings)
    database = settings.service.database
    if database is not None:
        for url in (database, tracking_url(database)):  # one schema is Dagster's, the other MLflow's
            databases.scrub(url, finder)
        databases.vacuum_server(database)


def _remove_emptied_runs(settings: Settings) -> None:
    """Remove the event files of runs that are gone; Dagster leaves an empty one behind."""
    with open_instance(settings) as instance:
        known = set(instance.get_run_ids())
    for path in sorted((settings.layout.dagster_home / "history/runs").glob("*.db")):
        if path.stem != "index" and path.stem not in known:
            for side in (path, *databases.side_files(path)):
                side.unlink(missing_ok=True)
