"""Curves of a training as its folder has them: epochs, metrics, learning rate, use of the GPU, and numbered events.

Belongs here: reading `metrics.jsonl`, `tracking.jsonl` and `state.json`. An event's number is its line in
`tracking.jsonl`, which only grows: a reader goes on after any number, also after the server began anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ct_assets.learning.training import state

CURVES_NAME, EVENTS_NAME = "metrics.jsonl", "tracking.jsonl"
LOSSES = ("train_loss", "val_loss")
GPU = "system/gpu_0_utilization_percentage"
SHOWN_EVENTS = ("metrics", "status")
"""Kinds that readers get; the others hold paths."""


@dataclass(frozen=True)
class Curves:
    """One training's folder."""

    folder: Path

    @property
    def state(self) -> state.TrainingState | None:
        """Where the training stands."""
        return state.read(self.folder)

    def epochs(self) -> list[dict[str, Any]]:
        """Return a row an epoch: `epoch`, `step`, `stage`, losses, learning rate, metrics."""
        return [row for _, row in _lines(self.folder / CURVES_NAME, 0)]

    def series(self, name: str) -> dict[str, Any]:
        """Return one metric over the epochs as `{name, x, y}`."""
        rows = [row for row in self.epochs() if isinstance(row.get(name), int | float)]
        return {"name": name, "x": [row["epoch"] for row in rows], "y": [row[name] for row in rows]}

    def names(self) -> list[str]:
        """Return the names of all metrics."""
        known = {
            name for row in self.epochs() for name, value in row.items() if isinstance(value, int | float)
        }
        return sorted(known - {"epoch", "step"})

    def losses(self) -> dict[str, Any]:
        """Return the training and validation loss."""
        return _graph([self.series(name) for name in LOSSES])

    def metrics(self, name: str | None = None) -> dict[str, Any]:
        """Return one metric, or all validation metrics but the loss."""
        chosen = [name] if name is not None else [one for one in self.names() if one.startswith("val_")]
        return _graph([self.series(one) for one in chosen if one not in LOSSES or name is not None])

    def learning_rate(self) -> dict[str, Any]:
        """Return the learning rate."""
        return _graph([self.series("learning_rate")])

    def gpu_usage(self) -> dict[str, Any]:
        """Return the utilization of the GPU in percent; without a GPU an empty graph."""
        samples = [
            (event["at_ms"] / 1000, event["values"][GPU])
            for _, event in self.events(0)
            if event["kind"] == "metrics" and GPU in event.get("values", {})
        ]
        if not samples:
            return _graph([])
        return _graph([{"name": GPU, "x": [at for at, _ in samples], "y": [value for _, value in samples]}])

    def events(self, after: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the events behind number `after`, each with its number."""
        found = _lines(self.folder / EVENTS_NAME, after)
        return [(number, event) for number, event in found if event.get("kind") in SHOWN_EVENTS]


def _graph(series: list[dict[str, Any]]) -> dict[str, Any]:
    filled = [one for one in series if one["x"]]
    return {"is_available": bool(filled), "series": filled}


def _lines(path: Path, after: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the whole lines of a growing file behind number `after`, with their numbers from 1."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    found = []
    for number, line in enumerate(whole.splitlines()[after:], start=after + 1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # a power failure tore it; the next launch removes it
        if isinstance(row, dict):
            found.append((number, row))
    return found
