"""What starts runs: new drops in the inbox, and the nightly look at the store.

Belongs here: the sensor on markers, the schedule. What follows from a registered batch is declared as
automation conditions (`defs.operations.automation`).
"""

import json
import time

import dagster as dg

from ct_assets.defs.engine.partitions import BATCH, batches
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.jobs import ingest_job, verify_job

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

    Only markers are read, never DICOM files. The run key holds the marker's digest, so that a corrected
    re-delivery under the same name is a new request and an unchanged one is not. A folder without a marker
    counts as complete once it has not changed for the set time; what was seen of it is the cursor.
    """
    from ct_assets.intake.batches import complete_batches, settle
    from ct_assets.storage import session

    if away := session.look_for_deliveries(platform.settings):
        return dg.SkipReason(away)
    seen = json.loads(context.cursor) if context.cursor else {}
    still_moving = settle(
        platform.layout, seen, now=time.time(), settle_seconds=platform.settings.intake.settle_seconds
    )
    waiting = complete_batches(platform.layout)[:BATCHES_PER_TICK]
    cursor = json.dumps(still_moving, sort_keys=True)
    if not waiting and cursor == (context.cursor or "{}"):
        return dg.SkipReason("the inbox holds no complete batch")
    known = set(context.instance.get_dynamic_partitions(BATCH))
    new = [found.batch for found in waiting if found.batch not in known]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(partition_key=found.batch, run_key=f"{found.batch}:{found.marker_digest}")
            for found in waiting
        ],
        dynamic_partitions_requests=[batches.build_add_request(new)] if new else [],
        cursor=cursor,
    )


nightly_verification = dg.ScheduleDefinition(
    name="nightly_verification",
    job=verify_job,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
"""Every night the released files are held against the digests of the audit."""
