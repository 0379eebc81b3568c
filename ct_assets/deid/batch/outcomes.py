"""What became of one file, and how the audit says it.

Belongs here: the outcome of the second pass as a value, and its audit line. Does not: making it happen
(`second_pass`), the tables of the batch (`records`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from ct_assets.deid.batch.dispositions import Planned
from ct_assets.deid.elements import table


@dataclass(slots=True)
class Outcome:
    """What the second pass did with one file."""

    planned: Planned
    path: str = ""
    """Below the released folder; empty where nothing was released."""
    verdict: str = ""
    warnings: tuple[str, ...] = ()
    pixels_before: str | None = None
    pixels_after: str | None = None
    removed_from_pixels: Mapping[str, str] = field(default_factory=dict)
    """Size of what was no picture, by kind."""
    decoded_digest: str | None = None
    """Keyed digest of what the frames that lost bytes decode to, the same before and after."""
    released_blake3: str | None = None
    """BLAKE3 of the released file's bytes: what `verify` holds the store against."""


def audit_line(outcome: Outcome, fates: bytes) -> bytes:
    """Return the audit line of one file: new names, decision and the fate of every element; no original.

    `fates` are JSON objects with commas between them.
    """
    planned = outcome.planned
    head = orjson.dumps(
        {
            "file": planned.file_digest,
            "disposition": planned.disposition,
            "reasons": list(planned.reasons),
            "new_patient_id": planned.patient or None,
            "new_study_instance_uid": planned.study or None,
            "new_series_instance_uid": planned.series or None,
            "new_sop_instance_uid": planned.instance or None,
            "burned_in": outcome.verdict or None,
            "warnings": list(outcome.warnings),
            "pixel_digest_before": outcome.pixels_before,
            "pixel_digest_after": outcome.pixels_after,
            "removed_from_pixels": dict(outcome.removed_from_pixels),
            "decoded_pixel_digest": outcome.decoded_digest,
            "released_blake3": outcome.released_blake3,
            "table": f"PS3.15 {table.load().edition}",
        }
    )
    return head[:-1] + b',"elements":[' + fates + b"]}\n"
