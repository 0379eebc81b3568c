"""Chests with lung nodules: the nodules and what resembles them, on any scanner's grid.

Belongs here: inventing nodules and distractors, painting them, scanning. Does not: the body (`phantom.anatomy`), readers
(`phantom.nodule_readers`). Positions are LPS millimetres. Nothing here is measured on anybody; no figure on this phantom
may be set beside one on patients.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid
from ct_assets.phantom import anatomy, scanner

Floats = npt.NDArray[np.float64]

MOST_NODULES = 6
WITHOUT = 0.25
"""Share of scans without a nodule."""
DIAMETER_MM = (4.0, 20.0)
TYPES = {"solid": 0.6, "part_solid": 0.15, "ground_glass": 0.15, "calcified": 0.1}
PLACES = ("free", "wall", "fissure", "vessel", "vessel", "wall")
"""A third at wall, a third at vessels; the rest free or at the fissure."""
HU = {"solid": 40.0, "part_solid": -550.0, "ground_glass": -620.0, "calcified": 380.0}
CORE, CORE_HU = 0.5, 20.0
"""The solid core of a part-solid nodule, as a share of its diameter."""
DOTS = 5
"""Dots of 2 to 3 mm are at most so many a scan; LUNA16 would exclude them."""
DOT_MM = (2.0, 3.0)
FISSURE_MM, FISSURE_HU = 1.0, -500.0
APART_MM = 4.0
STEP_MM = 4.0
"""Grid on which places are looked for."""
LUNG_BELOW_HU = -700.0
SLAB = 16
SPACING_MM, SLICE_MM = (0.6, 0.9), (1.0, 2.5)


@dataclass(frozen=True)
class Nodule:
    """An ellipsoid in the lung."""

    kind: str
    """One of `TYPES`; `dot` below 3 mm."""
    place: str
    centre_mm: anatomy.Vector
    diameters_mm: anatomy.Vector

    @property
    def diameter_mm(self) -> float:
        """Of the ball with its volume."""
        return float(np.prod(self.diameters_mm) ** (1 / 3))

    def contains(
        self, points_lps_mm: Floats, *, scale: float = 1.0, shift_mm: Floats | float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Tell which points (..., 3) lie in it, scaled about its centre and shifted."""
        radii = np.asarray(self.diameters_mm) / 2 * scale
        away = (points_lps_mm - np.asarray(self.centre_mm) - shift_mm) / radii
        return np.asarray((away**2).sum(axis=-1) <= 1)


@dataclass(frozen=True)
class Case:
    """One invented patient."""

    chest: anatomy.Chest
    """Vessels, nodes and consolidation are its distractors; it has no tumour."""
    nodules: tuple[Nodule, ...]
    dots: tuple[Nodule, ...]

    @classmethod
    def invent(cls, seed: int, *, count: int | None = None) -> "Case":
        """Invent the patient of a seed; `count` overrides how many nodules there are."""
        rng = np.random.default_rng([seed, 61])
        stage = str(rng.choice(list(anatomy.NODES)))
        chest = replace(anatomy.Chest.invent(stage, rng), tumours=())
        if count is None:
            count = 0 if rng.random() < WITHOUT else int(rng.integers(1, MOST_NODULES + 1))
        room = _Room(chest)
        nodules = [nodule for _ in range(count) if (nodule := _invent(rng, room)) is not None]
        dots = []
        for _ in range(int(rng.integers(0, DOTS + 1))):
            size = float(rng.uniform(*DOT_MM))
            if (centre := room.take(rng, "free", size / 2)) is not None:
                dots.append(Nodule("dot", "free", centre, (size, size, size)))
        return cls(chest, tuple(nodules), tuple(dots))


def fine(machine: scanner.Scanner, rng: np.random.Generator) -> scanner.Scanner:
    """Return the machine with a protocol for nodules: 0.6 to 0.9 mm in plane, slices of 1 to 2.5 mm, some oblique."""
    spacing, step = rng.uniform(*SPACING_MM), round(float(rng.uniform(*SLICE_MM)), 2)
    depth = machine.slices * machine.step_mm
    return replace(
        machine,
        matrix=round(machine.field_of_view_mm / spacing),
        step_mm=step,
        thickness_mm=step,
        slices=round(depth / step),
        blur_mm=min(machine.blur_mm, 0.6),
        oblique_deg=float(rng.uniform(5, 15)) if rng.random() < 0.25 else 0.0,
        head_first=bool(rng.random() < 0.5),
    )


