"""Where a network looked: Grad-CAM (Selvaraju 2017, arXiv:1610.02391), and the gallery of errors.

Belongs here: the heat of one slice, which slices a person should look at. Does not: drawing (`brain.plots`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.systems.brain import images
from ct_assets.systems.brain.images import Prepared

Floats = npt.NDArray[np.float32]

KINDS = ("TP", "FP", "FN")
BLOCKS = ("layer1", "layer2", "layer3", "layer4")
LEAST_CELLS = 7
"""Features on fewer cells a side say nothing about where: torchvision's last block has 7 for pictures of 224."""
A_KIND = 6
"""Slices of each kind: the surest of the called, and of the missed ones those called last."""


def heat(network: nn.Module, image: Floats) -> Floats:
    """Return the heat of a slice (channels, size, size) of [0, 1] for the lesion, (size, size) of [0, 1].

    Features of the last block with enough cells (the last one for pictures of 224 pixels and more), weighted by
    the mean gradient of the logit; what speaks against a lesion is 0.
    """
    device = next(network.parameters()).device
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        kept.append(output)
        output.retain_grad()

    network.eval()
    blocks = [block for name, block in network.named_children() if name in BLOCKS]
    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        with torch.enable_grad():
            inputs = torch.from_numpy(images.network_input(image))[None].to(device).requires_grad_()
            network(inputs)[:, 0].sum().backward()
    finally:
        for handle in handles:
            handle.remove()
        network.zero_grad(set_to_none=True)
    fine_enough = [features for features in kept if min(features.shape[-2:]) >= LEAST_CELLS]
    features = (fine_enough or kept[:1])[-1]
    assert features.grad is not None
    weights = features.grad.mean(dim=(2, 3), keepdim=True)
    coarse = functional.relu((weights * features).sum(dim=1, keepdim=True)).detach()
    fine = functional.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    largest = float(fine.max())
    return (fine / largest if largest > 0 else fine).cpu().numpy()


def worth_a_look(predictions: pl.DataFrame, threshold: float, count: int = A_KIND) -> pl.DataFrame:
    """Return the slices of the gallery with their `kind` (TP, FP, FN), at most `count` of each."""
    called, positive = pl.col("prob") >= threshold, pl.col("label") == 1
    told = predictions.with_columns(
        pl.when(called & positive)
        .then(pl.lit("TP"))
        .when(called & ~positive)
        .then(pl.lit("FP"))
        .when(~called & positive)
        .then(pl.lit("FN"))
        .otherwise(pl.lit("TN"))
        .alias("kind")
    )
    parts = []
    for kind in KINDS:
        surest_first = kind != "FN"
        part = told.filter(pl.col("kind") == kind).sort("prob", "id", descending=[surest_first, False])
        parts.append(part.head(count))
    return pl.concat(parts)


def pictures(network: nn.Module, prepared: Prepared, chosen: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the gallery's slices with their heat, as `plots.gallery` draws them."""
    return [_picture(network, prepared, row) for row in chosen.to_dicts()]


def _picture(network: nn.Module, prepared: Prepared, row: dict[str, Any]) -> dict[str, Any]:
    image = prepared.read(row["id"])
    return {
        "image": image[image.shape[0] // 2],
        "heat": heat(network, image),
        "title": f"{row['kind']} {row['prob']:.2f} {row['id']}",
    }


def inside_share(heat_map: Floats, box: Sequence[int]) -> float:
    """Return the share of the heat inside a box (upper, lower, left, right; ends exclusive)."""
    total = float(heat_map.sum())
    return float(heat_map[box[0] : box[1], box[2] : box[3]].sum()) / total if total > 0 else 0.0
