"""LUNA16's own files: findings, excluded findings, candidates, and the ten given subsets.

Belongs here: what their rows mean, and the reason of every row that is left out. Does not: the CSV itself
(`tables.supplied`), evaluation (`froc`). World coordinates are LPS millimetres.

A candidate of class 1 repeats a finding, so it is never a finding of its own; one of class 0 is a hard negative unless
it lies on a finding or an excluded finding.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.detection import UNKNOWN_DIAMETER_MM
from ct_assets.tables import supplied

Floats = npt.NDArray[np.float64]

COORDINATES = ("coordX", "coordY", "coordZ")
SUBSETS = 10
IMAGES = (".mhd", ".mha", ".nii.gz", ".nii")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", re.ASCII)
_SUBSET = re.compile(r"(?:subset)?([0-9])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class LeftOutRow:
    """A row or file that is not used."""

    file: str
    line: int | None
    """Line of the file; null where a whole file is left out."""
    reason: str
    """Code of `ct_assets.reasons`."""


@dataclass(frozen=True, eq=False)
class Points:
    """The rows of a file that are used."""

    series_uid: list[str]
    centre_mm: Floats
    """(rows, 3), LPS."""
    diameter_mm: Floats
    """Negative where it is not known; NaN for candidates."""
    line: list[int]

    def __len__(self) -> int:
        return len(self.line)

    def only(self, keep: npt.NDArray[np.bool_]) -> "Points":
        """Return the rows that are kept."""
        at = np.flatnonzero(keep).tolist()
        return Points(
            [self.series_uid[row] for row in at],
            self.centre_mm[keep],
            self.diameter_mm[keep],
            [self.line[row] for row in at],
        )


@dataclass(frozen=True, eq=False)
class Annotations:
    """What LUNA16's files say of the series."""

    findings: Points
    excluded: Points
    hard_negatives: Points
    left_out: tuple[LeftOutRow, ...]


@dataclass(frozen=True)
class Subsets:
    """The given folds of a data set, by series."""

    of_series: Mapping[str, int]
    left_out: tuple[LeftOutRow, ...] = ()
    split_patients: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Patients whose series lie in several subsets, and which: a model that learned one has seen the patient."""


def read(
    annotations: Path,
    excluded: Path | None = None,
    candidates: Path | None = None,
    *,
    series: Collection[str] | None = None,
) -> Annotations:
    """Read the files; `series` are those of the data set, by default all.

    Raises `UsageError` for a file that is no such table, and where no row of the annotations is of the data set: then
    they belong to another one.
    """
    left_out: list[LeftOutRow] = []
    found = _points(annotations, "diameter", left_out, series)
    if series is not None and not len(found):
        raise UsageError(
            f"{annotations.name}: no row of it is a finding of the {len(set(series))} series of the data set; "
            "do both name the same SeriesInstanceUIDs, as text?"
        )
    out = _points(excluded, "excluded diameter", left_out, series) if excluded else _none()
    negatives = _none()
    if candidates is not None:
        tried = _points(candidates, "class", left_out, series)
        on_finding = _is_on(tried, found, out)
        left_out += [
            LeftOutRow(candidates.name, tried.line[row], "luna_candidate_on_finding")
            for row in np.flatnonzero(on_finding)
        ]
        negatives = tried.only(~on_finding)
    return Annotations(found, out, negatives, tuple(left_out))


def subsets_of_folder(root: Path, *, patient_of: Mapping[str, str] | None = None) -> Subsets:
    """Return the subsets of a folder with subset0 to subset9, where images are named by their series.

    Raises `UsageError` where there is no such folder.
    """
    folders = sorted(
        (int(match[1]), path)
        for path in (root.iterdir() if root.is_dir() else ())
        if path.is_dir() and path.name[:1] in "sS" and (match := _SUBSET.fullmatch(path.name))
    )
    if not folders:
        raise UsageError(
            f"{root}: no folder subset0 to subset{SUBSETS - 1} in it; unpack LUNA16's images there"
        )
    rows: list[tuple[str, int, str, int | None]] = []
    left_out = []
    for number, folder in folders:
        for path in sorted(folder.iterdir()):
            ending = next((one for one in IMAGES if path.name.endswith(one)), None)
            if ending is None:
                continue
            uid, name = path.name.removesuffix(ending), f"{folder.name}/{path.name}"
            if _is_uid(uid):
                rows.append((uid, number, name, None))
            else:
                left_out.append(LeftOutRow(name, None, "luna_series_no_uid"))
    return _subsets(rows, left_out, patient_of)


def subsets_of_file(path: Path, *, patient_of: Mapping[str, str] | None = None) -> Subsets:
    """Return the subsets of a CSV `seriesuid,subset`; a subset is 0 to 9, with or without the word.

    Raises `UsageError` where the file is no such table.
    """
    table = supplied.read(path)
    place = _places(table, ("seriesuid", "subset"))
    rows: list[tuple[str, int, str, int | None]] = []
    left_out = []
    for row in table.rows:
        if row.is_blank:
            continue
        uid, match = supplied.cleaned(row.cells[place[0]]), _SUBSET.fullmatch(row.cells[place[1]].strip())
        code = "luna_row_shifted" if row.surplus or row.is_short else None
        code = code or (None if _is_uid(uid) else "luna_series_no_uid")
        if code or not match:
            left_out.append(LeftOutRow(path.name, row.line, code or "luna_subset_unknown"))
        else:
            rows.append((uid, int(match[1]), path.name, row.line))
    return _subsets(rows, left_out, patient_of)


def split_patients(of_series: Mapping[str, int], patient_of: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the patients whose series lie in several subsets; a series without a patient stands for itself."""
    subsets: dict[str, set[int]] = {}
    for uid, number in of_series.items():
        subsets.setdefault(patient_of.get(uid, uid), set()).add(number)
    return {name: tuple(sorted(numbers)) for name, numbers in sorted(subsets.items()) if len(numbers) > 1}


