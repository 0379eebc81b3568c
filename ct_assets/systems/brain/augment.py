"""Random changes of a training slice: rotation, shift, scale, flip, blur, erasing.

Belongs here: what is drawn and what it does, as a function of a generator; nothing draws from global state.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ct_assets.settings.brain import BrainConfig

BLUR_SIGMA = (0.1, 1.5)
ERASED_SHARE = (0.02, 0.15)
ERASED_RATIO = (0.3, 3.3)
"""Height to width of an erased rectangle (Zhong 2020, arXiv:1708.04896)."""


def augment(image: Tensor, config: BrainConfig, generator: torch.Generator) -> Tensor:
    """Return a changed copy of a slice (channels, size, size) of [0, 1]; what comes in from outside is black."""
    angle = math.radians(_uniform(-config.rotation_deg, config.rotation_deg, generator))
    shift = [_uniform(-config.shift_share, config.shift_share, generator) for _ in range(2)]
    scale = _uniform(*config.scale_range, generator)
    flip = _uniform(0, 1, generator) < config.flip_p
    image = affine(image, angle, (shift[0], shift[1]), scale, flip)
    if _uniform(0, 1, generator) < config.blur_p:
        image = blur(image, _uniform(*BLUR_SIGMA, generator))
    return image


def affine(
    image: Tensor, angle: float, shift: tuple[float, float], scale: float, flip: bool = False
) -> Tensor:
    """Return a slice rotated (radians), shifted by shares of its side (right, down), scaled, mirrored."""
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    mirror = -1.0 if flip else 1.0
    # Sampling runs from the result back to the source, in coordinates of -1 ... 1.
    rows = [[cosine, sine], [-sine, cosine]]
    back = [[mirror * a for a in rows[0]], rows[1]]
    offset = [-2 * (back[i][0] * shift[0] + back[i][1] * shift[1]) for i in range(2)]
    matrix = image.new_tensor([[*back[0], offset[0]], [*back[1], offset[1]]])[None]
    grid = functional.affine_grid(matrix, [1, *image.shape], align_corners=False)
    return functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return a slice blurred by a Gaussian of `sigma` pixels."""
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=image.dtype)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = functional.pad(image[:, None], (reach, reach, reach, reach), mode="replicate")
    along = functional.conv2d(padded, weights.view(1, 1, 1, -1))
    return functional.conv2d(along, weights.view(1, 1, -1, 1))[:, 0]


def erase(normalised: Tensor, config: BrainConfig, generator: torch.Generator) -> Tensor:
    """Return a normalised slice with, by chance, one rectangle of zeros (the mean of ImageNet)."""
    if _uniform(0, 1, generator) >= config.erasing_p:
        return normalised
    rows, columns = normalised.shape[-2:]
    area = _uniform(*ERASED_SHARE, generator) * rows * columns
    ratio = math.exp(_uniform(math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1]), generator))
    height = min(rows, max(1, round(math.sqrt(area * ratio))))
    width = min(columns, max(1, round(math.sqrt(area / ratio))))
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    erased = normalised.clone()
    erased[:, top : top + height, left : left + width] = 0
    return erased


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
