"""Losses of the nodule network; what a window lacks costs nothing and teaches nothing.

Belongs here: one function a task, and their weighted sum. A task that is masked out stays in the graph (times zero), so
that data-parallel training always finds every gradient. Unknown targets may be NaN.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.learning.training.losses import masked_mean

DICE_SMOOTH = 1.0
ALPHA, BETA = 2.0, 4.0
"""Of the penalty-reduced focal loss (Zhou 2019, arXiv:1904.07850, equation 1)."""
NEGATIVES_PER_CENTRE, LEAST_NEGATIVES = 1000, 1000
"""How many of the hardest voxels without a centre count, for each centre of a window and at least."""
URGENT_WEIGHT = 2.0
WEIGHTS = {"dice": 1.0, "bce": 1.0, "heat": 1.0, "offset": 0.5, "size": 0.1, "triage": 0.5}

Batch = Mapping[str, Tensor]


class NoduleLoss(nn.Module):
    """The weighted sum of all tasks."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = WEIGHTS | dict(weights or {})

    def forward(self, maps: Batch, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts. `batch` has the maps' targets, `is_centre`, `has_mask` and `has_centres`."""
        centres = batch["is_centre"] * _spread(batch["has_centres"])
        parts = {
            "dice": dice(maps["mask"], batch["mask"], batch["has_mask"]),
            "bce": bce(maps["mask"], batch["mask"], batch["has_mask"]),
            "heat": focal(maps["heat"], batch["heat"], batch["has_centres"]),
            "offset": at_centres(maps["offset"], batch["offset"], centres),
            "size": at_centres(maps["size_mm"], batch["size_mm"], centres),
            "triage": triage(maps["triage"], batch["triage"], centres),
        }
        total = sum((self.weights[name] * part for name, part in parts.items()), torch.zeros(()))
        return total, parts


def dice(logits: Tensor, target: Tensor, has_mask: Tensor) -> Tensor:
    """Return 1 - Dice over all windows that have a mask; an empty window that is predicted empty costs nothing."""
    present = _spread(has_mask)
    known = torch.where(present > 0, target.float(), 0.0)
    probability = logits.float().sigmoid() * present
    overlap, size = (probability * known).sum(), (probability + known).sum()
    return (1 - (2 * overlap + DICE_SMOOTH) / (size + DICE_SMOOTH)) * present.max()


def bce(logits: Tensor, target: Tensor, has_mask: Tensor) -> Tensor:
    """Return the mean cross-entropy over the windows that have a mask."""
    present = _spread(has_mask)
    known = torch.where(present > 0, target.float(), 0.0)
    loss = functional.binary_cross_entropy_with_logits(logits.float(), known, reduction="none")
    return masked_mean(loss.mean(dim=(1, 2, 3, 4)), has_mask.float())


def focal(logits: Tensor, heat: Tensor, has_centres: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss a centre, over the centres and the hardest other voxels of each window.

    A voxel near a centre is punished less the warmer its target is. A window without a centre counts as one with one.
    """
    present = _spread(has_centres)
    known = torch.where(present > 0, heat.float(), 0.0)
    logits = logits.float()
    probability = logits.sigmoid()
    is_centre = known >= 1
    found = -functional.logsigmoid(logits) * (1 - probability) ** ALPHA
    missed = -functional.logsigmoid(-logits) * probability**ALPHA * (1 - known) ** BETA
    centres = is_centre.sum(dim=(1, 2, 3, 4))
    losses = []
    for window in range(len(logits)):
        others = missed[window][~is_centre[window]]
        wanted = max(LEAST_NEGATIVES, NEGATIVES_PER_CENTRE * int(centres[window]))
        hardest = others.topk(min(wanted, others.numel())).values.sum()
        losses.append((found[window][is_centre[window]].sum() + hardest) * has_centres[window].float())
    count = (centres.clamp(min=1) * has_centres.float()).sum().clamp(min=1.0)
    return torch.stack(losses).sum() / count


def at_centres(predicted: Tensor, target: Tensor, centres: Tensor) -> Tensor:
    """Return the mean smooth L1 loss at centres; a value that is not known (NaN) does not count."""
    counts = centres * target.isfinite()
    known = torch.where(counts > 0, target.float(), 0.0)
    loss = functional.smooth_l1_loss(predicted.float(), known, reduction="none")
    return masked_mean(loss, counts.float())


def triage(
    logits: Tensor, target: Tensor, centres: Tensor, *, urgent_weight: float = URGENT_WEIGHT
) -> Tensor:
    """Return the mean cross-entropy at centres whose urgency (0 or 1) is known, urgent ones weighing more."""
    counts = centres * target.isfinite()
    known = torch.where(counts > 0, target.float(), 0.0)
    loss = functional.binary_cross_entropy_with_logits(
        logits.float(), known, reduction="none", pos_weight=torch.tensor(urgent_weight, device=logits.device)
    )
    return masked_mean(loss, counts.float())


def _spread(values: Tensor) -> Tensor:
    return values.float().view(-1, 1, 1, 1, 1)
