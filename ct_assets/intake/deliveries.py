"""The record of deliveries: a line for each registration and each replacement.

Belongs here: `audits/intake/deliveries.jsonl`. It holds opaque names, digests and counts, nothing of a
patient. A line is written once for each delivery, also when a killed registration is gone on with.
"""

from datetime import UTC, datetime
from typing import Any

from ct_assets import files
from ct_assets.intake.markers import Marker
from ct_assets.layout import Layout

REGISTERED, SUPERSEDED, REFUSED = "registered", "superseded", "refused"


def read(layout: Layout) -> list[dict[str, Any]]:
    """Return the record, oldest first."""
    return files.read_jsonl(layout.deliveries) if layout.deliveries.exists() else []


def record(layout: Layout, event: str, batch: str, marker: Marker | None, withdrawn: int = 0) -> None:
    """Note that a delivery was registered, superseded or refused, unless that is the last noted of its batch.

    `withdrawn` counts files that were left out because their person has withdrawn; a line says so only then.
    """
    lines = read(layout)
    line: dict[str, Any] = {
        "event": event,
        "batch": batch,
        "marker_digest": marker.digest if marker else None,
        "files": len(marker.entries) if marker else None,
        "bytes": marker.bytes if marker else None,
    }
    if withdrawn:
        line |= {"reasons": {"withdrawn": withdrawn}}
    of_batch = [known for known in lines if known["batch"] == batch]
    if of_batch and {**of_batch[-1], "recorded_at": None} == {**line, "recorded_at": None}:
        return
    files.write_jsonl(layout.deliveries, [*lines, {**line, "recorded_at": datetime.now(UTC).isoformat()}])
