"""Fingerprints: what one case is like, measured exactly in one pass, and how cases merge into a training set.

Belongs here: reading and checking a case's two files, its histograms and sizes, their cache by content, and
the merge. Does not: what follows for a plan (`learning.volumes.plan_rules`).

Intensities are counted in histograms of one bin a HU, so percentiles, mean and deviation of a merged set are
exact, not sampled, and any set of cases (a fold, say) is a sum of cases that were each read once.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import xxhash

from ct_assets import files, parallel, progress
from ct_assets.imaging import resample, values
from ct_assets.imaging.nifti_read import NiftiImage, NiftiRefused
from ct_assets.imaging.store import key_of
from ct_assets.imaging.volume import Volume
from ct_assets.tables import frame
from ct_assets.tables.folds import CaseChecks

CODE_VERSION = 2
"""Raised when a fingerprint of the same files would come out otherwise."""
INT16_LOW, INT16_HIGH = -32768, 32767
BODY_HU = -500
CODES_OF_VALUES = {
    "not_monochrome": "image_not_scalar",
    **{
        code: code
        for code in (
            "image_not_finite",
            "image_constant",
            "image_normalised",
            "implausible_extent",
            "single_slice",
            "label_not_integer",
            "label_out_of_range",
        )
    },
}
"""Refusals that a row names themselves; every other one is a file that cannot be read."""
GRID_TOLERANCE = 0.1
"""Mask and image corners may differ by so much of the smallest voxel side."""


class CaseFaultError(Exception):
    """A case that cannot be used: a code of `ct_assets.reasons` and what the file says."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Histogram:
    """Counts of integer HU from `low` on."""

    low: int
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.int16]) -> "Histogram":
        """Count every value."""
        counts = np.zeros(65536, dtype=np.int64)
        planes = values if values.ndim == 3 else [values]
        for plane in planes:
            counts += np.bincount(np.ascontiguousarray(plane).view(np.uint16).ravel(), minlength=65536)
        return cls(INT16_LOW, np.roll(counts, 32768)).trimmed()

    def trimmed(self) -> "Histogram":
        """Return the same counts without empty ends."""
        present = np.flatnonzero(self.counts)
        if not present.size:
            return Histogram(0, np.zeros(0, dtype=np.int64))
        return Histogram(self.low + int(present[0]), self.counts[present[0] : present[-1] + 1])

    def plus(self, other: "Histogram") -> "Histogram":
        """Return the counts of both."""
        if not self.total:
            return other
        if not other.total:
            return self
        low = min(self.low, other.low)
        counts = np.zeros(max(self.high, other.high) - low + 1, dtype=np.int64)
        for one in (self, other):
            counts[one.low - low : one.high - low + 1] += one.counts
        return Histogram(low, counts)

    @property
    def high(self) -> int:
        """The highest HU counted."""
        return self.low + len(self.counts) - 1

    @property
    def total(self) -> int:
        """How many voxels were counted."""
        return int(self.counts.sum())

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """The HU of each count."""
        return np.arange(self.low, self.low + len(self.counts))

    def above(self, hu: int) -> "Histogram":
        """Return the counts of values above `hu`."""
        kept = np.where(self.values > hu, self.counts, 0)
        return Histogram(self.low, kept).trimmed()

    def percentile(self, percent: float) -> float:
        """Return the exact percentile, interpolated as `numpy.percentile` does over all voxels."""
        place = percent / 100 * (self.total - 1)
        ends = np.cumsum(self.counts)
        below = int(np.floor(place))
        low = self.values[np.searchsorted(ends, below, side="right")]
        high = self.values[np.searchsorted(ends, min(below + 1, self.total - 1), side="right")]
        return float(low + (high - low) * (place - below))

    def mean(self) -> float:
        """Return the exact mean."""
        return float(self.values @ self.counts) / self.total

    def std(self) -> float:
        """Return the exact deviation (of the population)."""
        centred = self.values - self.mean()
        return float(np.sqrt((centred**2) @ self.counts / self.total))

    def summary(self) -> dict[str, float] | None:
        """Return the figures that people read, rounded to 6 decimals; None where nothing was counted."""
        if not self.total:
            return None
        percentiles = {f"p{p:g}": self.percentile(p) for p in (0.5, 5, 25, 50, 75, 95, 99.5)}
        figures = {"voxels": self.total, "mean": self.mean(), "std": self.std(), **percentiles}
        return {name: round(value, 6) for name, value in figures.items()}


