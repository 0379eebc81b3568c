"""From the marks of several readers to nodules: where each mark lies, which belong together, what half of them agree on.

Belongs here: one scan's marks and nodules. Does not: XML (`lidc`), outlines to pixels (`outlines`), files
(`lidc_folder`).

An outline runs through the first pixels outside the nodule (LIDC document, "Reading and annotation"), so its points are
not nodule; the points of a hole are not nodule either. Marks of at least 3 mm belong to one nodule where their masks
share a voxel, or their centres are nearer than the smaller of their radii; smaller nodules and non-nodules stay apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.systems.nodules import outlines
from ct_assets.systems.nodules.lidc import COLUMN_OF, Message, Outline, ReadMark
from ct_assets.systems.nodules.planes import Planes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

READERS_OF_REFERENCE = 3
"""A nodule is in the reference from so many readers on (LUNA16: of four)."""
SAME_Z_MM = 0.5
NO_VOXELS: Integers = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class PlacedMark:
    """A mark in the patient."""

    read: ReadMark
    session: int
    centre_mm: Floats | None
    """LPS; None where none of its images is in the series."""
    voxels: Integers | None
    """plane * rows * columns + pixel, ascending; None without an outline."""
    radius_mm: float
    """Of the ball with the volume of its mask; half its extent without one."""
    warnings: tuple[str, ...]
    nodule: int | None = None

    @property
    def mask(self) -> Integers:
        """Its voxels; none without an outline."""
        return NO_VOXELS if self.voxels is None else self.voxels

    @property
    def centre(self) -> Floats:
        """Its centre, where it has one."""
        return np.asarray(self.centre_mm, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Nodule:
    """A nodule of at least 3 mm, as its readers outlined it."""

    marks: tuple[PlacedMark, ...]
    centre_mm: Floats
    consensus: Integers
    """Voxels that at least half of its readers outlined."""
    diameter_mm: float | None

    @property
    def readers(self) -> int:
        """Sessions that marked it."""
        return len({mark.session for mark in self.marks})

    def rating(self, name: str) -> float | None:
        """Return the mean of the ratings that were given."""
        given = [value for mark in self.marks if (value := mark.read.ratings[name]) is not None]
        return float(np.mean(given)) if given else None


def place(message: Message, planes: Planes) -> list[PlacedMark]:
    """Return all marks of a message where they lie, by session and in the order of the file."""
    return [
        _placed(mark, session, planes) for session, marks in enumerate(message.sessions) for mark in marks
    ]


def nodules(marks: list[PlacedMark], planes: Planes) -> tuple[list[PlacedMark], list[Nodule]]:
    """Join marks of at least 3 mm into nodules, sorted by z, y and x; the marks come back with their nodule."""
    candidates = [
        number
        for number, mark in enumerate(marks)
        if mark.read.kind == "nodule_ge3" and mark.centre_mm is not None
    ]
    joined = [
        (members, _joined([marks[number] for number in members], planes))
        for members in _components(candidates, marks)
    ]
    joined.sort(key=lambda pair: (*pair[1].centre_mm[::-1].tolist(), pair[0]))
    result = list(marks)
    for at, (members, _) in enumerate(joined):
        for number in members:
            result[number] = replace(marks[number], nodule=at)
    return result, [nodule for _, nodule in joined]


def mark_row(series_uid: str, mark: PlacedMark) -> dict[str, Any]:
    """Return a mark's row of `NoduleMarks`."""
    return {
        "series_uid": series_uid,
        "session": mark.session,
        "nodule_id": mark.read.nodule_id,
        "kind": mark.read.kind,
        **_position(mark.centre_mm),
        "voxels": None if mark.voxels is None else len(mark.voxels),
        "nodule": mark.nodule,
        "warnings": list(mark.warnings),
        **mark.read.ratings,
    }


def nodule_row(series_uid: str, number: int, nodule: Nodule) -> dict[str, Any]:
    """Return a nodule's row of `NoduleReference`."""
    return {
        "series_uid": series_uid,
        "nodule": number,
        "readers": nodule.readers,
        "marks": len(nodule.marks),
        "in_reference": nodule.readers >= READERS_OF_REFERENCE,
        **_position(nodule.centre_mm),
        "diameter_mm": nodule.diameter_mm,
        "consensus_voxels": len(nodule.consensus),
        "warnings": ["more_marks_than_readers"] if len(nodule.marks) > nodule.readers else [],
        **{name: nodule.rating(name) for name in COLUMN_OF.values()},
    }


def consensus_row(series_uid: str, number: int, nodule: Nodule, planes: Planes) -> dict[str, Any]:
    """Return a nodule's row of `NoduleConsensus`."""
    x, y, z = planes.positions(nodule.consensus).T
    return {
        "series_uid": series_uid,
        "nodule": number,
        "x_mm": x.tolist(),
        "y_mm": y.tolist(),
        "z_mm": z.tolist(),
    }


