"""The data root of a demo: what a person did in it is never removed silently.

Belongs here: telling a demo's own data from a person's, and what becomes of an earlier demo's root. Does not: what a
demo makes (`defs.operations.demo`, `defs.operations.brain_demo`).
"""

import shutil
import sys
from pathlib import Path
from typing import Literal

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.layout import Layout

Wish = Literal["fresh", "keep"]
RECORD_NAME = "demo.json"
"""Beside the data: the batches that the demo itself delivered."""


def prepare(root: Path, wish: Wish | None, *, own_experiments: frozenset[str] = frozenset()) -> None:
    """Remove an earlier demo's data, or keep them, as `wish` says; without one, ask where a person's work would go.

    Raises `UsageError` where there is such work and nobody to ask, and where the person wants to stop.
    """
    if not root.exists() or wish == "keep":
        return
    work = work_of_people(root, own_experiments)
    if wish is None and work:
        wish = _ask(root, work)
    if wish == "keep":
        return
    if any(root.iterdir()):
        progress.say(f"removing the earlier demo in {root}")
    shutil.rmtree(root)


def work_of_people(root: Path, own_experiments: frozenset[str]) -> list[str]:
    """Return what a person added to a demo's platform, a line a kind: nothing of it comes back with a new demo."""
    layout = Layout(root)
    record = root / RECORD_NAME
    own = set(files.read_json(record)["batches"]) if record.is_file() else set()
    batches = {
        path.name
        for folder in (layout.inbox, layout.raw)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() and not path.name.startswith(".")
    }
    models = root / "models"
    experiments = {path.name for path in models.iterdir() if path.is_dir()} if models.is_dir() else set()
    decisions = sum(
        len(files.read_jsonl(path)) for path in root.glob("audits/deid/*/quarantine_review.jsonl")
    )
    withdrawn = len(files.read_jsonl(layout.tombstones)) if layout.tombstones.is_file() else 0
    counts = {
        "batches": len(batches - own) if record.is_file() else 0,
        "experiments": len(experiments - own_experiments),
        "decisions about quarantined objects": decisions,
        "withdrawals": withdrawn,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def record_batches(root: Path, batches: list[str]) -> None:
    """Write down which batches the demo delivered."""
    files.write_json(root / RECORD_NAME, {"batches": sorted(batches)})


def _ask(root: Path, work: list[str]) -> Wish:
    added = f"{root}: holds work that is not the demo's own ({', '.join(work)})"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{added}; nothing was touched. `ct-assets demo --keep` goes on with it, `--fresh` removes it, and "
            "CT_ASSETS_DATA=FOLDER makes the demo elsewhere"
        )
    progress.say(f"{added}.")
    print("keep it and go on [k], remove it all [r], or stop [Enter]? ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().casefold()
    if answer in ("k", "keep"):
        return "keep"
    if answer in ("r", "remove"):
        return "fresh"
    raise UsageError("stopped; nothing was touched")
