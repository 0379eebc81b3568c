"""Augmentation of patches: image, mask and points move together.

Belongs here: which random changes, and how strong. Does not: choosing patches (`learning.volumes.dataset`).

MONAI's transforms carry an affine with each picture; points are positions in the patch, so they are moved by the
affine that the image ends with, and always stay on the same tissue.
"""

from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandAxisFlipd

from ct_assets.learning.volumes.plan import Plan

KEYS = ("image", "label")
FLIP_CHANCE = 0.5
AFFINE_CHANCE = 0.3
TURN_RADIANS = np.deg2rad(10)
SCALE = 0.1
"""Sizes change by up to so much."""
INTENSITY_CHANCE = 0.2
NOISE_STD = 0.05
SHIFT = 0.1
SMOOTH_VOXELS = (0.5, 1.0)


class Augmentation:
    """Random flip, small turn and scaling, noise, blur and intensity changes; a function of item and seed."""

    def __init__(self, air: float) -> None:
        """Take `air`, the network's value of air: what comes in from beyond the edge when a patch turns."""
        self.air = air
        self._transform = Compose(
            [
                RandAxisFlipd(KEYS, prob=FLIP_CHANCE),
                RandAffined(
                    KEYS,
                    prob=AFFINE_CHANCE,
                    rotate_range=[TURN_RADIANS] * 3,
                    scale_range=[SCALE] * 3,
                    mode=("bilinear", "nearest"),
                    padding_mode="zeros",
                ),
                RandGaussianNoised("image", prob=INTENSITY_CHANCE, std=NOISE_STD),
                RandGaussianSmoothd(
                    "image",
                    prob=INTENSITY_CHANCE,
                    sigma_x=SMOOTH_VOXELS,
                    sigma_y=SMOOTH_VOXELS,
                    sigma_z=SMOOTH_VOXELS,
                ),
                RandScaleIntensityd("image", prob=INTENSITY_CHANCE, factors=SHIFT),
                RandShiftIntensityd("image", prob=INTENSITY_CHANCE, offsets=SHIFT),
            ]
        )

    def __call__(self, item: dict[str, Any], seed: int) -> dict[str, Any]:
        """Return the item changed; `points` (n, 3) in (k, j, i) of the patch move with image and label."""
        self._transform.set_random_state(seed)
        start = torch.eye(4, dtype=torch.float64)
        # Zeros come in at the edge: air is made zero for the time being.
        moved = self._transform(
            {
                "image": MetaTensor(item["image"] - self.air, affine=start),
                "label": MetaTensor(item["label"], affine=start),
            }
        )
        changed = {
            **item,
            "image": moved["image"].as_tensor() + self.air,
            "label": moved["label"].as_tensor(),
        }
        if "points" in item:
            back = torch.linalg.inv(moved["image"].affine.to(torch.float64))
            points = item["points"].to(torch.float64)
            changed["points"] = (points @ back[:3, :3].T + back[:3, 3]).to(torch.float32)
        changed["label"] = changed["label"].to(item["label"].dtype)
        return changed


def augmentation(plan: Plan) -> Augmentation:
    """Return the augmentation that fits a plan's intensities."""
    scheme = plan.intensity
    if scheme.subtract is None:
        # Each case has its own scale; air lies about here for soft tissue around 0 HU with a deviation of 300.
        return Augmentation((scheme.lower_hu - 0.0) / 300.0)
    return Augmentation(scheme.network_value(plan.resampling.outside_hu))
