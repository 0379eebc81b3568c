"""From a preprocessed image to what a network takes: windows or scaled MR, background, slices in front.

Belongs here: the array steps. Does not: geometry (`neuro.preprocess`), tokens (`neuro.tokens`).

Volumes are (1, D, H, W) float32 of [0, 1]; masks are (1, D, H, W) uint8 with 1 for background, everywhere.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ct_assets.imaging.volume import Volume
from ct_assets.imaging.windows import WINDOWS
from ct_assets.settings.neuro import Mode, PreprocessingSettings, Stream
from ct_assets.systems.neuro.preprocess import slice_axis
from ct_assets.systems.neuro.tokens import PATCH

if TYPE_CHECKING:
    import SimpleITK

CT_WINDOWS: tuple[Stream, ...] = ("brain", "blood", "bone")
"""The three views of a CT, by their names in `ct_assets.imaging.windows`."""
MODES: tuple[Mode, ...] = ("ct", "mri")

Floats32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image ready for tokens."""

    streams: dict[Stream, Floats32]
    """(1, D, H, W) of [0, 1]: `brain`, `blood`, `bone` of a CT, `mri` of an MR image."""
    mask: Bytes
    """(1, D, H, W), 1 for background."""
    view: int
    """Axis of the (k, j, i) array along which the slices lay; it is in front now."""


def prepare_for_inference(
    img: "SimpleITK.Image",
    mode: str,
    z_dim: int | None = None,
    *,
    settings: PreprocessingSettings | None = None,
) -> tuple[list[torch.Tensor], torch.Tensor, int] | None:
    """Return `(img_arrs, mask, view)` of a preprocessed image, or None where it is smaller than one token.

    `img_arrs` are (1, D, H, W) float32 tensors of [0, 1]: brain, blood and bone window of a `ct`, one volume
    of an `mri` (clipped to its 0.5 and 99.5 percentiles; a constant image gives zeros). `mask` is of the same
    shape, uint8, 1 for background. `view` is the array axis of the slices, moved to the front. `z_dim` names
    the slice axis (0, 1, 2 for x, y, z); by default the spacing tells.

    Raises `ValueError` for a mode other than `ct` and `mri`.
    """
    from ct_assets.imaging import itk

    prepared = prepare(itk.volume_of(img), check_mode(mode), settings or PreprocessingSettings(), z_dim)
    if prepared is None:
        return None
    streams = [torch.from_numpy(stream) for stream in prepared.streams.values()]
    return streams, torch.from_numpy(prepared.mask), prepared.view


def check_mode(mode: str) -> Mode:
    """Return the mode in lower case. Raises `ValueError` for one that does not exist."""
    for known in MODES:
        if str(mode).lower() == known:
            return known
    raise ValueError(f"mode {mode!r}: use 'ct' or 'mri'")


def prepare(
    volume: Volume, mode: Mode, settings: PreprocessingSettings, z_dim: int | None = None
) -> Prepared | None:
    """Return the streams, background and view of a preprocessed volume; None where a token does not fit."""
    axis = slice_axis(volume.grid.spacing_mm, volume.grid.shape[::-1]) if z_dim is None else z_dim
    if axis not in (0, 1, 2):
        raise ValueError(f"z_dim {z_dim!r}: use 0, 1 or 2")
    view = 2 - axis
    values = np.ascontiguousarray(np.moveaxis(volume.array, view, 0), dtype=np.float32)
    if any(n < p for n, p in zip(values.shape, PATCH, strict=True)):
        return None
    if mode == "ct":
        streams = {name: WINDOWS[name].linear(values)[None] for name in CT_WINDOWS}
        background = values <= np.float32(settings.ct_background_hu)
    else:
        low, level, high = np.percentile(
            values,
            [
                settings.mri_clip_percentiles[0],
                settings.mri_background_percentile,
                settings.mri_clip_percentiles[1],
            ],
        )
        streams = {"mri": _scaled(values, float(low), float(high))[None]}
        background = values <= np.float32(level)
    if settings.fill_holes:
        background = _without_holes(background)
    return Prepared(streams, background.astype(np.uint8)[None], view)


def _scaled(values: Floats32, low: float, high: float) -> Floats32:
    """Clip to [low, high] and scale to [0, 1]; zeros where the two are one."""
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)


def _without_holes(background: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the background that reaches the border; what foreground encloses becomes foreground."""
    from scipy import ndimage

    return ~ndimage.binary_fill_holes(~background)
