"""Pages of the NIfTI cache: one a case, and a contact sheet over which a person looks in minutes.

Belongs here: drawing what the cache holds (three planes with the mask's outline, histogram, header facts).
Does not: refused series (`reports.series`), making volumes (`imaging.nifti_cohort`).
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, parallel
from ct_assets.imaging import nifti, windows
from ct_assets.imaging.nifti_cohort import record_path
from ct_assets.imaging.orient import orient
from ct_assets.imaging.volume import Volume
from ct_assets.layout import Layout
from ct_assets.progress import track

Pixels = npt.NDArray[np.uint8]

WINDOWS = ("mediastinum", "lung")
OUTLINE_RGB = (255, 190, 40)
PLANE_SIZE = 360
"""Pixels of the volume's longest side on the page; all planes have one scale."""
THUMBNAIL_SHARE = 1 / 3
HISTOGRAM_BINS_HU = np.arange(-1100, 1600, 25)
SUBSAMPLE = 3
"""Every third voxel along each axis is enough for a histogram that people look at."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{border-bottom:1px solid #ddd;padding:.2rem .6rem;text-align:left;
vertical-align:top}img{background:#000;max-width:100%}.planes{display:flex;gap:.4rem;flex-wrap:wrap}
.sheet{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(23rem,1fr))}
.sheet a{color:inherit;text-decoration:none;border:1px solid #ddd;padding:.4rem;display:block;font-size:.85rem}
.warned{border-color:#d1783c!important}.refused{border-color:#c0392b!important;background:#fdecea}
.note{color:#666}svg{width:34rem;max-width:100%}
"""
_HEADER_FACTS = (
    "manufacturer",
    "manufacturer_model_name",
    "convolution_kernel",
    "kvp_kv",
    "slice_thickness_mm",
    "contrast_bolus_agent",
    "image_type",
    "body_part_examined",
    "patient_position",
    "reconstruction_diameter_mm",
    "transfer_syntax_uid",
)


@dataclass(frozen=True)
class _Job:
    row: dict[str, Any]
    layout: Layout


def write_pages(layout: Layout, digests: pl.DataFrame, *, made: tuple[str, ...], workers: int) -> Path:
    """Write the pages of the cases that were made, or have none, and the contact sheet; return its path.

    `digests` is the table of the cache (`tables.volumes.NiftiDigests`). Pages of cases that are no longer
    there are removed.
    """
    folder = layout.reports / "cases"
    rows = digests.to_dicts()
    wanted = {f"{row['case_id']}{suffix}" for row in rows for suffix in (".html", ".png", "_small.png")}
    for path in folder.glob("case_*"):
        if path.name not in wanted:
            path.unlink()
    jobs = [
        _Job(row, layout)
        for row in rows
        if row["case_id"] in made or not (folder / f"{row['case_id']}.html").exists()
    ]
    with track("case pages", len(jobs)) as advance:
        for _ in parallel.map_ordered(
            _write_page, jobs, workers=min(workers, len(jobs)), preload=("ct_assets.reports.cases",)
        ):
            advance(1)
    sheet = folder / "index.html"
    files.write_text(sheet, _sheet(rows))
    return sheet


def planes(image: Volume, label: Volume, window: str) -> list[Pixels]:
    """Return axial, coronal and sagittal pictures (rows, columns, RGB) with the label's outline.

    The planes go through the label's largest section in each direction (the middle without a label); pixels
    are square, the patient's head is up, his right is on the picture's left.
    """
    image, label = orient(image, "LPS"), orient(label, "LPS")
    mask = label.array.astype(np.bool_)
    spacing = image.grid.spacing_mm[::-1]
    mm_per_pixel = max(np.multiply(image.array.shape, spacing)) / PLANE_SIZE
    pictures = []
    for axis in range(3):
        row_axis, column_axis = (other for other in range(3) if other != axis)
        area = mask.sum(axis=(row_axis, column_axis))
        at = int(area.argmax()) if area.any() else mask.shape[axis] // 2
        gray = windows.quantise(windows.window(window).linear(np.take(image.array, at, axis=axis)))
        section = np.take(mask, at, axis=axis)
        if axis:  # rows are slices from feet to head: turn the head up
            gray, section = gray[::-1], section[::-1]
        rows, columns = (
            max(round(size * spacing[other] / mm_per_pixel), 1)
            for size, other in zip(gray.shape, (row_axis, column_axis), strict=True)
        )
        pictures.append(_picture(gray, section, rows, columns))
    return pictures


