"""The store: volumes by content, chunked and compressed, written once and read in pieces.

Belongs here: entries, their keys, atomic writing, damage, counting and freeing. Does not: what an entry is
made from (`learning.volumes.fold_volumes`).

An entry is two files: `<key>.b2nd`, a blosc2 array, and `<key>.json`, its grid, facts and checksum. The JSON
is written last: without it there is no entry, so that a torn write is never served. The checksum of the whole
file is verified once in each process before an entry is read, and again when the file changes. Chosen by
measurement (`benchmarks/store.py`): LZ4 over bit shuffle in blocks of 16 voxels a side gives a patch in half the
time of zstd and takes an eighth more room; small blocks leave little to decompress beside the patch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
import orjson
import xxhash
from isal import isal_zlib

from ct_assets import files
from ct_assets.imaging.volume import Grid, Volume

CHUNK = 32
BLOCK = 16
"""Voxels a side: what is read at once, and what is decompressed at once."""

_verified: dict[tuple[str, int, int, int], None] = {}


class DamagedEntryError(Exception):
    """An entry is there, but is not what was written."""


class MissingEntryError(KeyError):
    """No entry of that key: it was never made, or it was freed."""


def key_of(*parts: Any) -> str:
    """Return the key of what `parts` (JSON values) describe wholly: 128 bits of XXH3, in hex."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


@dataclass(frozen=True)
class Stored:
    """An open entry."""

    key: str
    grid: Grid
    facts: dict[str, Any]
    _array: Any

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.grid.shape

    def read(
        self, start: tuple[int, int, int], shape: tuple[int, int, int], outside: int
    ) -> npt.NDArray[Any]:
        """Return the box of `shape` from `start` (k, j, i; may lie partly outside, filled with `outside`)."""
        inside = tuple(
            slice(max(0, low), max(0, min(low + size, whole)))
            for low, size, whole in zip(start, shape, self.shape, strict=True)
        )
        part = self._array[inside]
        if part.shape == tuple(shape):
            return part
        box = np.full(shape, outside, dtype=self._array.dtype)
        into = tuple(
            slice(piece.start - low, piece.start - low + size)
            for piece, low, size in zip(inside, start, part.shape, strict=True)
        )
        box[into] = part
        return box

    def array(self) -> npt.NDArray[Any]:
        """Return the whole array (k, j, i)."""
        return self._array[:]

    def volume(self) -> Volume:
        """Return the whole volume."""
        return Volume(self.array(), self.grid)


class Store:
    """Volumes by content under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hits = 0
        self.misses = 0

    def path(self, key: str) -> Path:
        """Return where the array of `key` lies or would lie."""
        return self.root / "volumes" / key[:2] / f"{key}.b2nd"

    def is_sound(self, key: str) -> bool:
        """Tell whether the entry is there, whole and undamaged; counts as a hit or a miss."""
        try:
            self._check(key)
        except (MissingEntryError, DamagedEntryError):
            self.misses += 1
            return False
        self.hits += 1
        return True

    def put(self, key: str, volume: Volume, facts: dict[str, Any]) -> int:
        """Write an entry (atomically, the same bytes for the same input) and return its size in bytes."""
        array = np.ascontiguousarray(volume.array)
        chunks = tuple(min(CHUNK, size) for size in array.shape)
        compressed = blosc2.asarray(
            array,
            chunks=chunks,
            blocks=tuple(min(BLOCK, size) for size in chunks),
            cparams=blosc2.CParams(
                codec=blosc2.Codec.LZ4,
                clevel=5,
                filters=[blosc2.Filter.BITSHUFFLE],
                typesize=array.dtype.itemsize,
                nthreads=1,
            ),
            contiguous=True,
        )
        content = compressed.to_cframe()
        path = self.path(key)
        files.write_bytes(path, content)
        described = {
            "affine_lps": volume.grid.affine_lps.tolist(),
            "shape": list(volume.grid.shape),
            "size": len(content),
            "crc32": isal_zlib.crc32(content),
            "facts": facts,
        }
        files.write_bytes(path.with_suffix(".json"), orjson.dumps(described, option=orjson.OPT_SORT_KEYS))
        return len(content)

    def open(self, key: str) -> Stored:
        """Open an entry. Raises `MissingEntryError` or `DamagedEntryError`."""
        described = self._check(key)
        array = blosc2.open(str(self.path(key)), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        grid = Grid(tuple(described["shape"]), np.array(described["affine_lps"]))
        return Stored(key, grid, described["facts"], array)

    def facts(self, key: str) -> dict[str, Any]:
        """Return what was noted beside an entry, without reading its voxels."""
        return self._described(key)["facts"]

    def all_keys(self) -> list[str]:
        """Return the keys of all entries, sorted."""
        return sorted(path.stem for path in (self.root / "volumes").glob("??/*.json"))

    def size_of(self, keys: Iterable[str]) -> int:
        """Return how many bytes these entries take."""
        return sum(self._described(key)["size"] for key in set(keys))

    def stats(self) -> dict[str, int]:
        """Return hits and misses of this object, and number and bytes of all entries."""
        keys = self.all_keys()
        return {"hits": self.hits, "misses": self.misses, "entries": len(keys), "bytes": self.size_of(keys)}

    def unnamed(self, named: Iterable[str]) -> list[str]:
        """Return the keys that `named` does not hold: what may be freed."""
        return sorted(set(self.all_keys()) - set(named))

    def remove(self, keys: Iterable[str]) -> int:
        """Free entries and return the bytes gained; the JSON goes first, so that none is half there."""
        freed = 0
        for key in keys:
            path = self.path(key)
            path.with_suffix(".json").unlink(missing_ok=True)
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
        return freed

    def _described(self, key: str) -> dict[str, Any]:
        try:
            return orjson.loads(self.path(key).with_suffix(".json").read_bytes())
        except FileNotFoundError:
            raise MissingEntryError(key) from None
        except orjson.JSONDecodeError:
            raise DamagedEntryError(f"store entry {key}: its description cannot be read") from None

    def _check(self, key: str) -> dict[str, Any]:
        described = self._described(key)
        path = self.path(key)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise MissingEntryError(key) from None
        seen = (str(path), status.st_size, status.st_mtime_ns, described["crc32"])
        if seen not in _verified:
            content = path.read_bytes()
            if len(content) != described["size"] or isal_zlib.crc32(content) != described["crc32"]:
                raise DamagedEntryError(
                    f"store entry {key}: does not match its checksum; make the fold's volumes again, "
                    "which replaces it"
                )
            _verified[seen] = None
        return described
