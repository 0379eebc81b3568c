"""Withdrawals that are not done: one that was broken off, and those that a restored backup does not know.

Belongs here: the question that everything asks before it runs, and the note that a restore leaves. Does not:
doing them (`lifecycle.withdraw`).
"""

from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.identity.withdrawn import tombstone
from ct_assets.layout import Layout

FINISH = "finish it first: ct-assets withdraw --continue"


def refuse_unfinished(layout: Layout) -> None:
    """Raise `UsageError` while a withdrawal is not done: what runs now could bring back what is half gone."""
    if layout.withdrawal_under_way.exists():
        raise UsageError(f"a withdrawal was broken off; {FINISH}")
    if layout.withdrawals_due.exists():
        raise UsageError(
            f"people who withdrew after the backup was made are in this platform again; {FINISH}"
        )


def take_over(layout: Layout, tombstones: Path) -> int:
    """Add the tombstones of the platform that was left to those of a restored one; return how many are new.

    Whom they are about is still in the restored platform: a note says so until that is mended. Raises
    `UsageError` where the file is no record of tombstones.
    """
    try:
        told = files.read_jsonl(tombstones)
        marks = [set(line["persons"]) for line in told]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{tombstones}: is no record of tombstones (audits/withdrawals/tombstones.jsonl)"
        ) from None
    own = files.read_jsonl(layout.tombstones) if layout.tombstones.exists() else []
    held = {mark for line in own for mark in line["persons"]}
    new = [
        line
        for line, persons in zip(told, marks, strict=True)
        if (persons and not persons & held) or (not persons and line not in own)
    ]
    if any(line["persons"] for line in new):
        files.write_json(
            layout.withdrawals_due, sorted({mark for line in new for mark in line["persons"]}), mode=0o600
        )
    if new:
        files.write_jsonl(layout.tombstones, [*own, *new])
    return len(new)


def due(layout: Layout, people: set[str], key: SecretKey) -> list[str]:
    """Return the pseudonyms among `people` whom the note of a restore is about."""
    if not layout.withdrawals_due.exists():
        return []
    marks = set(files.read_json(layout.withdrawals_due))
    return sorted(one for one in people if tombstone(key, one) in marks)
