"""Reason codes of a platform in service: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "run_worker_lost",
        "The process or machine that did the work ended before the work did.",
        "Nothing at first: the run is tried again from where it failed. Where that fails too, look at memory "
        "and at the machine, then launch the run again.",
    ),
    (
        "stage_refused",
        "A stage refused its input or its settings.",
        "Open the run in the UI: its last line says what to change; then launch it again.",
    ),
    (
        "stage_crashed",
        "A stage ended with an error that it does not know.",
        "Open the run in the UI, read the error, and launch it again; report it if it comes back.",
    ),
    (
        "safety_check_failed",
        "A safety check failed: what stands behind it waits.",
        "Look at the check in the UI and at the report of the batch or fold; nothing goes on until it passes.",
    ),
    (
        "check_warned",
        "A check found something that a person should look at; the work goes on.",
        "Look at the check in the UI.",
    ),
    (
        "disk_full",
        "There is no room left where the platform writes; nothing half-written was kept.",
        "Make room (`ct-assets gc` frees resampled volumes) or move the data root, then launch the run again.",
    ),
    (
        "tracking_away",
        "The tracking server or the database did not answer.",
        "Start it again; what was told meanwhile is sent when it is back. A run that failed is launched again.",
    ),
    (
        "batch_stuck",
        "A complete batch waits in the inbox and was not taken.",
        "See that the daemon runs and the sensor is on; a batch that failed is delivered again or launched by hand.",
    ),
    (
        "run_stuck",
        "A run has waited or worked for longer than is usual.",
        "Open the run in the UI: a queued one waits for others, one that stands still is ended and launched again.",
    ),
    (
        "asset_stale",
        "An asset is older than what it is made from, and nothing has made it again.",
        "See that the daemon runs and no safety check stands failed; `ct-assets run` makes what is stale.",
    ),
    (
        "delivery_overdue",
        "No batch was registered for longer than the settings expect.",
        "Ask the sender; look whether the receiver runs.",
    ),
    (
        "partition_removed",
        "A batch whose data are there is no longer known to the scheduler: its partition was deleted.",
        "Add the partition again in the UI, or let `ct-assets run` do it; to take a batch out for good, use "
        "`ct-assets withdraw`.",
    ),
)
