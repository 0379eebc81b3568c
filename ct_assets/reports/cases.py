"""Pages of the NIfTI cache: one a case, and a contact sheet over which a person looks in minutes.

Belongs here: drawing what the cache holds (three planes with the mask's outline, histogram, header facts).
Does not: refused series (`reports.series`), making volumes (`imaging.nifti_cohort`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from markupsafe import Markup, escape

from ct_assets import files, parallel
from ct_assets.imaging import nifti, windows
from ct_assets.imaging.nifti_cohort import record_path
from ct_assets.imaging.orient import orient
from ct_assets.imaging.volume import Volume
from ct_assets.layout import Layout
from ct_assets.progress import track
from ct_assets.reports.page import footer, nav, reason_text

Pixels = npt.NDArray[np.uint8]

WINDOWS = ("mediastinum", "lung")
OUTLINE_RGB = (255, 190, 40)
MARK_RGB = (170, 215, 255)
LARGE_TEXT, SMALL_TEXT = 0.5, 0.38
SCALE_MM = 50
PLANE_SIZE = 360
"""Pixels of the volume's longest side on the page; all planes have one scale."""
THUMBNAIL_SHARE = 1 / 3
HISTOGRAM_BINS_HU = np.arange(-1100, 1600, 25)
SUBSAMPLE = 3
_SUFFIXES = (".html", ".png", "_small.png")
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
_HEADER_FACTS = {
    "manufacturer": "manufacturer",
    "manufacturer_model_name": "model",
    "convolution_kernel": "convolution kernel",
    "kvp_kv": "tube voltage, kV",
    "slice_thickness_mm": "slice thickness, mm",
    "contrast_bolus_agent": "contrast agent",
    "image_type": "image type",
    "body_part_examined": "body part examined",
    "patient_position": "patient position",
    "reconstruction_diameter_mm": "reconstruction diameter, mm",
    "transfer_syntax_uid": "transfer syntax UID",
}


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
    wanted = {f"{row['case_id']}{suffix}" for row in rows for suffix in _SUFFIXES}
    for path in folder.glob("case_*"):
        if path.name not in wanted:
            path.unlink()
    jobs = [
        _Job(row, layout)
        for row in rows
        if row["case_id"] in made
        or not all((folder / f"{row['case_id']}{suffix}").exists() for suffix in _SUFFIXES)
    ]
    with track("case pages", len(jobs)) as advance:
        for _ in parallel.map_ordered(
            _write_page, jobs, workers=min(workers, len(jobs)), preload=("ct_assets.reports.cases",)
        ):
            advance(1)
    sheet = folder / "index.html"
    files.write_text(sheet, _sheet(rows))
    return sheet


@dataclass(frozen=True)
class Plane:
    """A picture through a volume (rows, columns, RGB; pixels are square), and where it lies."""

    name: str
    picture: Pixels
    position_lps_mm: float
    """Of the section's middle, along the axis that the plane is across."""
    number: int
    """Of the section, from 1: from the feet up, from front to back, from right to left."""
    count: int
    mm_per_pixel: float

    @property
    def caption(self) -> str:
        """Name, position and number, as marked in the picture."""
        plus, minus = _SIDES[self.name]
        side = plus if self.position_lps_mm >= 0 else minus
        return f"{self.name} {side} {abs(self.position_lps_mm):.1f} mm, {self.number} of {self.count}"


_SIDES = {"axial": ("S", "I"), "coronal": ("P", "A"), "sagittal": ("L", "R")}
"""Patient's sides towards which the LPS coordinate across the plane grows and falls."""
_EDGES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
"""Patient's sides at the left, right, top and bottom edge of a picture."""


def planes(image: Volume, label: Volume, window: str) -> list[Plane]:
    """Return axial, coronal and sagittal sections with the label's outline.

    The planes go through the label's largest section in each direction (the middle without a label); the patient's head
    is up, his right is on the picture's left, in the sagittal plane his front.
    """
    image, label = orient(image, "LPS"), orient(label, "LPS")
    mask = label.array.astype(np.bool_)
    spacing = image.grid.spacing_mm[::-1]
    mm_per_pixel = float(max(np.multiply(image.array.shape, spacing)) / PLANE_SIZE)
    sections = []
    for axis, name in enumerate(_SIDES):
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
        middle = (np.array(image.array.shape) - 1) / 2
        middle[axis] = at
        position = (image.grid.affine_lps @ [*middle[::-1], 1.0])[2 - axis]
        picture = _picture(gray, section, rows, columns)
        sections.append(Plane(name, picture, float(position), at + 1, mask.shape[axis], mm_per_pixel))
    return sections


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
        parts += [_padded(picture, height), gap]
    return np.concatenate(parts[:-1], axis=1)


