"""CSV files of LUNA16 and the like: columns by name, cells as text, numbers checked row by row.

Belongs here: what all such files share (encoding, line ends, header, refusals that name the row). Does not: what the
columns mean (`annotations`, `froc`, `triage`).
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct_assets.errors import UsageError

Floats = npt.NDArray[np.float64]

MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Rows:
    """The wanted columns of a CSV file, every cell as text without surrounding blanks."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]
    """Line of the file on which each row ends, counted from 1."""

    def __len__(self) -> int:
        return len(self.lines)

    def numbers(self, name: str) -> Floats:
        """Return a column as finite numbers. Raises `UsageError` naming the row of the first that is none."""
        values = np.array([number(cell) for cell in self.columns[name]], dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise UsageError(
                f"{self.path.name}: line {self.lines[wrong[0]]}: {name} is no finite number"
                + (f" ({len(wrong)} such rows)" if len(wrong) > 1 else "")
                + "; correct the file"
            )
        return values

    def identifiers(self, name: str) -> list[str]:
        """Return a column as text. Raises `UsageError` naming the row of the first empty cell."""
        for cell, line in zip(self.columns[name], self.lines, strict=True):
            if not cell:
                raise UsageError(f"{self.path.name}: line {line}: {name} is empty; correct the file")
        return self.columns[name]

    def points(self) -> Floats:
        """Return coordX, coordY, coordZ as (rows, 3)."""
        return np.stack([self.numbers(f"coord{axis}") for axis in "XYZ"], axis=1)


def number(cell: str) -> float:
    """Return a cell's number; NaN where it is none (Python's own `1_0` is none either)."""
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def read(path: Path, wanted: Sequence[str]) -> Rows:
    """Read the `wanted` columns of a comma-separated file with a header; further columns are ignored.

    The order of columns, line ends (LF, CRLF, CR), a byte order mark, blank lines and a missing last line end mean
    nothing. Raises `UsageError` for a file that cannot be read, lacks a column or names one twice, and a row with too
    few or too many cells.
    """
    lines = table(path)
    header = [name.strip() for name in lines[0][1]] if lines else []
    if missing := [name for name in wanted if name not in header]:
        raise UsageError(
            f"{path.name}: no column {', '.join(missing)}; its header has {', '.join(header)[:200] or 'nothing'}. "
            f"Wanted, separated by commas, in any order: {','.join(wanted)}"
        )
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise UsageError(f"{path.name}: column {', '.join(twice)} is there twice; remove one")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise UsageError(
                f"{path.name}: line {line} has {len(cells)} cells, its header {len(header)}; correct the file"
            )
    places = {name: header.index(name) for name in wanted}
    columns = {name: [cells[place].strip() for _, cells in lines[1:]] for name, place in places.items()}
    return Rows(path, columns, [line for line, _ in lines[1:]])


def table(path: Path) -> list[tuple[int, list[str]]]:
    """Return line number and cells of every row that is not blank. Raises `UsageError` as `read` does."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{path.name}: larger than {MOST_BYTES >> 20} MiB; give a table of text")
    content = path.read_bytes()
    try:
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = content.decode(encoding)
        if "\0" in text:
            raise ValueError("NUL")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        reader = csv.reader(io.StringIO(text), strict=True)
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (ValueError, csv.Error):
        raise UsageError(f"{path.name}: no CSV in UTF-8 or UTF-16; save it as one") from None
