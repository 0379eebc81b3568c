"""One cached image on disk: its files, its key, and why a torn one is never read.

Belongs here: the layout of one entry, writing and reading it, when it still holds. Does not: which images
there are (`neuro.metadata`), how they are made in parallel (`neuro.cache`).

`processed/<study>/` holds for an MR image `<image>.pt`, for a CT `<image>_brain.pt`, `_blood.pt`,
`_bone.pt`; for both `<image>_mask.pt` (uint8, 1 for background) and `<image>_metadata.json`. The metadata
file is deleted before anything is rewritten and written after everything else: an entry without it does not
exist. Each volume carries the entry's key, so that a reader never mixes two generations.
"""

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from ct_assets import files
from ct_assets.imaging.windows import dequantise, quantise
from ct_assets.settings.neuro import Mode, PreprocessingSettings, Stream
from ct_assets.systems.neuro import voxel_code
from ct_assets.systems.neuro.prepare import CT_WINDOWS, Prepared

FORMAT_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Source:
    """The files that one image is made of, as they are on disk."""

    path: Path
    """A file, or the folder of a DICOM series."""
    relative: str
    """Relative to the data set's folder."""

    def modified_ns(self) -> int:
        """Return the latest change of any of the files."""
        return max((path.stat().st_mtime_ns for path in self._files()), default=0)

    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(path.stat().st_size for path in self._files())

    def digest(self) -> str:
        """Return XXH3-128 over names and bytes of the files."""
        content = xxhash.xxh3_128()
        for path in self._files():
            content.update(path.name.encode())
            content.update(path.read_bytes())
        return content.hexdigest()

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        return [path for path in sorted(self.path.rglob("*")) if path.is_file()]


@dataclass(frozen=True, slots=True)
class Entry:
    """The place of one image in the cache."""

    folder: Path
    image: str
    mode: Mode

    def volume_path(self, stream: Stream) -> Path:
        """The file of one stream."""
        return self.folder / (f"{self.image}.pt" if stream == "mri" else f"{self.image}_{stream}.pt")

    @property
    def mask_path(self) -> Path:
        """The background, shared by all windows."""
        return self.folder / f"{self.image}_mask.pt"

    @property
    def record_path(self) -> Path:
        """What the entry was made of."""
        return self.folder / f"{self.image}_metadata.json"

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that an image of this mode has."""
        return CT_WINDOWS if self.mode == "ct" else ("mri",)

    def write(
        self, prepared: Prepared, spacing_mm: tuple[float, float, float], made_of: dict[str, Any]
    ) -> None:
        """Write the entry; a killed write leaves no entry."""
        self.record_path.unlink(missing_ok=True)
        shape = list(prepared.mask.shape)
        for stream, values in prepared.streams.items():
            self._save(
                self.volume_path(stream),
                {
                    "data": torch.from_numpy(quantise(values)),
                    "view": prepared.view,
                    "shape": shape,
                    "spacing": list(spacing_mm),
                    "mode": self.mode,
                    "window": stream if self.mode == "ct" else None,
                    "key": made_of["key"],
                },
            )
        self._save(self.mask_path, torch.from_numpy(prepared.mask))
        files.write_json(
            self.record_path,
            {
                **made_of,
                "mode": self.mode,
                "windows": list(self.streams) if self.mode == "ct" else None,
                "shape": shape,
                "spacing": list(spacing_mm),
                "view": prepared.view,
                "version": FORMAT_VERSION,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {path.name: path.stat().st_size for path in self._content()},
            },
        )

    def _content(self) -> list[Path]:
        return [*(self.volume_path(stream) for stream in self.streams), self.mask_path]

    def _save(self, path: Path, value: Any) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        files.write_bytes(path, buffer.getvalue())

    def record(self) -> dict[str, Any] | None:
        """Return what `write` recorded, None where the entry does not exist, is torn or of another format."""
        try:
            found = files.read_json(self.record_path)
            sizes = {path.name: path.stat().st_size for path in self._content()}
        except (OSError, ValueError):
            return None
        if (
            not isinstance(found, dict)
            or found.get("version") != FORMAT_VERSION
            or found.get("files") != sizes
        ):
            return None
        return found

    def read(self, stream: Stream, key: str) -> dict[str, Any] | None:
        """Return one stream with its mask, or None where the files are not those of `key`.

        `data` is (1, D, H, W) float32 of [0, 1], `mask` of the same shape uint8 with 1 for background.
        """
        try:
            # Mapped: its bytes are read once, by the conversion below.
            content = torch.load(self.volume_path(stream), weights_only=True, mmap=True)
            mask = torch.load(self.mask_path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError):
            return None
        if content.get("key") != key or content["data"].shape != mask.shape:
            return None
        content["data"] = torch.from_numpy(dequantise(content["data"].numpy()))
        content["mask"] = mask
        return content

    def remove(self) -> None:
        """Take the entry away."""
        for path in (self.record_path, *self._content()):
            path.unlink(missing_ok=True)


@lru_cache(maxsize=8)
def parameters_digest(settings: PreprocessingSettings) -> str:
    """Return the digest of the parameters and of the code that make voxels of a source."""
    return files.digest_of([FORMAT_VERSION, settings.model_dump(mode="json"), voxel_code.digest()])


def key_of(source_digest: str, series: str | None, mode: Mode, parameters: str) -> str:
    """Return the key of an entry: equal keys, equal bytes."""
    return files.digest_of([source_digest, series, mode, parameters])[:32]


def is_current(
    record: dict[str, Any], source: Source, series: str | None, mode: Mode, parameters: str
) -> bool:
    """Tell whether a record is of this source with these parameters.

    A source of the same size and time of change is not read again; one that was only touched keeps its entry.
    """
    if record.get("parameters") != parameters or record.get("series") != series or record["mode"] != mode:
        return False
    if record.get("source") != source.relative or record.get("source_bytes") != source.size_bytes():
        return False
    if record.get("source_modified_at") == source.modified_ns():
        return True
    return bool(record.get("source_digest") == source.digest())


def foreground_share(mask: np.ndarray) -> float:
    """Return the share of voxels that are not background."""
    return float(1 - mask.mean(dtype=np.float64))