def scan(
    case: Case, machine: scanner.Scanner, rng: np.random.Generator
) -> tuple[Grid, npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Scan a patient: the grid, HU as whole numbers (k, j, i), and labels: n + 1 in nodule n, 0 elsewhere."""
    grid = machine.grid()
    hu = np.empty(grid.shape, dtype=np.float32)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    # The points of a whole fine scan would need a gigabyte.
    for first in range(0, grid.shape[0], SLAB):
        k, j, i = np.indices((min(SLAB, grid.shape[0] - first), *grid.shape[1:]))
        points = grid.world(np.stack([i, j, k + first], axis=-1).astype(np.float64))
        part = slice(first, first + SLAB)
        hu[part] = hounsfield(case, points, voxel_mm=float(np.mean(grid.spacing_mm)))
        for number, nodule in enumerate(case.nodules):
            labels[part][nodule.contains(points)] = number + 1
    return grid, scanner.expose(machine, grid, hu, rng), labels


def hounsfield(case: Case, points_lps_mm: Floats, voxel_mm: float) -> npt.NDArray[np.float32]:
    """Return HU at points (..., 3)."""
    points = points_lps_mm.astype(np.float32)
    canvas = anatomy.Canvas(points, voxel_mm)
    canvas.hu = anatomy.hounsfield(case.chest, points, voxel_mm)
    _paint_fissures(canvas, case.chest.size)
    for nodule in (*case.nodules, *case.dots):
        radii = np.asarray(nodule.diameters_mm) / 2
        canvas.ellipsoid(_ellipsoid(nodule, radii), HU.get(nodule.kind, HU["solid"]))
        if nodule.kind == "part_solid":
            canvas.ellipsoid(_ellipsoid(nodule, radii * CORE), CORE_HU)
    return canvas.hu


def _paint_fissures(canvas: anatomy.Canvas, size: float) -> None:
    lung = canvas.hu < LUNG_BELOW_HU
    away = np.abs(_from_fissure(canvas.points[lung], size)) - FISSURE_MM / 2
    canvas.paint(away.astype(np.float32), FISSURE_HU, lung)


def _from_fissure(points: npt.NDArray[np.floating], size: float) -> npt.NDArray[np.floating]:
    """Return the signed distance from the plane of the oblique fissure, mm: it falls from the back to the front."""
    normal = np.array([0.0, 0.7, 0.714])
    return np.asarray(points @ normal - 12.0 * size)


def _ellipsoid(nodule: Nodule, radii: Floats) -> anatomy.Ellipsoid:
    x, y, z = (float(value) for value in radii)
    return anatomy.Ellipsoid(nodule.centre_mm, (x, y, z))


def _invent(rng: np.random.Generator, room: "_Room") -> Nodule | None:
    diameter = float(np.exp(rng.uniform(*np.log(DIAMETER_MM))))
    kind = str(rng.choice(list(TYPES), p=list(TYPES.values())))
    place = str(rng.choice(PLACES))
    stretch = rng.uniform(0.88, 1.14, 3)
    x, y, z = (float(value) for value in diameter * stretch / np.prod(stretch) ** (1 / 3))
    centre = room.take(rng, place, diameter / 2)
    return None if centre is None else Nodule(kind, place, centre, (x, y, z))


class _Room:
    """Where in a chest's lungs there is room, on a coarse grid."""

    def __init__(self, chest: anatomy.Chest) -> None:
        from scipy import ndimage

        axes = [np.arange(low, high, STEP_MM) for low, high in ((-140, 141), (-90, 91), (-45, 66))]
        self.points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        self.size = chest.size
        with_vessels = anatomy.hounsfield(chest, self.points.astype(np.float32), STEP_MM)
        without = anatomy.hounsfield(replace(chest, vessels=()), self.points.astype(np.float32), STEP_MM)
        # Points beyond the box count as lung, so that its ends are no wall; airways and air outside are no lung.
        lung = (without < LUNG_BELOW_HU) & (without > anatomy.AIR_HU + 60)
        padded = np.pad(lung, 1, mode="edge")
        inner = (slice(1, -1),) * 3
        self.lung = lung
        self.to_wall = ndimage.distance_transform_edt(padded)[inner] * STEP_MM
        self.to_vessel = ndimage.distance_transform_edt(~(lung & (with_vessels > LUNG_BELOW_HU))) * STEP_MM
        self.taken: list[tuple[Floats, float]] = []

    def take(self, rng: np.random.Generator, place: str, radius: float) -> anatomy.Vector | None:
        """Return a free centre for a ball, or None where there is none."""
        fits = self.lung & (self.to_wall > radius + STEP_MM)
        to_fissure = np.abs(_from_fissure(self.points, self.size))
        if place == "wall":
            fits = (
                self.lung
                & (self.to_wall > 0.5 * radius)
                & (self.to_wall < max(radius, 0.5 * radius + STEP_MM))
            )
        elif place == "vessel":
            fits &= (self.to_vessel > 0.5 * radius) & (self.to_vessel < radius + STEP_MM)
        elif place == "fissure":
            fits &= to_fissure < 0.8 * radius
        else:
            fits &= (self.to_vessel > radius + STEP_MM) & (to_fissure > radius + STEP_MM)
        for centre, other in self.taken:
            fits &= np.linalg.norm(self.points - centre, axis=-1) > radius + other + APART_MM
        where = self.points[fits]
        if not len(where):
            return None
        centre = where[rng.integers(len(where))] + rng.uniform(-1, 1, 3)
        self.taken.append((centre, radius))
        x, y, z = (float(value) for value in centre)
        return x, y, z
