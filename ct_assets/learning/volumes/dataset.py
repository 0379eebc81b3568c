"""A fold's cases as network input: whole volumes and foreground-balanced patches.

Belongs here: reading from the store, normalising by the plan, choosing patches, seeding. Does not: augmenting
(`learning.volumes.augment`), making the store's entries (`learning.volumes.fold_volumes`).

Everything random in an item follows from (seed, epoch, index) alone, so it does not depend on which worker
makes it, how many there are, or in what order. Items are in the order of case identifiers.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.utils.data import Dataset

from ct_assets.imaging.store import Store, Stored
from ct_assets.learning.volumes.plan import Plan

NO_STAGE = -1
MOST_OPEN = 64
"""So many entries are held open by one process; an open entry is a mapped file, not memory."""

Augment = Callable[[dict[str, Any], int], dict[str, Any]]
"""Takes an item and a seed, returns the item changed; image, label and points move together."""


def load_case(
    row: Mapping[str, Any], plan: Plan, store_dir: Path, stages: Sequence[str] = ()
) -> dict[str, Any]:
    """Return one case whole, ready for the network.

    `row` is one of the table `FoldVolumes`. The item holds `image` float32 (1, k, j, i) normalised by the plan,
    `label` uint8 (1, k, j, i), `has_label`, `stage` (place in `stages`, or -1), `has_stage`, `case_id`,
    `patient_id` and `affine_lps` (4 x 4 float64, from (i, j, k, 1) to LPS mm).
    """
    store = Store(store_dir)
    image = store.open(row["image_key"])
    array = image.array()
    label = store.open(row["label_key"]).array() if row["label_key"] else np.zeros(array.shape, np.uint8)
    return {
        "image": torch.from_numpy(_normalised(array, image, plan)[None]),
        "label": torch.from_numpy(label[None]),
        **_facts(row, stages),
        "affine_lps": torch.from_numpy(image.grid.affine_lps.copy()),
    }


class CaseDataset(Dataset[dict[str, Any]]):
    """Whole volumes of one role of a fold, in the order of case identifiers."""

    def __init__(
        self, volumes: pl.DataFrame, plan: Plan, store_dir: Path, *, role: str, stages: Sequence[str] = ()
    ) -> None:
        self.rows = volumes.filter(pl.col("role") == role).sort("case_id").to_dicts()
        self.plan, self.store_dir, self.stages = plan, store_dir, tuple(stages)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return load_case(self.rows[index], self.plan, self.store_dir, self.stages)


class PatchDataset(Dataset[dict[str, Any]]):
    """Patches of one role of a fold: `patches_per_case` of each case an epoch.

    Of all patches the share `foreground` is centred on a mask voxel (first a label is drawn, then one of its
    voxels, so that rare labels are as frequent as common ones), evenly over cases and epochs; the others lie
    anywhere. Cases without a mask give patches anywhere. An item is that of `load_case` with patches in place
    of volumes, and `start_kji`, the patch's first voxel. `points_lps`, by case, are carried as `points`: (n, 3)
    continuous (k, j, i) positions in the patch.
    """

    def __init__(
        self,
        volumes: pl.DataFrame,
        plan: Plan,
        store_dir: Path,
        *,
        role: str = "train",
        patch_size: tuple[int, int, int] | None = None,
        patches_per_case: int = 1,
        foreground: float = 0.5,
        seed: int = 0,
        augment: Augment | None = None,
        stages: Sequence[str] = (),
        points_lps: Mapping[str, npt.NDArray[np.float64]] | None = None,
    ) -> None:
        self.rows = volumes.filter(pl.col("role") == role).sort("case_id").to_dicts()
        self.plan, self.stages = plan, tuple(stages)
        self.patch_size = patch_size or plan.patch_size
        self.patches_per_case, self.foreground, self.seed = patches_per_case, foreground, seed
        self.augment, self.points_lps = augment, points_lps
        self._store = Store(store_dir)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._open: dict[str, Stored] = {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; also seen by workers that live on from the epoch before."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.rows) * self.patches_per_case

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.item(index, int(self._epoch[0]))

    def item(self, index: int, epoch: int) -> dict[str, Any]:
        """Return the item of an index in an epoch, whatever epoch is chosen."""
        number, draw = divmod(index, self.patches_per_case)
        row = self.rows[number]
        random = np.random.default_rng([self.seed, epoch, index])
        image = self._entry(row["image_key"])
        mask = self._entry(row["label_key"]) if row["label_key"] else None
        turn = (epoch * self.patches_per_case + draw) + number
        start = self._start(random, image, mask, turn)
        hu = image.read(start, self.patch_size, self.plan.resampling.outside_hu)
        label = np.zeros(self.patch_size, np.uint8) if mask is None else mask.read(start, self.patch_size, 0)
        item: dict[str, Any] = {
            "image": torch.from_numpy(_normalised(hu, image, self.plan)[None]),
            "label": torch.from_numpy(np.ascontiguousarray(label)[None]),
            **_facts(row, self.stages),
            "start_kji": torch.tensor(start),
        }
        if self.points_lps is not None:
            here = image.grid.index(self.points_lps.get(row["case_id"], np.zeros((0, 3))))[:, ::-1]
            item["points"] = torch.from_numpy((here - np.array(start)).astype(np.float32))
        if self.augment is not None:
            item = self.augment(item, int(random.integers(2**31)))
        return item

    def _entry(self, key: str) -> Stored:
        if key not in self._open:
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[key] = self._store.open(key)
        return self._open[key]

    def _start(
        self, random: np.random.Generator, image: Stored, mask: Stored | None, turn: int
    ) -> tuple[int, int, int]:
        """Return the first voxel of a patch; it lies within the volume as far as the volume is large enough."""
        points = mask.facts["points"] if mask is not None else {}
        wants_foreground = int((turn + 1) * self.foreground) > int(turn * self.foreground)
        room = [size - side for size, side in zip(image.shape, self.patch_size, strict=True)]
        if points and wants_foreground:
            label = sorted(points, key=int)[int(random.integers(len(points)))]
            voxel = points[label][int(random.integers(len(points[label])))]
            centre = np.unravel_index(voxel, image.shape)
            jitter = [int(random.integers(-side // 4, side // 4 + 1)) for side in self.patch_size]
            start = [
                int(middle) - side // 2 + shift
                for middle, side, shift in zip(centre, self.patch_size, jitter, strict=True)
            ]
            start = [
                min(max(low, min(0, space)), max(0, space)) for low, space in zip(start, room, strict=True)
            ]
        else:
            start = [int(random.integers(min(0, space), max(0, space) + 1)) for space in room]
        return start[0], start[1], start[2]

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a worker process takes the dataset."""
        return {**self.__dict__, "_open": {}}


def _normalised(hu: npt.NDArray[Any], entry: Stored, plan: Plan) -> npt.NDArray[np.float32]:
    return plan.intensity.normalise(hu, entry.facts["mean_hu"], entry.facts["std_hu"])


def _facts(row: Mapping[str, Any], stages: Sequence[str]) -> dict[str, Any]:
    stage = row["stage"]
    return {
        "has_label": row["label_key"] is not None,
        "stage": stages.index(stage) if stage in stages else NO_STAGE,
        "has_stage": stage in stages,
        "case_id": row["case_id"],
        "patient_id": row["patient_id"],
    }