def diameter_of(volume_mm3: float) -> float:
    """Return the diameter of the ball with that volume."""
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def _position(centre: Floats | None) -> dict[str, float | None]:
    values = (None, None, None) if centre is None else centre.tolist()
    return dict(zip(("x_mm", "y_mm", "z_mm"), values, strict=True))


def _placed(mark: ReadMark, session: int, planes: Planes) -> PlacedMark:
    warnings = set(mark.warnings)
    drawn = [outline for outline in mark.outlines if _is_drawable(outline, planes, warnings)]
    wanted = [outline for outline in drawn if outline.is_inclusion]
    points = [_points(outline, planes) for outline in wanted]
    around = np.concatenate(points) if points else np.empty((0, 3))
    centre = around.mean(axis=0) if len(around) else None
    if mark.kind != "nodule_ge3":
        return PlacedMark(mark, session, centre, None, 0.0, tuple(sorted(warnings)))
    voxels = _mask(drawn, planes, warnings)
    if len(voxels):
        centre = planes.centre(voxels)
        crossed = np.unique(voxels // (planes.rows * planes.columns))
        if crossed[-1] - crossed[0] + 1 > len(crossed):
            warnings.add("outline_skips_slices")
    elif drawn:
        warnings.add("outline_without_interior")
    volume = None if planes.voxel_mm3 is None else planes.voxel_mm3 * len(voxels)
    extent = float(np.ptp(around, axis=0).max()) if len(around) else 0.0
    radius = (diameter_of(volume) if volume else extent) / 2
    return PlacedMark(mark, session, centre, voxels if wanted else None, radius, tuple(sorted(warnings)))


def _is_drawable(outline: Outline, planes: Planes, warnings: set[str]) -> bool:
    plane = planes.number_of.get(outline.image_uid)
    if plane is None:
        known = outline.image_uid in planes.unusable
        warnings.add("image_geometry_unknown" if known else "image_not_in_series")
        return False
    points = np.asarray(outline.points)
    if (points < 0).any() or (points >= (planes.columns, planes.rows)).any():
        warnings.add("outline_outside_image")
        return False
    if outline.z_mm is not None and abs(outline.z_mm - planes.origins[plane][2]) > SAME_Z_MM:
        warnings.add("slice_position_differs")
    return True


def _points(outline: Outline, planes: Planes) -> Floats:
    points = np.asarray(outline.points)
    return planes.world(planes.number_of[outline.image_uid], points[:, 1] * planes.columns + points[:, 0])


def _mask(drawn: list[Outline], planes: Planes, warnings: set[str]) -> Integers:
    """Return the voxels inside the outlines of inclusion, without those inside or on holes."""
    filled, holes = [NO_VOXELS], [NO_VOXELS]
    for outline in drawn:
        try:
            inside, line = outlines.pixels(np.asarray(outline.points, dtype=np.int64), planes.columns)
        except outlines.OutlineError:
            warnings.add("outline_unreadable")
            continue
        first = planes.number_of[outline.image_uid] * planes.rows * planes.columns
        if outline.is_inclusion:
            filled.append(inside + first)
        else:
            holes += [inside + first, line + first]
    return np.setdiff1d(np.concatenate(filled), np.concatenate(holes))


def _components(candidates: list[int], marks: list[PlacedMark]) -> Iterator[list[int]]:
    """Yield the groups of marks that are joined directly or through others."""
    waiting = list(candidates)
    while waiting:
        group, border = [], [waiting.pop(0)]
        while border:
            member = border.pop()
            group.append(member)
            near = [other for other in waiting if _belong_together(marks[member], marks[other])]
            border += near
            waiting = [other for other in waiting if other not in near]
        yield sorted(group)


def _belong_together(first: PlacedMark, second: PlacedMark) -> bool:
    away = float(np.linalg.norm(first.centre - second.centre))
    if away < min(first.radius_mm, second.radius_mm):
        return True
    return bool(np.intersect1d(first.mask, second.mask, assume_unique=True).size)


def _joined(members: list[PlacedMark], planes: Planes) -> Nodule:
    sessions = sorted({mark.session for mark in members})
    masks = [
        np.unique(np.concatenate([mark.mask for mark in members if mark.session == session]))
        for session in sessions
    ]
    voxels, votes = np.unique(np.concatenate(masks), return_counts=True)
    consensus = voxels[2 * votes >= len(sessions)]
    agreed = len(consensus) > 0
    centre = planes.centre(consensus) if agreed else np.mean([mark.centre for mark in members], axis=0)
    volume = None if planes.voxel_mm3 is None else planes.voxel_mm3 * len(consensus)
    diameter = diameter_of(volume) if volume else None
    return Nodule(tuple(members), centre, consensus, diameter)
