"""Tables that a person supplies as CSV: one reader for all of them.

Belongs here: encoding, delimiter, header, rows as rows, and how texts are compared. Does not: what cells mean.
RFC 4180: cells have places; header names are a convention. A column that is used must be named exactly once.
"""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_assets.errors import UsageError

LARGEST_CELL = 1 << 20
DELIMITERS = (",", ";", "\t")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class SuppliedRow:
    """One row after the header."""

    line: int
    """Line of the file on which it ends, blank lines and line ends inside of quotes counted."""
    cells: tuple[str, ...]
    """As many as the header has where the row can be read; a short row is filled with empty cells."""
    surplus: int = 0
    """Cells with content beyond the header: the row's columns may be shifted."""
    is_short: bool = False

    @property
    def is_blank(self) -> bool:
        """True where no cell has content."""
        return not any(cell.strip() for cell in self.cells)


@dataclass(frozen=True)
class SuppliedTable:
    """A table as its file has it."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[SuppliedRow, ...]

    def place(self, name: str, *, remedy: str = "") -> int | None:
        """Return the place of a column, None where there is none.

        Raises `UsageError` where several headers say the same, up to case, white space and Unicode form.
        """
        wanted = comparable(name)
        places = [number for number, header in enumerate(self.header) if comparable(header) == wanted]
        if len(places) > 1:
            raise UsageError(
                f"{self.path}: column {name!r} is there {len(places)} times (columns "
                f"{', '.join(str(place + 1) for place in places)}); name it once{remedy and '; ' + remedy}"
            )
        return places[0] if places else None

    def places(self, names: Sequence[str]) -> Mapping[str, int]:
        """Return the place of each of the columns that are there."""
        found = {name: self.place(name) for name in names}
        return {name: place for name, place in found.items() if place is not None}

    def check_row(self, row: SuppliedRow) -> None:
        """Raise `UsageError`, naming the line, for a row with more cells than the header."""
        if row.surplus:
            raise UsageError(
                f"{self.path}, line {row.line}: {len(self.header) + row.surplus} cells, the header has "
                f"{len(self.header)}; quote cells that contain the delimiter"
            )


def read(
    path: Path,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    remedy: str = "save it as CSV in UTF-8",
) -> SuppliedTable:
    """Read a CSV. Without `delimiter` the header decides between comma, semicolon and tab.

    A byte order mark decides the encoding. Raises `UsageError` naming file, line and remedy, but no value.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    text = _decoded(path, content, encoding, remedy)
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text), strict=True)
    header: tuple[str, ...] | None = None
    rows = []
    try:
        for cells in reader:
            if header is None:
                if any(cell.strip() for cell in cells):
                    header = tuple(cleaned(cell) for cell in cells)
            else:
                rows.append(_row(cells, len(header), reader.line_num))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from None
    if header is None:
        raise UsageError(f"{path}: is empty; a header and rows are expected")
    return SuppliedTable(path, header, tuple(rows))


def cleaned(text: str) -> str:
    """Return a text as it is stored: NFC (Unicode UAX 15), without invisible characters, trimmed.

    Two spellings that look alike are one name. Format characters (category Cf: zero-width space and joiners, byte order
    mark, soft hyphen) and NUL go, other white space than a blank becomes one.
    """
    if text.isascii() and "\0" not in text:
        return text.strip()
    composed = unicodedata.normalize("NFC", text)
    kept = (" " if one.isspace() or one == "\0" else one for one in composed)
    return "".join(one for one in kept if unicodedata.category(one) != "Cf").strip()


def comparable(text: str) -> str:
    """Return a text as headers and values are compared: cleaned, inner white space joined, case folded."""
    return unicodedata.normalize("NFC", " ".join(cleaned(text).split()).casefold())


def _decoded(path: Path, content: bytes, encoding: str, remedy: str) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), encoding)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        shown = encoding.removesuffix("-sig").upper()
        raise UsageError(f"{path}: line {line}: is not {shown}; {remedy}") from None


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=lambda one: (first.count(one), -DELIMITERS.index(one)))


def _row(cells: list[str], width: int, line: int) -> SuppliedRow:
    # Blank cells at the end are what spreadsheets leave; any other surplus may have shifted the columns.
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    surplus, missing = max(0, len(cells) - width), max(0, width - len(cells))
    return SuppliedRow(line, (*cells, *[""] * missing), surplus, missing > 0)
