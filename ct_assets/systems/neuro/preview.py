"""A page over which a person sees at a glance what the cache holds.

Belongs here: one picture an image (its middle slice, background tokens dimmed, the grid of tokens drawn) and
the page around them.
"""

from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, progress
from ct_assets.systems.neuro.cache import CacheManager
from ct_assets.systems.neuro.statistics import Statistics
from ct_assets.systems.neuro.tokens import PATCH

Pixels = npt.NDArray[np.uint8]

BACKGROUND_BRIGHTNESS = 0.35
GRID_BRIGHTNESS = 40
PAGE = "index.html"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin-bottom:1.5rem}td,th{border-bottom:1px solid #ddd;padding:.2rem .6rem;
text-align:left}figure{display:inline-block;margin:.4rem;vertical-align:top;max-width:14rem;font-size:.85rem}
img{width:14rem;background:#000}.warned{color:#b35900}.refused{color:#c0392b}
"""


def write(cache: CacheManager, studies: pl.DataFrame, statistics: Statistics, folder: Path) -> Path:
    """Write the page of a data set with its pictures into `folder`; return the page."""
    cached = statistics.images.filter(pl.col("status") == "cached").to_dicts()
    figures = []
    with progress.track("preview", len(cached)) as advance:
        for number, row in enumerate(cached):
            found = cache.load_image(row["study"], row["image"])
            first = found[0] if isinstance(found, list) else found
            if first is not None:
                name = f"image_{number:05d}.png"
                _write_png(folder / name, picture(first["data"].numpy(), first["mask"].numpy()))
                figures.append(_figure(row, name))
            advance(1)
    files.write_text(folder / PAGE, _page(studies, statistics, figures, _refused_images(cache)))
    return folder / PAGE


def picture(volume: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> Pixels:
    """Return the middle slice of a (1, D, H, W) volume: dimmed where its token is background, grid drawn."""
    _, depth, height, width = volume.shape
    first = depth // 2 // PATCH[0] * PATCH[0]
    layer = mask[0, first : first + PATCH[0]].reshape(
        PATCH[0], height // PATCH[1], PATCH[1], width // PATCH[2], -1
    )
    is_background = layer.any(axis=(0, 2, 4))
    gain = np.where(np.kron(is_background, np.ones(PATCH[1:], dtype=bool)), BACKGROUND_BRIGHTNESS, 1.0)
    shown = np.rint(volume[0, depth // 2] * gain * 255).astype(np.uint8)
    shown[:: PATCH[1]] = np.maximum(shown[:: PATCH[1]], GRID_BRIGHTNESS)
    shown[:, :: PATCH[2]] = np.maximum(shown[:, :: PATCH[2]], GRID_BRIGHTNESS)
    return shown


def _write_png(path: Path, shown: Pixels) -> None:
    import cv2

    _, content = cv2.imencode(".png", shown)
    files.write_bytes(path, content.tobytes())


def _figure(row: dict, name: str) -> str:
    told = f"<br><span class=warned>{escape(', '.join(row['warnings']))}</span>" if row["warnings"] else ""
    shape = " x ".join(str(row[axis]) for axis in ("depth", "height", "width"))
    return (
        f"<figure><img loading=lazy src={name} alt=''><figcaption>{escape(row['study'])} / "
        f"{escape(row['image'])} ({row['mode']})<br>{shape}, {row['foreground_tokens']} of {row['tokens']} tokens"
        f"{told}</figcaption></figure>"
    )


def _refused_images(cache: CacheManager) -> list[str]:
    """Return a line a study and reason for files that could not become an image of it; one is named."""
    listed = {**cache.metadata.studies, **cache.metadata.invalid_studies}
    files_of: dict[tuple[str, str], list[str]] = {}
    for name, info in sorted(listed.items()):
        for one in info["refused_images"]:
            files_of.setdefault((name, ", ".join(one["reasons"])), []).append(one["filename"])
    return [
        f"<li class=refused>{escape(study)}: {len(names)} x {escape(reasons)} ({escape(names[0])})</li>"
        for (study, reasons), names in files_of.items()
    ]


def _page(
    studies: pl.DataFrame, statistics: Statistics, figures: list[str], refused_images: list[str]
) -> str:
    invalid = studies.filter(~pl.col("is_usable")).to_dicts()
    refused = statistics.images.filter(pl.col("status") != "cached").to_dicts()
    lines = [
        f"<li class=refused>{escape(row['study'])}: {escape(', '.join(row['reasons']))}</li>"
        for row in invalid
    ] + [
        f"<li class=refused>{escape(row['study'])} / {escape(row['image'])}: "
        f"{escape(', '.join(row['reasons']) or row['status'])}</li>"
        for row in refused
    ]
    streams = "".join(
        f"<tr><td>{row['stream']}<td>{row['images']}<td>{row['foreground_voxels']}<td>{_share(row['mean'])}"
        f"<td>{_share(row['std'])}<td>{_share(row['saturated_share'])}"
        for row in statistics.streams.to_dicts()
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>Token cache</title><style>{_STYLE}</style>"
        f"<h1>{studies['is_usable'].sum()} studies, {len(figures)} images cached</h1>"
        "<table><tr><th>stream<th>images<th>foreground voxels<th>mean<th>deviation<th>saturated"
        f"{streams}</table><ul>{''.join([*lines, *refused_images])}</ul>"
        "<p>Middle slices; brain window of CT. Background tokens are dark.</p>"
        f"{''.join(figures)}"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
