"""Losses of mask and stage; what a patient lacks costs nothing and teaches nothing.

Belongs here: the losses and their weighting as functions and small modules. Every loss stays in the graph
when it is masked out (times zero), so that data-parallel training always finds every gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.settings.training import LossSettings

FOCAL_GAMMA = 2.0
"""Focusing of the focal loss (Lin 2017, arXiv:1708.02002)."""
DICE_SMOOTH = 1.0
"""Voxels added to both sides of the Dice fraction: an empty window that is predicted empty costs nothing."""


def mask_loss(logits: Tensor, target: Tensor, has_mask: Tensor, *, kind: str) -> Tensor:
    """Return Dice loss plus cross-entropy or focal loss of masks, over the windows that have one.

    `logits` and `target` (0 or 1) are (windows, labels, k, j, i), `has_mask` (windows,). The Dice is that of
    all windows together, a label at a time (batch Dice), which is steadier than one a window where many
    windows hold no tumour.
    """
    logits, target = logits.float(), target.float()
    weight = has_mask.to(logits.dtype).view(-1, 1, 1, 1, 1)
    probability = logits.sigmoid()
    over = (0, 2, 3, 4)
    overlap = (probability * target * weight).sum(over)
    size = ((probability + target) * weight).sum(over)
    dice = 1 - (2 * overlap + DICE_SMOOTH) / (size + DICE_SMOOTH)
    pixel = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if kind == "dice_focal":
        pixel = pixel * (1 - torch.exp(-pixel)) ** FOCAL_GAMMA
    per_window = pixel.mean(dim=(1, 2, 3, 4))
    present = has_mask.to(logits.dtype)
    return dice.mean() * present.max() + masked_mean(per_window, present)


def deep_mask_loss(
    finest: Tensor, coarser: Sequence[Tensor], target: Tensor, has_mask: Tensor, *, kind: str
) -> Tensor:
    """Return the mask loss over levels, each with half the weight of the finer one (weights sum to one).

    Coarser targets are the largest value under each coarse voxel, so that small lesions stay.
    """
    losses = [mask_loss(finest, target, has_mask, kind=kind)]
    for logits in coarser:
        shrunk = functional.adaptive_max_pool3d(target.float(), logits.shape[2:])
        losses.append(mask_loss(logits, shrunk, has_mask, kind=kind))
    weights = [0.5**level for level in range(len(losses))]
    total = sum((w * loss for w, loss in zip(weights, losses, strict=True)), torch.zeros_like(losses[0]))
    return total / sum(weights)


def stage_loss(
    log_probabilities: Tensor, stage: Tensor, has_stage: Tensor, class_weights: Tensor | None
) -> Tensor:
    """Return the negative log-likelihood of the stages of the patients that have one.

    `log_probabilities` is (patients, classes), `stage` (patients,) with any value where `has_stage` is
    false. With class weights the mean is over weights, as PyTorch's `nll_loss` has it.
    """
    known = stage.clamp(min=0)
    weight = has_stage.to(log_probabilities.dtype)
    if class_weights is not None:
        weight = weight * class_weights[known]
    loss = -log_probabilities.gather(1, known[:, None])[:, 0]
    return (loss * weight).sum() / weight.sum().clamp(min=1e-8)


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of `values` under 0/1 weights, and zero where all are 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def inverse_frequency_weights(counts: Sequence[int]) -> Tensor:
    """Return class weights n / (k n_c), 0 for classes that no patient has; their mean over patients is 1."""
    total = sum(counts)
    present = sum(count > 0 for count in counts)
    return torch.tensor([total / (present * count) if count else 0.0 for count in counts])


class JointLoss(nn.Module):
    """Mask and stage loss in one number, with fixed or learned weights."""

    def __init__(self, settings: LossSettings, class_weights: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("class_weights", class_weights)
        if settings.weighting == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(
        self,
        mask_logits: Tensor,
        coarse_logits: Sequence[Tensor],
        stage_log_probabilities: Tensor | None,
        batch: dict[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the joint loss and its parts.

        `batch` holds `label` (windows, 1, k, j, i), `has_label` (windows,), `stage` and `has_stage`
        (patients,). Learned weights are exp(-s) L + s for each part that the batch has (Kendall 2018 up to
        factors of two).
        """
        mask = deep_mask_loss(
            mask_logits, coarse_logits, batch["label"], batch["has_label"], kind=self.settings.mask
        )
        parts = {"mask_loss": mask}
        losses = [mask]
        present = [batch["has_label"].any()]
        weights = [self.settings.mask_weight]
        if stage_log_probabilities is not None:
            stage = stage_loss(
                stage_log_probabilities, batch["stage"], batch["has_stage"], self._class_weights()
            )
            parts["stage_loss"] = stage
            losses.append(stage)
            present.append(batch["has_stage"].any())
            weights.append(self.settings.stage_weight)
        total = torch.zeros_like(mask)
        for index, (loss, here, weight) in enumerate(zip(losses, present, weights, strict=True)):
            if self.settings.weighting == "uncertainty":
                s = self.log_variance[index]
                total = total + (torch.exp(-s) * loss + s) * here.to(loss.dtype)
            else:
                total = total + weight * loss
        return total, parts

    def _class_weights(self) -> Tensor | None:
        weights = self.class_weights
        return weights if isinstance(weights, Tensor) else None
