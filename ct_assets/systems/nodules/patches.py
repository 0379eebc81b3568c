"""Windows for training: cut from volumes with their targets, as a function of seed and position.

Belongs here: which windows a step sees, and their arrays. Does not: targets of one grid (`targets`), losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ct_assets.imaging.volume import Grid
from ct_assets.imaging.windows import window as window_of
from ct_assets.learning.volumes.augment import Augmentation
from ct_assets.systems.nodules import volumes
from ct_assets.systems.nodules.targets import targets

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

AIR_HU, HIGH_HU = -1000, 400
"""What the network sees as 0 and 1."""
AUGMENTED_HU = 300.0
"""The shared augmentation's noise and shifts are meant for images in units of about so many HU."""
NEAR_SHARE = 0.25
"""A positive window's middle lies within this share of its side from a nodule's centre, along each axis."""


@dataclass(frozen=True, eq=False)
class NoduleCase:
    """A scan to learn from or to validate on, on the network's grid."""

    scan: str
    image: volumes.Image
    """HU."""
    centres_lps: Floats
    """(nodules, 3)."""
    diameters_mm: Floats
    """(nodules, 3); NaN where a diameter is not known."""
    mask: volumes.Image | None = None
    """Not 0 in nodules, on the image's grid; null where nobody outlined."""
    is_urgent: Floats = field(default_factory=lambda: np.empty(0))
    """1, 0 or NaN (not known) of each nodule; empty where none is known."""
    has_centres: bool = True
    """False where it is not known where nodules are."""
    patient: str = ""
    lungs: volumes.Image | None = None
    """The lung mask on the image's grid, where there is one; only detectors read it."""


@dataclass(frozen=True)
class Windows:
    """Batches of windows by absolute position: the same position, the same windows."""

    cases: Sequence[NoduleCase]
    patch_size: tuple[int, int, int]
    windows: int = 16
    """Windows of a volume; a batch is one volume's."""
    positive_share: float = 0.5
    """Share of windows at a nodule, where the volume has one."""
    seed: int = 0
    augment: bool = False

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        epoch, place = divmod(position, len(self.cases))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.cases))
        case = self.cases[order[place]]
        rng = np.random.default_rng([self.seed, epoch, place, 1])
        positive = round(self.windows * self.positive_share) if len(case.centres_lps) else 0
        starts = [self._start(case, rng, is_positive=number < positive) for number in range(self.windows)]
        seeds = rng.integers(0, 2**31, self.windows).tolist() if self.augment else [None] * self.windows
        cut = [
            window(case, start, self.patch_size, augment=seed)
            for start, seed in zip(starts, seeds, strict=True)
        ]
        return {name: torch.from_numpy(np.stack([one[name] for one in cut])) for name in cut[0]}

    def _start(
        self, case: NoduleCase, rng: np.random.Generator, *, is_positive: bool
    ) -> tuple[int, int, int]:
        side, shape = np.array(self.patch_size), np.array(case.image.grid.shape)
        room = np.maximum(shape - side, 0)
        start = rng.integers(0, room + 1)
        if is_positive:
            centre = case.image.grid.index(case.centres_lps[rng.integers(len(case.centres_lps))])[::-1]
            jitter = rng.uniform(-NEAR_SHARE, NEAR_SHARE, 3) * side
            start = np.clip(np.rint(centre + jitter - (side - 1) / 2).astype(int), 0, room)
        k, j, i = start.tolist()
        return k, j, i


def window(
    case: NoduleCase,
    start: tuple[int, int, int],
    side: tuple[int, int, int],
    *,
    augment: int | None = None,
) -> dict[str, Singles]:
    """Return image and targets of one window, (channels, k, j, i); beyond the volume there is air.

    With a seed to `augment`, image, mask, centres and diameters change together. Axes are then taken to be orthogonal
    and of equal steps, as those of the network's grid are.
    """
    image = scaled(volumes.read(case.image, start, side, AIR_HU))
    mask = np.zeros(side, np.float32)
    if case.mask is not None:
        mask = volumes.read(case.mask, start, side, 0).astype(bool).astype(np.float32)
    places = case.image.grid.index(case.centres_lps)[:, ::-1] - start
    diameters = case.diameters_mm
    if augment is not None:
        image, mask, places, scale = _augmented(image, mask, places, augment)
        diameters = diameters * scale
    affine = case.image.grid.affine_lps.copy()
    affine[:3, 3] = 0
    grid = Grid(side, affine)
    centres = grid.world(places[:, ::-1])
    made = targets(grid, centres, diameters)
    return {
        "image": image[None],
        "mask": mask[None],
        "heat": made.heat[None],
        "offset": made.offset,
        "size_mm": made.size_mm,
        "is_centre": made.is_centre[None].astype(np.float32),
        "triage": _triage(case, grid, centres, made.is_centre)[None],
        "has_mask": np.array(case.mask is not None, dtype=np.float32),
        "has_centres": np.array(case.has_centres, dtype=np.float32),
    }


def _augmented(
    image: Singles, mask: Singles, places: Floats, seed: int
) -> tuple[Singles, Singles, Floats, float]:
    """Return image, mask and places (k, j, i) changed alike, and by how much lengths grew."""
    units = (HIGH_HU - AIR_HU) / AUGMENTED_HU
    # Four more points tell which affine it was.
    points = np.concatenate([places, np.zeros((1, 3)), np.eye(3)])
    changed = Augmentation(0.0)(
        {
            "image": torch.from_numpy(image * units)[None],
            "label": torch.from_numpy(mask)[None],
            "points": torch.from_numpy(points),
        },
        seed,
    )
    moved = changed["points"].numpy().astype(np.float64)
    steps = moved[-3:] - moved[-4]
    return (
        np.clip(changed["image"][0].numpy() / units, 0, 1).astype(np.float32),
        changed["label"][0].numpy().astype(np.float32),
        moved[:-4],
        float(np.cbrt(abs(np.linalg.det(steps)))),
    )


def scaled(hu: npt.NDArray[np.generic]) -> Singles:
    """Return HU as the network sees them: 0 at -1000 and below, 1 at 400 and above; NaN is air."""
    return window_of("triage").linear(np.nan_to_num(np.asarray(hu, dtype=np.float32), nan=AIR_HU))


def _triage(case: NoduleCase, grid: Grid, centres: Floats, is_centre: npt.NDArray[np.bool_]) -> Singles:
    """Return the urgency of the nearest nodule at each centre, NaN elsewhere."""
    result = np.full(grid.shape, np.nan, dtype=np.float32)
    voxels = np.argwhere(is_centre)
    if len(voxels) and len(case.is_urgent):
        away = grid.world(voxels[:, ::-1].astype(np.float64))[:, None] - centres[None]
        result[is_centre] = case.is_urgent[np.linalg.norm(away, axis=-1).argmin(axis=1)]
    return result