def _subsets(
    rows: Sequence[tuple[str, int, str, int | None]],
    left_out: list[LeftOutRow],
    patient_of: Mapping[str, str] | None,
) -> Subsets:
    """Leave out every row of a series that two subsets have: neither may learn it and be tested on it."""
    numbers: dict[str, set[int]] = {}
    for uid, number, _, _ in rows:
        numbers.setdefault(uid, set()).add(number)
    left_out += [
        LeftOutRow(name, line, "luna_series_in_two_subsets")
        for uid, _, name, line in rows
        if len(numbers[uid]) > 1
    ]
    of_series = {uid: next(iter(found)) for uid, found in numbers.items() if len(found) == 1}
    return Subsets(of_series, tuple(left_out), split_patients(of_series, patient_of or {}))


def _points(path: Path, last: str, left_out: list[LeftOutRow], series: Collection[str] | None) -> Points:
    """Return the usable rows of a file whose last column is `last` (diameter, excluded diameter, class)."""
    table = supplied.read(path)
    place = _places(table, ("seriesuid", *COORDINATES, "class" if last == "class" else "diameter_mm"))
    known = None if series is None else set(series)
    uids, values, lines = [], [], []
    seen = set()
    for row in table.rows:
        if row.is_blank:
            continue
        uid = supplied.cleaned(row.cells[place[0]])
        numbers = tuple(_number(row.cells[at]) for at in place[1:])
        code = "luna_row_shifted" if row.surplus or row.is_short else None
        code = code or _reason(uid, numbers, last)
        if code is None and known is not None and uid not in known:
            code = "luna_series_not_listed"
        if code is None and (uid, numbers) in seen:
            code = "luna_row_repeated"
        if code is not None:
            left_out.append(LeftOutRow(path.name, row.line, code))
            continue
        seen.add((uid, numbers))
        uids.append(uid)
        values.append(numbers)
        lines.append(row.line)
    array = np.array(values, dtype=np.float64).reshape(-1, 4)
    diameter = np.full(len(array), np.nan) if last == "class" else array[:, 3]
    return Points(uids, array[:, :3], diameter, lines)


def _reason(uid: str, numbers: tuple[float, ...], last: str) -> str | None:
    *centre, value = numbers
    if not _is_uid(uid):
        return "luna_series_no_uid"
    if not all(map(math.isfinite, centre)):
        return "luna_no_number"
    if last == "class":
        return {0.0: None, 1.0: "luna_candidate_is_finding"}.get(value, "luna_class_unknown")
    if not math.isfinite(value):
        return "luna_no_number"
    # The list of excluded findings has -1 where nobody measured; a finding without a size has no hit radius.
    return "luna_diameter_not_positive" if value == 0 or (value < 0 and last == "diameter") else None


def _is_on(candidates: Points, *others: Points) -> npt.NDArray[np.bool_]:
    """Tell which candidates lie strictly nearer to a finding than half its diameter."""
    of_series: dict[str, list[tuple[Floats, float]]] = {}
    for points in others:
        for uid, centre, diameter in zip(
            points.series_uid, points.centre_mm, points.diameter_mm, strict=True
        ):
            radius = (UNKNOWN_DIAMETER_MM if diameter < 0 else float(diameter)) / 2
            of_series.setdefault(uid, []).append((centre, radius))
    rows: dict[str, list[int]] = {}
    for row, uid in enumerate(candidates.series_uid):
        if uid in of_series:
            rows.setdefault(uid, []).append(row)
    result = np.zeros(len(candidates), dtype=bool)
    for uid, mine in rows.items():
        for centre, radius in of_series[uid]:
            result[mine] |= ((candidates.centre_mm[mine] - centre) ** 2).sum(axis=1) < radius**2
    return result


def _places(table: supplied.SuppliedTable, names: Sequence[str]) -> list[int]:
    found = table.places(names)
    if missing := [name for name in names if name not in found]:
        raise UsageError(
            f"{table.path.name}: no column {', '.join(missing)}; its header must have {','.join(names)}"
        )
    return [found[name] for name in names]


def _number(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _none() -> Points:
    return Points([], np.empty((0, 3)), np.empty(0), [])
