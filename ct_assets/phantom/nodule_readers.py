"""Four simulated readers of a phantom with nodules: their marks as an LIDC-IDRI read message.

Belongs here: what a reader overlooks, outlines and rates, and the XML. Does not: nodules (`phantom.nodules`). An outline
runs through the first pixels outside, as the LIDC document has it.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid
from ct_assets.phantom.nodules import Case, Nodule

READERS = 4
NAMESPACE = "http://www.nih.gov"
SEEN, SEEN_DOT, SEEN_VESSEL = 0.93, 0.5, 0.3
SCALE, SHIFT_MM = 0.04, 0.25
"""Standard deviations of a reader's outline: share of the size, and millimetres."""
MARGIN_MM = 4.0
TEXTURE = {"solid": 5, "part_solid": 3, "ground_glass": 1, "calcified": 5}
CALCIFIED, NOT_CALCIFIED = 3, 6


def message(
    case: Case,
    grid: Grid,
    series_uid: str,
    image_uids: Sequence[str],
    rng: np.random.Generator,
    *,
    jitter: float = 1.0,
) -> str:
    """Return the read message of a scan; `image_uids` are those of its slices. Without `jitter` all readers agree."""
    sessions = "".join(_session(case, grid, image_uids, rng, jitter) for _ in range(READERS))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage xmlns="{NAMESPACE}"><ResponseHeader>'
        f"<SeriesInstanceUid>{escape(series_uid)}</SeriesInstanceUid></ResponseHeader>{sessions}</LidcReadMessage>\n"
    )


def _session(
    case: Case, grid: Grid, image_uids: Sequence[str], rng: np.random.Generator, jitter: float
) -> str:
    marks = []
    for number, nodule in enumerate(case.nodules):
        scale = 1 + jitter * SCALE * float(rng.normal())
        shift = jitter * SHIFT_MM * rng.normal(size=3)
        ratings = _ratings(nodule, rng, jitter)
        if jitter and rng.random() > SEEN:
            continue
        outlines = _outlines(nodule, grid, image_uids, scale, shift)
        if outlines:
            marks.append(_nodule(f"N{number}", ratings, outlines))
    for number, dot in enumerate(case.dots):
        if not jitter or rng.random() < SEEN_DOT:
            marks.append(_nodule(f"S{number}", "", _point(dot.centre_mm, grid, image_uids, "roi")))
    if case.chest.vessels and rng.random() < SEEN_VESSEL * jitter:
        vessel = case.chest.vessels[int(rng.integers(len(case.chest.vessels)))]
        place = _point(
            tuple(case.chest.size * value for value in vessel.end_mm), grid, image_uids, "nonNodule"
        )
        marks.append(place)
    return f"<readingSession>{''.join(marks)}</readingSession>"


def _nodule(name: str, ratings: str, outlines: str) -> str:
    if not outlines:
        return ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{ratings}{outlines}</unblindedReadNodule>"


def _ratings(nodule: Nodule, rng: np.random.Generator, jitter: float) -> str:
    size = nodule.diameter_mm
    is_calcified = nodule.kind == "calcified"
    usual = {
        "subtlety": (2 + size / 5, 5),
        "internalStructure": (1, 1),
        "sphericity": (4, 5),
        "margin": (4 if nodule.kind in ("solid", "calcified") else 2, 5),
        "lobulation": (1 + size / 10, 5),
        "spiculation": (1 + size / 8, 5),
        "texture": (TEXTURE[nodule.kind], 5),
        "malignancy": (1 if is_calcified else 2 + size / 8, 5),
    }
    given = {
        name: int(np.clip(round(value + jitter * 0.5 * float(rng.normal())), 1, highest))
        for name, (value, highest) in usual.items()
    }
    given["calcification"] = CALCIFIED if is_calcified else NOT_CALCIFIED
    return f"<characteristics>{''.join(f'<{name}>{value}</{name}>' for name, value in given.items())}</characteristics>"


def _outlines(
    nodule: Nodule, grid: Grid, image_uids: Sequence[str], scale: float, shift_mm: npt.NDArray[np.float64]
) -> str:
    reach = max(nodule.diameters_mm) / 2 * scale + MARGIN_MM
    middle = grid.index(np.asarray(nodule.centre_mm) + shift_mm)[::-1]
    around = reach * np.linalg.norm(np.linalg.inv(grid.affine_lps[:3, :3]), axis=1)[::-1]
    low = np.maximum(np.floor(middle - around), 0).astype(int)
    high = np.minimum(np.ceil(middle + around) + 1, grid.shape).astype(int)
    if (high <= low).any():
        return ""
    k, j, i = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
    inside = nodule.contains(
        grid.world(np.stack([i, j, k], axis=-1).astype(float)), scale=scale, shift_mm=shift_mm
    )
    rois = []
    for plane, mask in enumerate(inside):
        if mask.any():
            points = ring(mask) + low[[2, 1]]
            if (points >= 0).all() and (points < grid.shape[:0:-1]).all():
                rois.append(_roi(image_uids[low[0] + plane], points))
    return "".join(rois)


def ring(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the pixels next to a convex mask, in order around it, as (column, row)."""
    from scipy import ndimage

    padded = np.pad(mask, 1)
    row, column = np.nonzero(ndimage.binary_dilation(padded) & ~padded)
    rows, columns = np.nonzero(padded)
    order = np.argsort(np.arctan2(row - rows.mean(), column - columns.mean()), kind="stable")
    return np.stack([column[order] - 1, row[order] - 1], axis=1)


def _point(centre_mm: Sequence[float], grid: Grid, image_uids: Sequence[str], element: str) -> str:
    i, j, k = (int(value) for value in np.rint(grid.index(np.asarray(centre_mm, dtype=float))))
    if min(i, j, k) < 0 or k >= grid.shape[0] or j >= grid.shape[1] or i >= grid.shape[2]:
        return ""
    if element == "roi":
        return _roi(image_uids[k], np.array([[i, j]]))
    return (
        f"<nonNodule><nonNoduleID>V</nonNoduleID><imageSOP_UID>{image_uids[k]}</imageSOP_UID>"
        f"<locus><xCoord>{i}</xCoord><yCoord>{j}</yCoord></locus></nonNodule>"
    )


def _roi(image_uid: str, points: npt.NDArray[np.int64]) -> str:
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points.tolist()
    )
    return f"<roi><imageSOP_UID>{image_uid}</imageSOP_UID><inclusion>TRUE</inclusion>{edges}</roi>"
