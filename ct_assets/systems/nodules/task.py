"""The nodule network as a task of the shared trainer: CPM on the validation scans decides which epoch is best.

Belongs here: module, batches, validation. Does not: the loop (`learning.training.trainer`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor, nn

from ct_assets.learning.training.task import Direction, Task, Validation
from ct_assets.systems.nodules import network_detector, volumes
from ct_assets.systems.nodules.losses import NoduleLoss
from ct_assets.systems.nodules.marks import Evaluated, Mark, Truth, pairs
from ct_assets.systems.nodules.network import NoduleNetwork
from ct_assets.systems.nodules.patches import NoduleCase, Windows

MARK_SCHEMA = {
    "series_uid": pl.String,
    "x_mm": pl.Float64,
    "y_mm": pl.Float64,
    "z_mm": pl.Float64,
    "score": pl.Float64,
    "diameter_mm": pl.Float64,
    "triage": pl.Float64,
}


class NoduleModule(nn.Module):
    """Network and loss: a batch in, loss and parts out."""

    def __init__(self, network: NoduleNetwork, loss: NoduleLoss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a training step and its parts."""
        loss, parts = self.loss(self.network(batch["image"]), batch)
        return loss, parts


class NoduleTask(Task):
    """Trains on windows of the training cases, validates on whole validation cases."""

    metrics: Mapping[str, Direction] = {
        "cpm": "max",
        "sensitivity_at_1": "max",
        "marks_per_scan": "min",
        "centre_error_mm": "min",
    }

    def __init__(
        self,
        network: NoduleNetwork,
        batches: Windows,
        validation: Sequence[NoduleCase],
        *,
        loss: NoduleLoss | None = None,
        decoding: network_detector.Decoding | None = None,
        overlap: float = 0.5,
    ) -> None:
        self.network = network
        self.module = NoduleModule(network, loss or NoduleLoss())
        self.batches = batches
        self.patch_size = batches.patch_size
        self.cases = validation
        self.overlap = overlap
        self.decoding = decoding or network_detector.Decoding()

    def validate(self, rank: int, ranks: int) -> list[tuple[Any, ...]]:
        """Return the marks of this rank's scans as rows of `MARK_SCHEMA`."""
        rows: list[tuple[Any, ...]] = []
        for case in self.cases[rank::ranks]:
            maps = network_detector.run(
                self.network, volumes.whole(case.image), self.patch_size, overlap=self.overlap
            )
            for mark in network_detector.marks(maps, case.image.grid, case.scan, self.decoding):
                rows.append((mark.scan, *mark.centre_mm, mark.score, mark.diameter_mm, mark.triage))
        return rows

    def summarise(self, rows: Sequence[Any]) -> Validation:
        """Return CPM and the like; what needs a finding is absent where the scans have none."""
        table = pl.DataFrame(sorted(rows), schema=MARK_SCHEMA, orient="row")
        known = [case for case in self.cases if case.has_centres]
        scans = [case.scan for case in known]
        listed = set(scans)
        data = Evaluated(
            scans,
            [
                Truth(
                    case.scan, (x, y, z), float(np.prod(size) ** (1 / 3)) if np.isfinite(size).all() else -1.0
                )
                for case in known
                for (x, y, z), size in zip(case.centres_lps.tolist(), case.diameters_mm, strict=True)
            ],
            [
                Mark(scan, (x, y, z), score, diameter, triage)
                for scan, x, y, z, score, diameter, triage in table.iter_rows()
                if scan in listed
            ],
        )
        metrics = {"marks_per_scan": len(data.marks) / len(scans)} if scans else {}
        if data.truths:
            sensitivity = data.matching().sensitivity()
            metrics |= {"cpm": float(sensitivity.mean()), "sensitivity_at_1": float(sensitivity[3])}
            best, _ = pairs(data)
            errors = [
                float(
                    np.linalg.norm(np.subtract(data.truths[row].centre_mm, data.marks[best[row]].centre_mm))
                )
                for row in np.flatnonzero(best >= 0).tolist()
            ]
            metrics |= {"centre_error_mm": float(np.mean(errors))} if errors else {}
        return Validation(metrics, {"marks": table})

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights."""
        return dict(self.network.state_dict())
