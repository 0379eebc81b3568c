"""What a parser of compressed frames returns, whatever the codec.

Belongs here: the result and the error that all codec families share (`jpeg`, `jpeg_ls`, `jpeg2000`, `rle`,
`deflated`). Does not: parsing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class DamagedStreamError(Exception):
    """A frame that is not built as its codec says, so that image and other bytes cannot be told apart."""


class UnparsedStreamError(DamagedStreamError):
    """A frame that may be right, in a form that no parser here follows."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of one frame as the Image Pixel module has it (PS3.3 C.7.6.3), or as a codestream declares it."""

    rows: int
    columns: int
    samples: int
    bits: int
    """Bits allocated by the header; bits a sample by a codestream."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One compressed frame without the bytes that decode to no pixel."""

    content: bytes
    removed: Mapping[str, int]
    """Bytes taken out, by kind (`JPEG comments`); empty where the frame came without any."""
    shape: Shape | None
    """What the codestream declares; None where the coding has no header that says it."""
    coded_ends: tuple[int, ...] = ()
    """Places in `content` where entropy-coded data end that the parser cannot follow bit by bit."""


class Codec(Protocol):
    """A codec family: takes one frame and its shape by the header. Raises `DamagedStreamError`."""

    def __call__(self, frame: bytes, shape: Shape) -> Cleaned:
        """Return the frame without the bytes that decode to no pixel."""


class Parts:
    """The pieces of a frame that stay, and the count of what does not."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._length = 0
        self._coded_ends: list[int] = []
        self.removed: Counter[str] = Counter()

    def keep(self, *pieces: bytes) -> None:
        """Add pieces of the codestream."""
        self._kept += pieces
        self._length += sum(map(len, pieces))

    def keep_coded(self, piece: bytes) -> None:
        """Add a piece that ends with entropy-coded data."""
        self.keep(piece)
        self._coded_ends.append(self._length)

    def remove(self, kind: str, count: int) -> None:
        """Count bytes that are left out."""
        if count:
            self.removed[kind] += count

    def cleaned(self, source: bytes, shape: Shape | None) -> Cleaned:
        """Return the frame; the source itself, byte for byte, where nothing was removed."""
        content = b"".join(self._kept) if self.removed else source
        return Cleaned(content, dict(self.removed), shape, tuple(self._coded_ends))


def fitting(cleaned: Cleaned, shape: Shape) -> Cleaned:
    """Return the frame if its codestream has the size that the header says: what lies outside nobody sees.

    Raises `DamagedStreamError`.
    """
    declared = cleaned.shape
    if declared is not None and (declared.rows, declared.columns, declared.samples) != (
        shape.rows,
        shape.columns,
        shape.samples,
    ):
        raise DamagedStreamError("the codestream has another size than the header")
    return cleaned


def is_padding(rest: bytes) -> bool:
    """Whether the bytes behind the end of a codestream are a single one, or zeros, or FF: padding."""
    return len(rest) <= 1 or not rest.strip(b"\0\xff")