@dataclass(frozen=True)
class Fingerprint:
    """One case, measured. Axes are those of the volume in LPS order."""

    image_digest: str
    label_digest: str | None
    pixel_digest: str
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    axes: str
    """Where the stored axes i, j, k run to, as in `LPS`."""
    image: Histogram
    foreground: Histogram
    label_voxels: dict[str, int]
    """Voxels by label value."""
    label_parts: int
    """Connected parts (26 neighbours) of all labels together."""
    voxel_ml: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        content = dict(self.__dict__)
        for name in ("image", "foreground"):
            histogram: Histogram = content[name]
            content[name] = {"low": histogram.low, "counts": histogram.counts.tolist()}
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Fingerprint":
        """Read what `to_json` made."""
        for name in ("image", "foreground"):
            content[name] = Histogram(content[name]["low"], np.array(content[name]["counts"], dtype=np.int64))
        for name in ("spacing_mm", "shape", "warnings"):
            content[name] = tuple(content[name])
        return cls(**content)


@dataclass(frozen=True)
class Case:
    """A case's two files."""

    case_id: str
    patient_id: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Checked:
    """What became of one case: its fingerprint, or the fault."""

    case: Case
    fingerprint: Fingerprint | None
    fault: tuple[str, str] | None


def cases_of(manifest: pl.DataFrame, root: Path) -> list[Case]:
    """Return the manifest's cases in the order of their identifiers; paths are relative to `root`."""
    return [
        Case(
            row["case_id"],
            row["patient_id"],
            root / row["image"],
            root / row["label"] if row.get("label") else None,
        )
        for row in manifest.sort("case_id").iter_rows(named=True)
    ]


def check(manifest: pl.DataFrame, root: Path, store_dir: Path, workers: int) -> list[Checked]:
    """Fingerprint every case of the manifest, each content once: what is cached is not read again."""
    cases = cases_of(manifest, root)
    known: dict[str, Checked | None] = {case.case_id: _remembered(case, store_dir) for case in cases}
    unread = [case for case in cases if known[case.case_id] is None]
    with progress.track("fingerprints", len(unread)) as advance:
        fewer = min(workers, len(unread))
        for made in parallel.map_ordered(partial(_checked, store_dir=store_dir), unread, workers=fewer):
            known[made.case.case_id] = made
            advance(1)
    return [one for case in cases if (one := known[case.case_id]) is not None]


def check_table(checked: list[Checked]) -> pl.DataFrame:
    """Return the outcome of `check` as the table `CaseChecks`."""
    rows = []
    for one in checked:
        print_ = one.fingerprint
        rows.append(
            {
                "case_id": one.case.case_id,
                "patient_id": one.case.patient_id,
                "is_usable": print_ is not None,
                "reasons": list(print_.warnings) if print_ else [one.fault[0]] if one.fault else [],
                "detail": one.fault[1] if one.fault else None,
                "image_digest": print_.image_digest if print_ else None,
                "label_digest": print_.label_digest if print_ else None,
                "pixel_digest": print_.pixel_digest if print_ else None,
            }
        )
    return frame(rows, CaseChecks)


@dataclass(frozen=True)
class ReadCase:
    """A case in memory: int16 HU and uint8 labels on one grid, in LPS axis order."""

    image: Volume
    label: Volume | None
    axes: str
    """Where the stored axes i, j, k run to, as in `LPS`."""
    warnings: tuple[str, ...]


def read_case(case: Case) -> ReadCase:
    """Read both files of a case.

    Raises `CaseFaultError` for files that are missing, unreadable or do not belong together.
    """
    read = _read(case.image, "image")
    image = read.volume
    hu, clipped = _as_int16(image.array)
    warnings = [*read.warnings, *clipped]
    label = None
    if case.label is not None:
        mask = _read(case.label, "label")
        if not mask.volume.grid.same_as(image.grid, tolerance_mm=GRID_TOLERANCE * min(image.grid.spacing_mm)):
            raise CaseFaultError(
                "label_grid_mismatch",
                f"image {image.grid.shape} and mask {mask.volume.grid.shape} do not lie on the same grid",
            )
        label = resample.oriented(Volume(mask.volume.array, image.grid))
        warnings += mask.warnings
    volume = resample.oriented(Volume(hu, image.grid))
    return ReadCase(volume, label, resample.axes_name(image.grid), tuple(dict.fromkeys(warnings)))


