"""Labels of studies, from a CSV, a JSON file or a mapping.

Belongs here: reading them and telling binary, multilabel and multiclass apart. Does not: which images get
them (`neuro.dataset`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.tables import supplied
from ct_assets.tables.supplied import cleaned, comparable

Task = Literal["binary", "multiclass", "multilabel"]
Label = int | tuple[int, ...]
ID_COLUMN = "study_id"


@dataclass(frozen=True)
class StudyLabels:
    """The labels of studies: whole numbers, or a tuple of 0 and 1 a study."""

    of_study: dict[str, Label]
    columns: tuple[str, ...]
    """Names of the label columns."""

    @property
    def task(self) -> Task:
        """`multilabel` for several columns, else `binary` for 0 and 1, else `multiclass`."""
        if len(self.columns) > 1:
            return "multilabel"
        return "binary" if set(self.of_study.values()) <= {0, 1} else "multiclass"

    @property
    def classes(self) -> int:
        """How many values a network has to tell apart, or how many labels it gives side by side."""
        if self.task == "multilabel":
            return len(self.columns)
        return max(
            2, 1 + max((int(label) for label in self.of_study.values() if isinstance(label, int)), default=1)
        )


def read_labels(given: str | Path | Mapping[str, Any]) -> StudyLabels:
    """Return the labels of a CSV (`study_id` and one or more columns), a JSON {study: int}, or a mapping.

    Raises `UsageError` naming row, study and value for labels that are missing, no whole numbers, negative, or
    (with several columns) other than 0 and 1, and for a study that stands there twice with unequal labels.
    """
    if isinstance(given, Mapping):
        return _of_mapping(given, "study_labels")
    path = Path(given)
    if not path.is_file():
        raise UsageError(f"{path}: no such file of labels")
    if path.suffix.lower() == ".json":
        try:
            content = files.read_json(path)
        except ValueError as error:
            raise UsageError(f"{path}: is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise UsageError(f"{path}: a JSON object of study to label is expected")
        return _of_mapping(content, str(path))
    if path.suffix.lower() == ".csv":
        return _of_csv(path)
    raise UsageError(f"{path}: labels come as .csv or .json")


def _of_mapping(content: Mapping[str, Any], where: str) -> StudyLabels:
    labels: dict[str, Label] = {}
    for study, value in content.items():
        if isinstance(value, list | tuple):
            labels[study] = tuple(_whole(one, f"{where}: study {study!r}", largest=1) for one in value)
        else:
            labels[study] = _whole(value, f"{where}: study {study!r}")
    widths = {len(label) if isinstance(label, tuple) else 0 for label in labels.values()}
    if len(widths) > 1:
        raise UsageError(f"{where}: some studies have one label and others several, or unequally many")
    width = widths.pop() if widths else 0
    return StudyLabels(labels, tuple(f"label_{n}" for n in range(width)) if width else ("label",))


def _of_csv(path: Path) -> StudyLabels:
    table = supplied.read(path)
    if comparable(table.header[0]) != ID_COLUMN or len(table.header) < 2:
        raise UsageError(f"{path}: the first line must be `{ID_COLUMN}` and at least one label column")
    columns = tuple(name for name in table.header[1:] if name)
    if len({comparable(name) for name in table.header if name}) != 1 + len(columns):
        raise UsageError(
            f"{path}: a column is there twice: {', '.join(columns)}; each label needs a name of its own"
        )
    places = [number for number, name in enumerate(table.header) if number and name]
    if not places:
        raise UsageError(f"{path}: no label column has a name")
    labels: dict[str, Label] = {}
    for row in table.rows:
        if row.is_blank:
            continue
        table.check_row(row)
        if row.is_short:
            raise UsageError(
                f"{path}: line {row.line} has fewer cells than the first line ({len(table.header)})"
            )
        study = cleaned(row.cells[0])
        where = f"{path}: line {row.line}, study {study!r}"
        values = [
            _whole(row.cells[place], where, largest=1 if len(columns) > 1 else None) for place in places
        ]
        label: Label = values[0] if len(columns) == 1 else tuple(values)
        if labels.setdefault(study, label) != label:
            raise UsageError(f"{where}: stands there before with another label")
    return StudyLabels(labels, columns)


def _whole(value: Any, where: str, largest: int | None = None) -> int:
    try:
        number = float(str(value).strip())
    except ValueError:
        number = float("nan")
    if not number.is_integer() or number < 0 or (largest is not None and number > largest):
        allowed = "0 or 1" if largest == 1 else "a whole number from 0 on"
        raise UsageError(f"{where}: label {value!r}: use {allowed}")
    return int(number)
