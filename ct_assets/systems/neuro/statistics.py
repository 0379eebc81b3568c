"""Tables of a data set: its studies, its images, and the values of each stream.

Belongs here: making and writing the tables. Values are counted per level of the 256 that the cache stores, so
that means and deviations are exact and memory does not grow with the data set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from ct_assets import progress, tables
from ct_assets.files import digest_of
from ct_assets.settings.neuro import Normalisation, Stream
from ct_assets.systems.neuro import entries
from ct_assets.systems.neuro.cache import CacheManager
from ct_assets.systems.neuro.metadata import DatasetMetadata
from ct_assets.systems.neuro.prepare import CT_WINDOWS
from ct_assets.systems.neuro.tokens import background_tokens
from ct_assets.tables.neuro import NeuroImages, NeuroStreams, NeuroStudies

STREAMS: tuple[Stream, ...] = ("mri", *CT_WINDOWS)
LEVELS = 256


@dataclass(frozen=True)
class Statistics:
    """The tables of one data set."""

    images: pl.DataFrame
    streams: pl.DataFrame

    def write(self, folder: Path) -> None:
        """Write `images.parquet` and `streams.parquet`."""
        tables.write_table(folder / "images.parquet", self.images, NeuroImages)
        tables.write_table(folder / "streams.parquet", self.streams, NeuroStreams)

    @property
    def digest(self) -> str:
        """A digest of the tables' content."""
        return digest_of([self.images.to_dicts(), self.streams.to_dicts()])

    def normalisation(self) -> dict[Stream, Normalisation]:
        """Return mean and deviation a stream, as `ImageDataset` and the settings take them."""
        return {
            row["stream"]: Normalisation(mean=row["mean"], std=row["std"])
            for row in self.streams.to_dicts()
            if row["std"]
        }


def study_table(metadata: DatasetMetadata) -> pl.DataFrame:
    """Return a row a study, the invalid ones too, sorted by name."""
    rows = [
        {
            "study": name,
            "mode": info["mode"],
            "is_usable": True,
            "reasons": [],
            "images": len(info["images"]),
            "refused_images": len(info["refused_images"]),
        }
        for name, info in metadata.studies.items()
    ] + [
        {
            "study": name,
            "mode": info["mode"],
            "is_usable": False,
            "reasons": info["reasons"],
            "images": 0,
            "refused_images": len(info["refused_images"]),
        }
        for name, info in metadata.invalid_studies.items()
    ]
    return tables.frame(rows, NeuroStudies).sort("study")


def summarise(cache: CacheManager) -> Statistics:
    """Return the tables of a data set from its cache, one image in memory at a time."""
    rows = []
    counts = {stream: np.zeros(LEVELS, dtype=np.int64) for stream in STREAMS}
    images = dict.fromkeys(STREAMS, 0)
    wanted = [(study, image) for study, info in cache.metadata.studies.items() for image in info["images"]]
    with progress.track("statistics", len(wanted)) as advance:
        for study, image in wanted:
            row = _image_row(cache, study, image)
            if row["status"] == "cached":
                for stream, content in _stored(cache, study, image):
                    counts[stream] += np.bincount(content, minlength=LEVELS)
                    images[stream] += 1
            rows.append(row)
            advance(1)
    return Statistics(
        tables.frame(rows, NeuroImages).sort("study", "image"),
        tables.frame(
            [_stream_row(stream, images[stream], counts[stream]) for stream in STREAMS], NeuroStreams
        ),
    )


def _image_row(cache: CacheManager, study: str, image: str) -> dict[str, Any]:
    info = cache.metadata.studies[study]["images"][image]
    entry = cache.entry(study, image)
    record = entry.record()
    holds = record is not None and record["parameters"] == entries.parameters_digest(cache.settings)
    row: dict[str, Any] = dict.fromkeys(tables.dtypes(NeuroImages))
    row |= {
        "study": study,
        "image": image,
        "mode": entry.mode,
        "source": cache.source(study, image).relative,
        "status": "cached" if holds else "refused" if info.get("reasons") else "missing",
        "reasons": [] if holds else info.get("reasons", []),
        "warnings": [],
    }
    if record is not None and holds:
        mask = torch.load(entry.mask_path, weights_only=True)
        background = background_tokens(mask)
        row |= {
            "warnings": record["warnings"],
            "key": record["key"],
            "depth": record["shape"][1],
            "height": record["shape"][2],
            "width": record["shape"][3],
            "view": record["view"],
            "tokens": len(background),
            "foreground_tokens": int((background == 0).sum()),
        }
    return row


def _stored(cache: CacheManager, study: str, image: str) -> Iterator[tuple[Stream, np.ndarray]]:
    """Yield the stored values of each stream's foreground."""
    entry = cache.entry(study, image)
    foreground = torch.load(entry.mask_path, weights_only=True) == 0
    for stream in entry.streams:
        yield stream, torch.load(entry.volume_path(stream), weights_only=True)["data"][foreground].numpy()


def _stream_row(stream: Stream, images: int, counts: np.ndarray) -> dict[str, Any]:
    total = int(counts.sum())
    values = np.arange(LEVELS) / (LEVELS - 1)
    mean = float(counts @ values / total) if total else None
    return {
        "stream": stream,
        "images": images,
        "foreground_voxels": total,
        "mean": mean,
        "std": None if mean is None else float(np.sqrt(counts @ (values - mean) ** 2 / total)),
        "saturated_share": float((counts[0] + counts[-1]) / total) if total else None,
    }