def file_digest(path: Path, store_dir: Path) -> str:
    """Return XXH3-128 of a file's bytes; unchanged files (inode, size, times) are not read again."""
    remembered = _remembered_digest(path, store_dir)
    if remembered is not None:
        return remembered
    status = _status(path)
    hasher = xxhash.xxh3_128()
    with path.open("rb") as opened:
        while piece := opened.read(1 << 24):
            hasher.update(piece)
    digest = hasher.hexdigest()
    files.write_bytes(_memo(path, store_dir), orjson.dumps({"status": status, "digest": digest}))
    return digest


def _remembered_digest(path: Path, store_dir: Path) -> str | None:
    try:
        held = orjson.loads(_memo(path, store_dir).read_bytes())
    except (OSError, ValueError):
        return None
    return str(held["digest"]) if held["status"] == _status(path) else None


def _memo(path: Path, store_dir: Path) -> Path:
    return store_dir / "seen" / f"{key_of(str(path.absolute()))}.json"


def _status(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _remembered(case: Case, store_dir: Path) -> Checked | None:
    """Return what is already known of a case whose files have not changed."""
    try:
        image = _remembered_digest(case.image, store_dir)
        label = _remembered_digest(case.label, store_dir) if case.label else None
    except OSError:
        return None
    if image is None or (case.label is not None and label is None):
        return None
    known = _from_cache(image, label, store_dir)
    return Checked(case, known, None) if known is not None else None


def _from_cache(image_digest: str, label_digest: str | None, store_dir: Path) -> Fingerprint | None:
    try:
        return Fingerprint.from_json(orjson.loads(_cache(image_digest, label_digest, store_dir).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cache(image_digest: str, label_digest: str | None, store_dir: Path) -> Path:
    return store_dir / "fingerprints" / f"{key_of(CODE_VERSION, image_digest, label_digest)}.json"


def _checked(case: Case, store_dir: Path) -> Checked:
    try:
        return Checked(case, _cached(case, store_dir), None)
    except CaseFaultError as fault:
        return Checked(case, None, (fault.code, fault.detail))


def _cached(case: Case, store_dir: Path) -> Fingerprint:
    digests: list[str | None] = []
    for what, path in (("image", case.image), ("label", case.label)):
        try:
            digests.append(None if path is None else file_digest(path, store_dir))
        except FileNotFoundError:
            raise CaseFaultError(f"{what}_missing", f"{path.name if path else ''}: no such file") from None
        except OSError as error:
            raise CaseFaultError(f"{what}_unreadable", type(error).__name__) from None
    image_digest, label_digest = str(digests[0]), digests[1]
    known = _from_cache(image_digest, label_digest, store_dir)
    if known is not None:
        return known
    made = measure(case, image_digest, label_digest)
    files.write_bytes(_cache(image_digest, label_digest, store_dir), orjson.dumps(made.to_json()))
    return made


def measure(case: Case, image_digest: str, label_digest: str | None) -> Fingerprint:
    """Measure one case. Raises `CaseFaultError`."""
    read = read_case(case)
    array, label = read.image.array.astype(np.int16, copy=False), read.label
    warnings = list(read.warnings)
    foreground = Histogram(0, np.zeros(0, dtype=np.int64))
    voxels: dict[str, int] = {}
    parts = 0
    if label is not None:
        filled = resample.filled_box(label.array)
        if filled is None:
            warnings.append("label_empty")
        else:
            inside = label.array[filled].astype(np.uint8, copy=False)
            values, counts = np.unique(inside[inside > 0], return_counts=True)
            voxels = {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)}
            foreground = Histogram.of(array[filled][inside > 0])
            parts = _parts(inside)
            if sum(counts) == array.size:
                warnings.append("label_everywhere")
    return Fingerprint(
        image_digest,
        label_digest,
        _pixel_digest(array),
        _rounded(read.image.grid.spacing_mm),
        read.image.grid.shape,
        read.axes,
        Histogram.of(array),
        foreground,
        voxels,
        parts,
        read.image.grid.voxel_volume_ml,
        tuple(warnings),
    )


@dataclass(frozen=True)
class Merged:
    """A set of cases as one: what a plan may know."""

    cases: int
    spacing_mm: npt.NDArray[np.float64]  # (cases, 3): x, y, z
    shape: npt.NDArray[np.int64]  # (cases, 3): k, j, i
    axes: dict[str, int]
    image: Histogram
    foreground: Histogram
    label_ml: dict[str, list[float]]
    label_parts: list[int]
    masks: int

    def summary(self) -> dict[str, Any]:
        """Return the figures that people read, as JSON values."""
        return {
            "cases": self.cases,
            "masks": self.masks,
            "axes": self.axes,
            "spacing_mm": {
                name: _spread(self.spacing_mm[:, place]) for place, name in enumerate(("x", "y", "z"))
            },
            "shape": {name: _spread(self.shape[:, place]) for place, name in enumerate(("k", "j", "i"))},
            "image_hu": self.image.summary(),
            "body_hu": self.image.above(BODY_HU).summary(),
            "foreground_hu": self.foreground.summary(),
            "background_hu": self.background().summary(),
            "label_ml": {label: _spread(np.array(found)) for label, found in self.label_ml.items()},
            "label_cases": {label: len(found) for label, found in self.label_ml.items()},
            "label_parts": _spread(np.array(self.label_parts)) if self.label_parts else None,
        }

    def background(self) -> Histogram:
        """Return the counts of voxels that no mask covers."""
        if not self.foreground.total:
            return self.image
        counts = self.image.counts.copy()
        start = self.foreground.low - self.image.low
        counts[start : start + len(self.foreground.counts)] -= self.foreground.counts
        return Histogram(self.image.low, counts).trimmed()


def merge(prints: list[Fingerprint]) -> Merged:
    """Merge cases into what is known of a set of them; the order does not matter."""
    empty = Histogram(0, np.zeros(0, dtype=np.int64))
    image, foreground = empty, empty
    for one in prints:
        image, foreground = image.plus(one.image), foreground.plus(one.foreground)
    spacing = np.array([one.spacing_mm for one in prints])
    shape = np.array([one.shape for one in prints])
    volumes: dict[str, list[float]] = {}
    for one in prints:
        for label, count in one.label_voxels.items():
            volumes.setdefault(label, []).append(count * one.voxel_ml)
    return Merged(
        cases=len(prints),
        spacing_mm=spacing,
        shape=shape,
        axes=dict(sorted(Counter(one.axes for one in prints).items())),
        image=image,
        foreground=foreground,
        label_ml={label: sorted(found) for label, found in sorted(volumes.items())},
        label_parts=sorted(one.label_parts for one in prints if one.label_digest),
        masks=sum(one.label_digest is not None for one in prints),
    )


def _spread(values: npt.NDArray[Any]) -> dict[str, float]:
    named = zip(("min", "median", "max"), np.percentile(values, [0, 50, 100]), strict=True)
    return {name: round(float(value), 6) for name, value in named}


def _read(path: Path, what: str) -> NiftiImage:
    """Read one file of a case as `predict` reads it: an image in HU, or a mask of whole labels."""
    try:
        if what == "image":
            return values.read_ct(path)
        return values.read_labels(path)
    except FileNotFoundError:
        raise CaseFaultError(f"{what}_missing", f"{path.name}: no such file") from None
    except NiftiRefused as refusal:
        code = CODES_OF_VALUES.get(refusal.code, f"{what}_unreadable")
        raise CaseFaultError(code, refusal.detail) from None
    except Exception as error:  # whatever is wrong with one file is a row, never the end of the run
        raise CaseFaultError(f"{what}_unreadable", type(error).__name__) from None


def _as_int16(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
    """Return HU as int16, and a warning where values did not fit."""
    if array.dtype == np.int16:
        return array.astype(np.int16, copy=False), ()
    low, high = float(array.min()), float(array.max())
    warnings = ("image_clipped_to_int16",) if low < INT16_LOW or high > INT16_HIGH else ()
    hu = np.empty(array.shape, dtype=np.int16)
    for k, plane in enumerate(array):
        hu[k] = np.rint(np.clip(plane, INT16_LOW, INT16_HIGH))
    return hu, warnings


def _parts(inside: npt.NDArray[np.uint8]) -> int:
    from scipy import ndimage

    everywhere = np.ones((3, 3, 3))
    return sum(
        int(ndimage.label(inside == label, structure=everywhere)[1])
        for label in np.unique(inside[inside > 0])
    )


def _pixel_digest(array: npt.NDArray[np.int16]) -> str:
    hasher = xxhash.xxh3_128(str(array.shape).encode())
    for plane in array:
        hasher.update(np.ascontiguousarray(plane).data)
    return hasher.hexdigest()


def _rounded(spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    """Round to 6 decimals: NIfTI keeps affines in 32 bits, whose noise is no difference in spacing."""
    x, y, z = (round(size, 6) for size in spacing)
    return x, y, z