def _picture(gray: Pixels, section: npt.NDArray[np.bool_], rows: int, columns: int) -> Pixels:
    """Return an RGB picture of `rows` x `columns` with the outline of `section`."""
    import cv2

    larger = cv2.resize(np.ascontiguousarray(gray), (columns, rows), interpolation=cv2.INTER_LINEAR)
    filled = cv2.resize(section.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST)
    inner = cv2.erode(filled, np.ones((3, 3), np.uint8))
    picture = np.repeat(larger[..., np.newaxis], 3, axis=2)
    picture[(filled > 0) & (inner == 0)] = OUTLINE_RGB
    return picture.astype(np.uint8)


def _beside(pictures: list[Pixels]) -> Pixels:
    """Put pictures side by side on black, each in the middle of the tallest one's height."""
    height = max(len(picture) for picture in pictures)
    gap = np.full((height, 4, 3), 255, dtype=np.uint8)
    parts = []
    for picture in pictures:
        missing = height - len(picture)
        border = ((missing // 2, missing - missing // 2), (0, 0), (0, 0))
        parts += [np.pad(picture, border), gap]
    return np.concatenate(parts[:-1], axis=1)


def _write_png(path: Path, picture: Pixels) -> None:
    import cv2

    _, content = cv2.imencode(".png", picture[..., ::-1])
    files.write_bytes(path, content.tobytes())


def _write_page(job: _Job) -> None:
    """Write one case's pictures and page."""
    row, folder = job.row, job.layout.reports / "cases"
    case_id = row["case_id"]
    if row["status"] != "converted":
        files.write_text(folder / f"{case_id}.html", _refused_page(row))
        for suffix in (".png", "_small.png"):
            (folder / f"{case_id}{suffix}").unlink(missing_ok=True)
        return
    import cv2

    image = nifti.read(job.layout.root / row["image"])
    label = nifti.read(job.layout.root / row["label"])
    views = [_beside(planes(image, label, window)) for window in WINDOWS]
    _write_png(folder / f"{case_id}.png", np.concatenate(views, axis=0))
    share = THUMBNAIL_SHARE
    thumbnail = cv2.resize(views[0], None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    _write_png(folder / f"{case_id}_small.png", np.asarray(thumbnail, dtype=np.uint8))
    record = files.read_json(record_path(job.layout, case_id))
    files.write_text(folder / f"{case_id}.html", _case_page(row, record, _histogram(image, label)))


def _case_page(row: dict[str, Any], record: dict[str, Any], histogram: str) -> str:
    image = record["image"]
    facts = {
        "patient": row["patient_id"],
        "image series": row["image_series_id"],
        "mask": f"{row['mask_sop_instance_uid']} ({record['mask']['kind']}, found by {row['found_by']})",
        "tumour segment": f"{row['tumour_segment_number']}: {row['tumour_segment_label']}",
        "tumour": f"{row['tumour_volume_ml']:.2f} ml, {row['tumour_voxels']} voxels",
        "voxels (i, j, k)": " x ".join(map(str, row["shape"])),
        "spacing, mm": " x ".join(f"{step:.4g}" for step in row["spacing_mm"]),
        "HU": f"{row['hu_min']:g} to {row['hu_max']:g}, {image['dtype']}",
        "largest position error, mm": row["max_position_error_mm"],
        "corrections": ", ".join(image["corrections"]) or "none",
        "warnings": ", ".join(row["warnings"]) or "none",
        "plane, tilt": f"{image['geometry']['plane']}, {image['geometry']['tilt_deg']} degrees",
        "slices left out": len(image["slices_left_out"]),
    } | {name: _text(image["header"].get(name)) for name in _HEADER_FACTS}
    if image["header_varies"]:
        facts["varies between slices"] = ", ".join(image["header_varies"])
    lines = "".join(
        f"<tr><th>{escape(name)}<td>{escape(str(value))}"
        for name, value in facts.items()
        if value is not None
    )
    case_id = escape(row["case_id"])
    names = " and ".join(WINDOWS)
    return (
        f"<!doctype html><meta charset=utf-8><title>{case_id}</title><style>{_STYLE}</style>"
        f"<p><a href=index.html>All cases</a></p><h1>{case_id}</h1>"
        f"<img src={case_id}.png alt='three planes, {names} window'>"
        f"<p class=note>Axial, coronal, sagittal through the largest section of the tumour; {names} window.</p>"
        f"{histogram}<table>{lines}</table>"
    )


def _refused_page(row: dict[str, Any]) -> str:
    from ct_assets.reasons import reason

    told = "".join(
        f"<tr><th>{escape(code)}<td>{escape(reason(code).meaning)} {escape(reason(code).mend)}"
        for code in row["reasons"]
    )
    case_id = escape(row["case_id"])
    return (
        f"<!doctype html><meta charset=utf-8><title>{case_id}</title><style>{_STYLE}</style>"
        f"<p><a href=index.html>All cases</a></p><h1>{case_id}: not converted</h1><table>{told}</table>"
    )


def _histogram(image: Volume, label: Volume) -> str:
    """Return an SVG of the HU of the image and of the tumour, each scaled to its own largest bin."""
    hu = image.array[::SUBSAMPLE, ::SUBSAMPLE, ::SUBSAMPLE].ravel()
    tumour = image.array[label.array.astype(np.bool_)]
    width, height, bins = 600, 110, len(HISTOGRAM_BINS_HU) - 1
    bars = []
    for values, colour in ((hu, "#9bb6cc"), (tumour, "#d1783c")):
        counts, _ = np.histogram(values, HISTOGRAM_BINS_HU)
        shares = np.sqrt(counts / max(counts.max(), 1))
        points = " ".join(
            f"{at * width / bins:.1f},{height - share * height:.1f}" for at, share in enumerate(shares)
        )
        bars.append(f"<polyline fill=none stroke='{colour}' stroke-width=2 points='{points}'/>")
    first, last = HISTOGRAM_BINS_HU[0], HISTOGRAM_BINS_HU[-1]
    ticks = "".join(
        f"<text x={(hu - first) / (last - first) * width:.0f} y={height + 14} font-size=11>{hu}</text>"
        for hu in (-1000, -500, 0, 500, 1000)
    )
    return (
        f"<figure><svg viewBox='0 0 {width} {height + 20}'>{''.join(bars)}{ticks}</svg>"
        "<figcaption class=note>HU of the image (blue) and of the tumour (orange); square root of the counts,"
        " each by its largest bin.</figcaption></figure>"
    )


def _sheet(rows: list[dict[str, Any]]) -> str:
    """Return the contact sheet: refused cases first, then those with warnings, then the rest by number."""
    ordered = sorted(
        rows, key=lambda row: (row["status"] == "converted", not row["warnings"], row["case_id"])
    )
    refused = sum(row["status"] != "converted" for row in rows)
    return (
        f"<!doctype html><meta charset=utf-8><title>Cases</title><style>{_STYLE}</style>"
        f"<h1>{len(rows) - refused} cases, {refused} refused</h1>"
        "<p class=note>Axial, coronal, sagittal through the largest section of the tumour. Refused cases "
        f"come first, then those with warnings.</p><div class=sheet>{''.join(map(_card, ordered))}</div>"
    )


def _card(row: dict[str, Any]) -> str:
    case_id = escape(row["case_id"])
    if row["status"] != "converted":
        told = escape(", ".join(row["reasons"]))
        return f"<a class=refused href={case_id}.html><b>{case_id}</b><br>{told}</a>"
    told = escape(", ".join(row["warnings"]))
    spacing = " x ".join(f"{step:.3g}" for step in row["spacing_mm"])
    kind = " class=warned" if row["warnings"] else ""
    return (
        f"<a{kind} href={case_id}.html><img loading=lazy src={case_id}_small.png alt=''><br>"
        f"<b>{case_id}</b> {row['tumour_volume_ml']:.1f} ml, {spacing} mm<br>{told}</a>"
    )


def _text(value: object) -> str | None:
    if value is None:
        return None
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
