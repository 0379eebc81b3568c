"""Prepared slices on disk: read and prepared once, then mapped into memory by every training.

Belongs here: making the store, and reading slices from it. Bytes of the store are windowed values in 8 bits
(`imaging.windows.quantise`, within 1/510); its name is a digest of the files, the preparation and this code's version,
so that another window or size is another store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, parallel, progress
from ct_assets.errors import UsageError
from ct_assets.imaging.windows import dequantise, quantise
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import preprocess, slices
from ct_assets.systems.brain.features import worth_it

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CODE_VERSION = 1
"""Raised when the same file would be prepared into other bytes."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the RGB values that published weights saw (Deng 2009; torchvision's reference training)."""


@dataclass(frozen=True)
class Prepared:
    """The store of one data set under one preparation."""

    path: Path
    """A `.npy` of (slices, channels, size, size) in 8 bits."""
    row_of: dict[str, int]
    """Row by slice ID."""

    def array(self) -> Bytes:
        """Return the store, mapped: pages are read as they are asked for."""
        return np.load(self.path, mmap_mode="r")

    def read(self, identifier: str) -> Floats:
        """Return one slice as (channels, size, size) of [0, 1]."""
        return dequantise(np.asarray(self.array()[self.row_of[identifier]]))


@dataclass(frozen=True)
class _Job:
    path: Path
    before: Path | None
    """The neighbour towards the feet, for 2.5-D input."""
    after: Path | None


def prepare(
    table: pl.DataFrame, root: Path, config: BrainConfig, size: int, folder: Path, *, workers: int
) -> Prepared:
    """Prepare the usable slices of a feature table (files below `root`) unless they are there already.

    Raises `UsageError` where a file is no longer what the table says.
    """
    usable = table.filter(pl.col("ok") == 1).sort("id")
    key = files.digest_of(
        [CODE_VERSION, usable.select("id", "file_sha256").rows(), config.preparation(), size]
    )
    path = folder / f"{key[:32]}.npy"
    row_of = {identifier: row for row, identifier in enumerate(usable["id"])}
    if not path.exists():
        shape = (usable.height, preprocess.BANDS[config.windows], size, size)
        files.require_space(folder, int(np.prod(shape)), "prepared slices")
        _fill(path, shape, _jobs(usable, root, config), config, workers)
    return Prepared(path, row_of)


def _fill(
    path: Path, shape: tuple[int, ...], jobs: Sequence[_Job], config: BrainConfig, workers: int
) -> None:
    with files.atomic_path(path) as partial_path, progress.track("prepared", len(jobs)) as advance:
        store = np.lib.format.open_memmap(partial_path, mode="w+", dtype=np.uint8, shape=shape)
        one = partial(_prepare_one, config=config, size=shape[-1])
        done = parallel.map_ordered(
            one, jobs, workers=worth_it(len(jobs), workers), preload=("ct_assets.systems.brain.images",)
        )
        for row, image in enumerate(done):
            store[row] = image
            advance(1)
        store.flush()
        del store


def _prepare_one(job: _Job, config: BrainConfig, size: int) -> Bytes:
    try:
        hu = _upright(job.path)
        if config.windows != "brain_adjacent":
            return quantise(preprocess.prepare(hu, config, size))
        before, after = (hu if path is None else _upright(path) for path in (job.before, job.after))
    except (slices.SliceRefusedError, OSError):
        raise UsageError(
            f"{job.path.name}: could be read when the feature table was made and now cannot; make it again"
        ) from None
    return quantise(preprocess.prepare_adjacent(before, hu, after, config, size))


def _upright(path: Path) -> Floats:
    read = slices.read(path)
    return np.asarray(slices.upright(read.hu, read.orientation))


def _jobs(usable: pl.DataFrame, root: Path, config: BrainConfig) -> list[_Job]:
    neighbours = adjacent(usable) if config.windows == "brain_adjacent" else {}
    path_of = dict(usable.select("id", "path").iter_rows())
    jobs = []
    for identifier, path in usable.select("id", "path").iter_rows():
        before, after = neighbours.get(identifier, (None, None))
        jobs.append(
            _Job(
                root / path,
                None if before is None else root / path_of[before],
                None if after is None else root / path_of[after],
            )
        )
    return jobs


def adjacent(usable: pl.DataFrame) -> dict[str, tuple[str | None, str | None]]:
    """Return each slice's neighbours of its own series, by position along the normal; None at an end.

    A slice without series, position or orientation has none: they are never guessed from file names.
    """
    found: dict[str, tuple[str | None, str | None]] = {}
    placed = usable.filter(
        pl.col("series_id").is_not_null()
        & pl.col("position").is_not_null()
        & pl.col("orientation").is_not_null()
    )
    for (_,), series in placed.group_by("series_id", maintain_order=True):
        rows = series.select("id", "position", "orientation").rows()
        first = rows[0][2]
        normal = np.cross(first[:3], first[3:])
        ordered = sorted(rows, key=lambda row: (float(np.dot(row[1], normal)), row[0]))
        names = [None, *(row[0] for row in ordered), None]
        for place, row in enumerate(ordered, start=1):
            found[row[0]] = (names[place - 1], names[place + 1])
    return found


def network_input(image: Floats) -> Floats:
    """Return (channels, size, size) of [0, 1] as the network takes it: three channels, ImageNet's mean and deviation."""
    three = np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return np.asarray((three - mean) / std, dtype=np.float32)
