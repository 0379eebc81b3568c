"""What starts runs: new drops in the inbox, a changed table of the clinic, and the nightly look at the store.

Belongs here: the sensors on markers and on the table, the schedule. What follows from a registered batch is declared as
automation conditions (`defs.operations.automation`).
"""

import json
import time

import dagster as dg

from ct_assets.defs.engine import clinic_rows, provenance
from ct_assets.defs.engine.partitions import BATCH, batches
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.jobs import deidentify_job, ingest_job, labels_job, verify_job

BATCHES_PER_TICK = 20
SECONDS_BETWEEN_TICKS = 30


@dg.sensor(
    name="inbox_sensor",
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
    waiting = [batch for batch in keys if batch not in requested][:BATCHES_PER_TICK]
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
    if not clinic_rows.is_key_here(platform):
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


nightly_verification = dg.ScheduleDefinition(
    name="nightly_verification",
    job=verify_job,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
"""Every night the released files are held against the digests of the audit."""
