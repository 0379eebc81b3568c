"""The record of deliveries: a line for each registration and each replacement.

Belongs here: `audits/intake/deliveries.jsonl`. It holds opaque names, digests and counts, nothing of a
patient. A line is written once for each delivery, also when a killed registration is gone on with.
"""

from datetime import UTC, datetime
from typing import Any

from ct_assets import files
from ct_assets.intake.markers import Marker
from ct_assets.layout import Layout

REGISTERED, SUPERSEDED = "registered", "superseded"


def read(layout: Layout) -> list[dict[str, Any]]:
    """Return the record, oldest first."""
    return files.read_jsonl(layout.deliveries) if layout.deliveries.exists() else []


def record(layout: Layout, event: str, batch: str, marker: Marker | None) -> None:
    """Note that a delivery was registered or superseded, unless that is the last thing noted of its batch."""
    lines = read(layout)
    line = {
        "event": event,
        "batch": batch,
        "marker_digest": marker.digest if marker else None,
        "files": len(marker.entries) if marker else None,
        "bytes": marker.bytes if marker else None,
    }
    of_batch = [known for known in lines if known["batch"] == batch]
    if of_batch and {**of_batch[-1], "recorded_at": None} == {**line, "recorded_at": None}:
        return
    files.write_jsonl(layout.deliveries, [*lines, {**line, "recorded_at": datetime.now(UTC).isoformat()}])