def _padded(picture: Pixels, height: int) -> Pixels:
    missing = height - len(picture)
    return np.pad(picture, ((missing // 2, missing - missing // 2), (0, 0), (0, 0)))


def _marked(sections: list[Plane], window: str) -> Pixels:
    """Return sections side by side with the patient's sides, position, window and a scale marked in them."""
    height = max(len(section.picture) for section in sections)
    chosen = windows.window(window)
    marked = []
    for section in sections:
        picture = _padded(section.picture, height)
        width = picture.shape[1]
        left, right, top, bottom = _EDGES[section.name]
        for text, x, y in (
            (left, 4, height // 2),
            (right, width - 14, height // 2),
            (top, width // 2 - 5, 30),
            (bottom, width // 2 - 5, height - 6),
        ):
            _write_text(picture, text, x, y, LARGE_TEXT)
        _write_text(picture, section.caption, 4, 14, SMALL_TEXT)
        _write_text(picture, f"W {chosen.width_hu:g} L {chosen.level_hu:g}", 4, height - 6, SMALL_TEXT)
        bar = round(SCALE_MM / section.mm_per_pixel)
        picture[height - 8 : height - 6, width - 6 - bar : width - 6] = MARK_RGB
        _write_text(picture, f"{SCALE_MM} mm", width - 6 - bar, height - 12, SMALL_TEXT)
        marked.append(picture)
    return _beside(marked)


def _write_text(picture: Pixels, text: str, x: int, y: int, size: float) -> None:
    import cv2

    for colour, thickness in (
        ((0, 0, 0), 3),
        (MARK_RGB, 1),
    ):  # on a dark border, so that it shows on bone too
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)


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
    sections = {window: planes(image, label, window) for window in WINDOWS}
    _write_png(
        folder / f"{case_id}.png",
        np.concatenate([_marked(shown, window) for window, shown in sections.items()], axis=0),
    )
    share = THUMBNAIL_SHARE
    plain = _beside([section.picture for section in sections[WINDOWS[0]]])
    thumbnail = cv2.resize(plain, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    _write_png(folder / f"{case_id}_small.png", np.asarray(thumbnail, dtype=np.uint8))
    record = files.read_json(record_path(job.layout, case_id))
    content = _case_page(row, record, _histogram(image, label), sections[WINDOWS[0]])
    files.write_text(folder / f"{case_id}.html", content)


def _case_page(row: dict[str, Any], record: dict[str, Any], histogram: str, sections: list[Plane]) -> str:
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
        "warnings": Markup(", ").join(map(reason_text, row["warnings"])) or "none",
        "plane, tilt": f"{image['geometry']['plane']}, {image['geometry']['tilt_deg']} degrees",
        "slices left out": len(image["slices_left_out"]),
    } | {title: _text(image["header"].get(name)) for name, title in _HEADER_FACTS.items()}
    if image["header_varies"]:
        facts["varies between slices"] = ", ".join(image["header_varies"])
    lines = "".join(
        f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in facts.items() if value is not None
    )
    case_id = escape(row["case_id"])
    where = "; ".join(section.caption for section in sections)
    return (
        f"<!doctype html><meta charset=utf-8><title>Case {case_id}</title><style>{_STYLE}</style>{nav('../')}"
        f"<p><a href=index.html>All cases</a> &nbsp; <a href=../../viewer/cases/{case_id}>Open in the viewer</a>"
        f" (while <code>ct-assets ui</code> runs)</p><h1>{case_id}</h1>"
        f"<img src={case_id}.png alt='three planes, {' and '.join(WINDOWS)} window'>"
        f"<p class=note>{escape(where)}, through the largest section of the tumour (outlined); above "
        f"{WINDOWS[0]} window, below "
        f"{WINDOWS[1]} window. Positions from the origin of the patient's coordinates, bar {SCALE_MM} mm.</p>"
        f"{histogram}<table>{lines}</table><h2>Open the files elsewhere</h2><p>Below the data root, the mask on exactly "
        f"the image's grid:</p><pre>itksnap -g {escape(row['image'])} -s {escape(row['label'])}\n"
        f"Slicer {escape(row['image'])} {escape(row['label'])}</pre><p class=note>In 3D Slicer, right-click the mask in "
        f"the module Data and choose <i>Convert labelmap to segmentation node</i>.</p>{footer()}"
    )


def _refused_page(row: dict[str, Any]) -> str:
    from ct_assets.reasons import reason

    told = "".join(
        f"<tr><th>{escape(code)}<td>{escape(reason(code).meaning)} {escape(reason(code).mend)}"
        for code in row["reasons"]
    )
    case_id = escape(row["case_id"])
    return (
        f"<!doctype html><meta charset=utf-8><title>Case {case_id}</title><style>{_STYLE}</style>{nav('../')}"
        f"<p><a href=index.html>All cases</a></p><h1>{case_id}: not converted</h1><table>{told}</table>{footer()}"
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
        f"<!doctype html><meta charset=utf-8><title>Cases</title><style>{_STYLE}</style>{nav('../')}"
        f"<h1>{len(rows) - refused} cases, {refused} refused</h1>"
        "<p class=note>Axial, coronal, sagittal through the largest section of the tumour. Refused cases "
        f"come first, then those with warnings.</p><div class=sheet>{''.join(map(_card, ordered))}</div>{footer()}"
    )


def _card(row: dict[str, Any]) -> str:
    case_id = escape(row["case_id"])
    if row["status"] != "converted":
        told = Markup(", ").join(map(reason_text, row["reasons"]))
        return f"<a class=refused href={case_id}.html><b>{case_id}</b><br>{told}</a>"
    told = Markup(", ").join(map(reason_text, row["warnings"]))
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
