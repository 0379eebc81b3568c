"""From a slice in HU to the square picture that a network takes: skull crop, windows, letterbox.

Belongs here: these three steps as pure functions. Does not: reading (`brain.slices`), random changes
(`brain.augment`), normalisation (`brain.images`).
"""

import numpy as np
import numpy.typing as npt

from ct_assets.imaging import windows
from ct_assets.settings.brain import BrainConfig, WindowScheme

Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]
"""Upper, lower, left, right; lower and right are exclusive."""

SINGLE_WINDOW = "brain"
BANDS: dict[WindowScheme, int] = {
    "brain": 1,
    "brain_thirds": 3,
    "brain_subdural_bone": 3,
    "brain_blood_bone": 3,
    "brain_adjacent": 3,
}
"""Channels that are stored for a slice."""


def crop_to_skull_bbox(
    hu: npt.NDArray[np.floating], percentile: float = 98.0, pad: int = 0
) -> tuple[Floats, Box]:
    """Return the part of a slice (rows, columns) around its brightest pixels, float32, and the box.

    Pixels above the percentile are skull; their bounding box, widened by `pad` and cut at the edges, is
    kept. Where no pixel is brighter, the whole slice is. Raises `ValueError` for anything but two axes.
    """
    if hu.ndim != 2:
        raise ValueError(f"a slice has two axes, this has shape {hu.shape}")
    skull = skull_mask(hu, percentile)
    if not skull.any():
        return hu.astype(np.float32), (0, hu.shape[0], 0, hu.shape[1])
    rows, columns = np.flatnonzero(skull.any(axis=1)), np.flatnonzero(skull.any(axis=0))
    box = (
        max(0, int(rows[0]) - pad),
        min(hu.shape[0], int(rows[-1]) + 1 + pad),
        max(0, int(columns[0]) - pad),
        min(hu.shape[1], int(columns[-1]) + 1 + pad),
    )
    return hu[box[0] : box[1], box[2] : box[3]].astype(np.float32), box


def skull_mask(hu: npt.NDArray[np.floating], percentile: float = 98.0) -> npt.NDArray[np.bool_]:
    """Tell which pixels are brighter than the percentile of the slice."""
    return np.asarray(hu > np.percentile(hu, percentile))


def brain_window(hu: npt.ArrayLike, center: float = 40.0, width: float = 80.0) -> Floats:
    """Return HU clipped to `center` ± `width` / 2 and scaled to [0, 1]."""
    return windows.Window("given", center - width / 2, center + width / 2, "as given").linear(hu)


def channels(cropped: Floats, scheme: WindowScheme) -> Floats:
    """Return a cropped slice through its windows, (channels, rows, columns) of [0, 1]."""
    if scheme in ("brain", "brain_adjacent"):
        return windows.window(SINGLE_WINDOW).linear(cropped)[np.newaxis]
    return windows.stack(scheme, cropped)


def letterbox(image: Floats, size: int) -> Floats:
    """Return (channels, rows, columns) as (channels, size, size): the same proportions, black at the sides.

    Bilinear, area-true where the picture gets smaller; what is left is shared between both sides, the odd
    pixel at the lower or right one.
    """
    from PIL import Image

    rows, columns = image.shape[1:]
    scale = size / max(rows, columns)
    height, width = (max(1, round(side * scale)) for side in (rows, columns))
    top, left = (size - height) // 2, (size - width) // 2
    out = np.zeros((image.shape[0], size, size), dtype=np.float32)
    for number, plane in enumerate(image):
        resized = Image.fromarray(np.ascontiguousarray(plane)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        out[number, top : top + height, left : left + width] = np.asarray(resized)
    return out


def prepare(hu: Floats, config: BrainConfig, size: int) -> Floats:
    """Return one upright slice in HU as (channels, size, size) of [0, 1]."""
    cropped, _ = crop_to_skull_bbox(hu, config.skull_percentile, config.crop_pad)
    return letterbox(channels(cropped, config.windows), size)


def prepare_adjacent(before: Floats, hu: Floats, after: Floats, config: BrainConfig, size: int) -> Floats:
    """Return a slice between its neighbours, (3, size, size) of [0, 1], all cut by the box of the middle one."""
    _, (upper, lower, left, right) = crop_to_skull_bbox(hu, config.skull_percentile, config.crop_pad)
    planes = [
        channels((one if one.shape == hu.shape else hu)[upper:lower, left:right], config.windows)[0]
        for one in (before, hu, after)
    ]
    return letterbox(np.stack(planes), size)
