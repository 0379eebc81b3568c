"""What the viewer can open: cases with their masks and predictions, and the results of inference.

Belongs here: from a key to files below the data root, the findings of a mask, the neighbours of a case. Does not:
routes and pages (`serving.viewer`), the table of all cases (`serving.gallery`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from ct_assets import files, paths
from ct_assets.layout import Layout

IMAGE_NAME, MASK_NAME = "image.nii.gz", "mask.nii.gz"
NIFTI_SUFFIX = ".nii.gz"
KEY_SEPARATOR = "~"
"""Between the folders of a result's key: a key is one segment of an address."""
MOST_FINDINGS = 100
MASK_CACHE = 64

Millimetres = tuple[float, float, float]


class NotViewableError(KeyError):
    """No item has this key, or its files are gone."""


@dataclass(frozen=True)
class Mask:
    """A mask on the grid of an image."""

    key: str
    title: str
    path: Path
    is_prediction: bool = False


@dataclass(frozen=True)
class Finding:
    """A connected part of a mask."""

    mask: str
    label: int
    """Value of the mask in it."""
    center_ras_mm: Millimetres
    """A voxel of the part, the nearest to its centroid; right, anterior, superior in mm, as NIfTI."""
    volume_ml: float


@dataclass(frozen=True)
class Item:
    """An image that the viewer opens, with its masks."""

    key: str
    title: str
    image: Path
    masks: tuple[Mask, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    """What the page tells of it; no identity beyond the pseudonym."""
    page: str | None = None
    """Its page below `reports/`."""


class Collection(Protocol):
    """Items under one name in the viewer's addresses."""

    title: str

    def keys(self) -> list[str]:
        """Return the keys of all items, in the order of next and previous."""

    def item(self, key: str) -> Item:
        """Return one item. Raises `NotViewableError`."""


class Cases:
    """The cohort's cases: image, reference mask, and the predicted masks of every experiment."""

    title = "Cases"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def keys(self) -> list[str]:
        """Return the converted cases by number."""
        if not self._layout.nifti_digests.exists():
            return []
        table = pl.read_parquet(self._layout.nifti_digests, columns=["case_id", "status"])
        return sorted(table.filter(pl.col("status") == "converted")["case_id"])

    def item(self, key: str) -> Item:
        """Return a case; its files are those that the tables name."""
        layout = self._layout
        if key not in self.keys():
            raise NotViewableError(key)
        row = pl.read_parquet(layout.nifti_digests).filter(pl.col("case_id") == key).row(0, named=True)
        masks = [Mask("reference", "reference", inside(layout.root, row["label"]))]
        masks += _predicted_masks(layout, key)
        facts = {
            "patient": row["patient_id"],
            "tumour": f"{row['tumour_volume_ml']:.2f} ml",
            "spacing": " × ".join(f"{step:.3g}" for step in row["spacing_mm"]) + " mm",
            "warnings": ", ".join(row["warnings"]) or "none",
        }
        if layout.cohort_manifest.exists():
            manifest = pl.read_parquet(layout.cohort_manifest).filter(pl.col("case_id") == key)
            for case in manifest.iter_rows(named=True):
                facts["TNM stage"] = case["stage"]
                facts["split"] = "test" if case["split"] == "test" else f"fold {case['fold']}"
        return Item(
            key, key, inside(layout.root, row["image"]), tuple(masks), facts, page=f"cases/{key}.html"
        )


def _predicted_masks(layout: Layout, case_id: str) -> Iterator[Mask]:
    """Return the masks that experiments predicted for a case: out of fold, or by the final model on the test split."""
    for path in sorted((layout.root / "models").glob("*/*predictions.parquet")) + sorted(
        (layout.root / "models").glob("*/*/predictions.parquet")
    ):
        experiment = path.relative_to(layout.root / "models").parts[0]
        table = pl.read_parquet(path, columns=["case_id", "mask", "fold"]).filter(
            pl.col("case_id") == case_id
        )
        for row in table.iter_rows(named=True):
            by = "final model" if row["fold"] is None else f"fold {row['fold']}"
            mask = inside(layout.root, row["mask"])
            if mask.exists():
                yield Mask(f"{experiment}-{row['fold'] or 'final'}", f"{experiment}, {by}", mask, True)


class Results:
    """Folders of inference results below `root`: each with `image.nii.gz` and `mask.nii.gz`."""

    title = "Inference results"

    def __init__(self, root: Path) -> None:
        self._root = root

    def keys(self) -> list[str]:
        """Return the folders that hold an image and a mask, by path."""
        return sorted(
            KEY_SEPARATOR.join(path.parent.relative_to(self._root).parts)
            for path in self._root.rglob(MASK_NAME)
            if path.with_name(IMAGE_NAME).is_file() and path.parent != self._root
        )

    def item(self, key: str) -> Item:
        """Return a result; a key with anything but names of folders is refused."""
        try:
            folder = inside(self._root, *paths.below(Path(), *key.split(KEY_SEPARATOR)).parts)
        except paths.UnsafeNameError:
            raise NotViewableError(key) from None
        if not (folder / IMAGE_NAME).is_file() or not (folder / MASK_NAME).is_file():
            raise NotViewableError(key)
        facts = {}
        if (folder / "stage.json").is_file():
            stage: dict[str, Any] = files.read_json(folder / "stage.json")
            facts["predicted TNM stage"] = str(stage.get("predicted") or "none")
        mask = Mask(
            "predicted",
            "predicted",
            inside(self._root, *folder.relative_to(self._root).parts, MASK_NAME),
            True,
        )
        return Item(key, folder.name, folder / IMAGE_NAME, (mask,), facts)


def inside(root: Path, *parts: str) -> Path:
    """Return a path below `root` with all links followed. Raises `NotViewableError` where it leads out of it."""
    home = root.resolve()
    path = home.joinpath(*parts).resolve()
    if not path.is_relative_to(home):
        raise NotViewableError(parts[-1])
    return path


def neighbours(collection: Collection, key: str) -> tuple[str | None, str | None]:
    """Return the keys before and after one; null at the ends."""
    keys = collection.keys()
    if key not in keys:
        return None, None
    at = keys.index(key)
    return (keys[at - 1] if at else None), (keys[at + 1] if at + 1 < len(keys) else None)


def findings(mask: Mask) -> list[Finding]:
    """Return the connected parts (26 neighbours) of a mask, the largest first, at most `MOST_FINDINGS`."""
    return [
        Finding(mask.key, label, center, volume)
        for label, center, volume in _parts(mask.path, mask.path.stat().st_mtime_ns)
    ]


def voxel_of_ras_mm(image: Path) -> list[list[float]]:
    """Return the matrix (4 x 4, rows first) from RAS millimetres to voxels i, j, k of the file."""
    import nibabel
    import numpy as np

    return np.linalg.inv(nibabel.Nifti1Image.from_filename(image).affine).tolist()


@lru_cache(maxsize=MASK_CACHE)
def _parts(path: Path, _changed_ns: int) -> tuple[tuple[int, Millimetres, float], ...]:
    import nibabel
    import numpy as np
    from scipy import ndimage

    image = nibabel.Nifti1Image.from_filename(path)
    array = np.asarray(image.dataobj)
    occupied = ndimage.find_objects((array > 0).astype(np.uint8))
    if not occupied or occupied[0] is None:
        return ()
    box = occupied[0]
    first = np.array([axis.start for axis in box])
    part = array[box]
    numbered, count = ndimage.label(part > 0, structure=np.ones((3, 3, 3)))
    voxel_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000.0
    sizes = ndimage.sum_labels(np.ones(part.shape, np.uint8), numbered, np.arange(1, count + 1))
    rows = []
    for number in np.argsort(-sizes, kind="stable")[:MOST_FINDINGS] + 1:
        voxels = np.argwhere(numbered == number)
        nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        x, y, z = image.affine[:3, :3] @ (nearest + first) + image.affine[:3, 3]
        center = (round(float(x), 2), round(float(y), 2), round(float(z), 2))
        rows.append((int(part[tuple(nearest)]), center, round(len(voxels) * voxel_ml, 4)))
    return tuple(rows)
