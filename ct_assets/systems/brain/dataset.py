"""The folder of single slices and its label table: what must hold before anything is read.

Belongs here: `validate_dataset_structure`, the label table. Does not: what is in the files
(`brain.features`). Missing files and labels that cannot be read end a run; files too many are told.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct_assets.errors import UsageError
from ct_assets.tables import supplied

ID_COLUMN, LABEL_COLUMN = "ID", "Label"
SUFFIX = ".dcm"
COPY_LIKE = re.compile(r"( \(\d+\)|[ _-]copy( ?\d+)?| - Copy( \(\d+\))?)$", re.IGNORECASE)
"""How operating systems name copies: `name (1)`, `name copy`, `name - Copy (2)`."""
CLASSES = (0, 1)
NAMED = 5
"""How many offenders a message names; image IDs are opaque."""


@dataclass(frozen=True)
class Warned:
    """Something that people should know: a code of `ct_assets.reasons`, how often, and the first few."""

    code: str
    count: int
    examples: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Return it as a report has it."""
        return {"code": self.code, "count": self.count, "examples": list(self.examples)}


@dataclass(frozen=True)
class Structure:
    """A data set that can be read."""

    ct_dir: Path
    labels: dict[str, int]
    """Label by ID, in the order of IDs; each has its file."""
    dicom_files: int
    """Files that end in `.dcm`, copies included."""
    warnings: tuple[Warned, ...] = field(default=())
    names: dict[str, str] = field(default_factory=dict)
    """Name of the file of each labelled ID, as it is on the disk (`.DCM` too)."""

    @property
    def class_counts(self) -> dict[str, int]:
        """Slices of each label."""
        values = list(self.labels.values())
        return {str(label): values.count(label) for label in CLASSES}

    def json(self) -> dict[str, Any]:
        """Return the findings as a report has them."""
        counts = self.class_counts
        positives, negatives = counts["1"], counts["0"]
        return {
            "dicom_files": self.dicom_files,
            "labelled_files": len(self.labels),
            "class_counts": counts,
            "positive_share": positives / len(self.labels),
            "imbalance_ratio": negatives / positives,
            "warnings": [one.json() for one in self.warnings],
        }


def validate_dataset_structure(
    data_root: Path,
    ct_dir_name: str = "CTs",
    labels_filename: str = "labels1.csv",
    expected_num_dicoms: int | None = None,
) -> Structure:
    """Hold a folder against what it should be: `<data_root>/<CTs>/ID_*.dcm` and a table of `ID` and `Label`.

    Files without a row, copies by name (`ID_x (1).dcm`) and repeated rows are warnings. Raises `UsageError`
    for a missing folder, table or column, a file that is missing for a row, an unreadable or contradictory
    label, a class that does not occur, or another number of files than expected.
    """
    if not data_root.is_dir():
        raise UsageError(f"{data_root}: no such data folder")
    ct_dir = data_root / ct_dir_name
    if not ct_dir.is_dir():
        raise UsageError(f"{ct_dir}: no such folder of DICOM files; name it with --cts")
    found = sorted(
        path.name for path in ct_dir.iterdir() if path.is_file() and path.name.lower().endswith(SUFFIX)
    )
    if not found:
        raise UsageError(f"{ct_dir}: no file that ends in {SUFFIX}")
    if expected_num_dicoms is not None and len(found) != expected_num_dicoms:
        raise UsageError(
            f"{ct_dir}: {len(found)} DICOM files, expected_num_dicoms says {expected_num_dicoms}; deliver the "
            "rest or correct the number"
        )
    labels, repeated = read_labels(data_root / labels_filename)
    stems = _files_by_stem(ct_dir, found)
    missing = sorted(set(labels) - set(stems))
    if missing:
        raise UsageError(
            f"{data_root / labels_filename}: {len(missing)} IDs have no file in {ct_dir.name}: {_named(missing)}"
        )
    copies = sorted(stem for stem in set(stems) - set(labels) if COPY_LIKE.search(stem))
    extra = sorted(set(stems) - set(labels) - set(copies))
    warned = [
        Warned(code, len(those), tuple(those[:NAMED]))
        for code, those in (
            ("label_repeated", repeated),
            ("copy_like_name", copies),
            ("image_without_label", extra),
        )
        if those
    ]
    names = {identifier: stems[identifier] for identifier in sorted(labels)}
    return Structure(ct_dir, dict(sorted(labels.items())), len(found), tuple(warned), names)


def _files_by_stem(ct_dir: Path, found: list[str]) -> dict[str, str]:
    """Return each file by its ID. Raises `UsageError` for two files of one ID (`x.dcm` and `x.DCM`)."""
    stems: dict[str, str] = {}
    for name in found:
        stem = supplied.cleaned(stem_of(name))
        if stem in stems:
            raise UsageError(f"{ct_dir}: {stems[stem]} and {name} are two files of one ID; keep one of them")
        stems[stem] = name
    return stems


def read_labels(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return label by ID, and the IDs of rows that are there again.

    Raises `UsageError` where the table, a column, an ID or a label is not what it should be.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such label table; name it with --labels")
    table = supplied.read(path)
    places = table.places((ID_COLUMN, LABEL_COLUMN))
    for wanted in (ID_COLUMN, LABEL_COLUMN):
        if wanted not in places:
            raise UsageError(f"{path}: has no column {wanted}; its columns are {', '.join(table.header)}")
    labels: dict[str, int] = {}
    repeated: list[str] = []
    contradictory: list[str] = []
    for row in table.rows:
        if row.is_blank:
            continue
        table.check_row(row)
        number = row.line
        identifier = stem_of(supplied.cleaned(row.cells[places[ID_COLUMN]]))
        if not identifier or "/" in identifier or "\\" in identifier:
            raise UsageError(f"{path}, line {number}: {ID_COLUMN} is empty or no file name")
        label = _label(row.cells[places[LABEL_COLUMN]])
        if label is None:
            raise UsageError(f"{path}, line {number}: {LABEL_COLUMN} must be 0 or 1")
        if identifier in labels:
            (repeated if labels[identifier] == label else contradictory).append(identifier)
        labels.setdefault(identifier, label)
    if contradictory:
        raise UsageError(
            f"{path}: {len(contradictory)} IDs have two labels: {_named(sorted(set(contradictory)))}"
        )
    absent = [str(label) for label in CLASSES if label not in labels.values()]
    if absent:
        raise UsageError(f"{path}: no row with {LABEL_COLUMN} {' or '.join(absent)}; both classes are needed")
    return labels, sorted(set(repeated))


def stem_of(name: str) -> str:
    """Return a file name without `.dcm`, however that is written."""
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name


def _label(text: str | None) -> int | None:
    """Read 0 or 1, also as tables write them where a neighbour is missing (`1.0`)."""
    try:
        value = float((text or "").strip())
    except ValueError:
        return None
    return int(value) if value in CLASSES else None


def _named(those: list[str]) -> str:
    more = f" and {len(those) - NAMED} more" if len(those) > NAMED else ""
    return ", ".join(those[:NAMED]) + more
