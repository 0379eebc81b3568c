"""What starts runs: new drops in the inbox, a changed table of the clinic, and the nightly look at the store.

Belongs here: the sensors on markers and on the table, the schedule. What follows from a registered batch is declared as
automation conditions (`defs.operations.automation`).
"""

import json
import time

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ct_assets import files
from ct_assets.defs.engine import clinic_rows, provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.other_runs import at_work
from ct_assets.defs.engine.partitions import BATCH, SETTINGS, batches
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.jobs import (
    cohort_refresh_job,
    deidentify_job,
    ingest_job,
    labels_job,
    verify_job,
)
from ct_assets.errors import UsageError
from ct_assets.identity.key import is_key_here
from ct_assets.settings import load_settings

BATCHES_PER_TICK = 20
SECONDS_BETWEEN_TICKS = 30


@dg.sensor(
    name="inbox_sensor",
    description="Registers and de-identifies each complete batch of the inbox, once for each marker.",
    job=ingest_job,
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def inbox_sensor(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.SensorResult | dg.SkipReason:
    """Request a run for every complete batch in the inbox.

    Only markers are read, never DICOM files. The run key holds the marker's digest and time: a corrected delivery
    under the same name is a new request, and so is the same one made once more after its run failed. A batch is
    requested once; its place in a tick is free for the next, also where its run failed. A folder without a marker
    counts as complete once it has not changed for the set time. The cursor holds what was requested and seen.
    """
    from ct_assets.intake.batches import complete_batches, settle
    from ct_assets.storage import session

    if away := session.look_for_deliveries(platform.settings):
        return dg.SkipReason(away)
    before = json.loads(context.cursor) if context.cursor else {}
    moving = settle(
        platform.layout,
        before.get("moving", {}),
        now=time.time(),
        settle_seconds=platform.settings.intake.settle_seconds,
    )
    keys = {
        found.batch: f"{found.batch}:{found.marker_digest}:{found.delivered_ns}"
        for found in complete_batches(platform.layout)
    }
    requested = {batch: key for batch, key in before.get("requested", {}).items() if keys.get(batch) == key}
    # A command at the same batch does what a run of ours would do; if it fails, a later look requests one.
    waiting = [
        batch
        for batch in keys
        if batch not in requested and not at_work(context.instance, ["dicom_batch"], batch)
    ][:BATCHES_PER_TICK]
    requested |= {batch: keys[batch] for batch in waiting}
    cursor = json.dumps({"moving": moving, "requested": requested}, sort_keys=True)
    if not waiting and (cursor == context.cursor or not (context.cursor or moving)):
        return dg.SkipReason("the inbox holds no complete batch")
    known = set(context.instance.get_dynamic_partitions(BATCH))
    new = [batch for batch in waiting if batch not in known]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=batch, run_key=keys[batch]) for batch in waiting],
        dynamic_partitions_requests=[batches.build_add_request(new)] if new else [],
        cursor=cursor,
    )


@dg.sensor(
    name="clinic_table_sensor",
    description="Reads a changed table of the clinic again, and de-identifies the batches whose patients' rows changed.",
    jobs=[labels_job, deidentify_job],
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clinic_table_sensor(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.SensorResult | dg.SkipReason:
    """Request what a changed table of the clinic decides: its labels, and the batches whose patients' rows changed.

    The cursor is a keyed digest of the table that was looked at last. What follows is declared as automation
    conditions.
    """
    if not is_key_here(platform.settings.deid.key_file):
        return dg.SkipReason("no key on this machine")
    table = clinic_rows.of_table(platform)
    if table is None:
        return dg.SkipReason("no table of the clinic")
    if table == context.cursor:
        return dg.SkipReason("the clinic's table has not changed")
    records = provenance.Records(context.instance, ahead=True)

    def is_behind(name: str, partition: str | None) -> bool:
        is_made = records.latest(name, partition) is not None
        return is_made and not provenance.is_current(records, platform, name, partition)

    requests = [
        dg.RunRequest(job_name=deidentify_job.name, partition_key=batch, run_key=f"{batch}:{table}")
        for batch in provenance.partition_keys(context.instance, platform, "deid_dicom")
        if is_behind("deid_dicom", batch)
    ]
    if is_behind("labels", None):
        requests.append(dg.RunRequest(job_name=labels_job.name, run_key=f"labels:{table}"))
    return dg.SensorResult(run_requests=requests, cursor=table)


def settings_sensor(folds_job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """Return the sensor that notices edited settings and rules while the daemon runs."""

    @dg.sensor(
        name="settings_sensor",
        description="Makes again what edited settings, the eligibility rules, given folds or the profile changed.",
        jobs=[deidentify_job, cohort_refresh_job, folds_job],
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def edited_settings(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        """Request what is stale by its own inputs; what follows from it is declared as automation conditions.

        The cursor is a digest of the settings and rules that were compared last. A run reloads the settings, and
        so does this look: the code server may have loaded them long ago. Training is launched by a person.
        """
        try:
            now = in_force(platform)
        except UsageError as error:
            return dg.SkipReason(f"the settings cannot be used: {error}")
        state = _rules_digest(now)
        if context.cursor in (None, "", state):
            return dg.SensorResult(
                cursor=state, skip_reason=dg.SkipReason("no setting and no rule has changed")
            )
        records = provenance.Records(context.instance, ahead=True)
        requests = []
        for job, names in _BY_KIND.items():
            for key in provenance.partition_keys(context.instance, now, names[0]):
                stale = [name for name in names if provenance.why_stale(records, now, name, key) is not None]
                if stale and not at_work(context.instance, stale, key):
                    requests.append(
                        dg.RunRequest(
                            job_name=job,
                            partition_key=key,
                            run_key=f"{job}:{key}:{state}",
                            asset_selection=None
                            if job == deidentify_job.name
                            else [dg.AssetKey(name) for name in stale],
                        )
                    )
        return dg.SensorResult(run_requests=requests, cursor=state)

    return edited_settings


_BY_KIND = {
    deidentify_job.name: [name for name, node in GRAPH.items() if node.group == "deid"],
    cohort_refresh_job.name: [
        name for name, node in GRAPH.items() if node.partition is None and node.automated
    ],
    "folds": [name for name, node in GRAPH.items() if node.group == "folds"],
}
"""Job to its assets, in the order of the graph; all assets of a job have one kind of partition."""


def in_force(platform: Platform) -> Platform:
    """Return the platform with the settings as their file is now. Raises `UsageError` for one that is wrong.

    A platform that was given other settings than the code location's own (a test's) stays as it is.
    """
    if platform.settings != SETTINGS:
        return platform
    return Platform(load_settings())


def _rules_digest(platform: Platform) -> str:
    """Return the digest of the settings and of the files with rules that they name, of the clinic's table none."""
    settings = platform.settings
    rules = (
        settings.deid.profile,
        settings.eligibility.query,
        settings.splits.given,
        settings.plan.overrides,
    )
    return files.digest_of(
        [
            settings.model_dump(mode="json"),
            [files.sha256_file(path) if path is not None and path.is_file() else None for path in rules],
        ]
    )


nightly_verification = dg.ScheduleDefinition(
    name="nightly_verification",
    job=verify_job,
    cron_schedule="0 2 * * *",
    description="Every night at two the released files are verified against the digests of the audit.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
"""Every night the released files are held against the digests of the audit."""
