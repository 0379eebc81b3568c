"""A chest as HU and mask at any points of the patient: body, lungs, heart, vessels, bones, tumour, nodes.

Belongs here: shapes and tissues, as functions of patient coordinates, so that any scanner geometry (oblique,
flipped, thick) samples the same patient. Does not: noise and grids of a scanner (`phantom.scanner`), DICOM.

Coordinates are LPS in millimetres with the origin in the middle of the chest: x to the left, y to the back,
z to the head. Sizes are those of an adult; none of it is measured on anybody.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

AIR_HU, LUNG_HU, FAT_HU, MUSCLE_HU = -1000.0, -860.0, -95.0, 50.0
BLOOD_HU, LIVER_HU, MARROW_HU, CORTEX_HU, CANAL_HU = 150.0, 65.0, 220.0, 480.0, 15.0
TUMOUR_HU, NECROSIS_HU, NODE_HU, TABLE_HU = 98.0, 30.0, 90.0, -180.0
CONSOLIDATION_HU = 15.0

AT_THE_WALL = 0.5
"""Share of tumours that touch the chest wall; a rule that looks for solid things amid air is then not enough."""
CONSOLIDATED = 0.5
"""Share of patients with consolidated lung at the back and the base: solid, in the lung, and no tumour."""

TUMOUR_DIAMETER_MM = {"I": 22.0, "II": 32.0, "IIIa": 42.0, "IIIb": 54.0}
"""The planted signal: the higher the stage, the larger and the more central the tumour, the more nodes."""
NODES = {"I": 0, "II": 1, "IIIa": 3, "IIIb": 5}
CENTRALITY = {"I": 0.15, "II": 0.35, "IIIa": 0.6, "IIIb": 0.75}

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """A ball stretched along the patient's axes."""

    centre_mm: Vector
    radii_mm: Vector


@dataclass(frozen=True)
class Vessel:
    """A straight piece of a vessel with one radius."""

    start_mm: Vector
    end_mm: Vector
    radius_mm: float


@dataclass(frozen=True)
class Tumour:
    """An ellipsoid with lobes and, when large, a necrotic core."""

    core: Ellipsoid
    lobes: tuple[Ellipsoid, ...]
    is_necrotic: bool


@dataclass(frozen=True)
class Chest:
    """One invented patient."""

    size: float
    """Factor on all sizes of the body, about 0.9 to 1.1."""
    vessels: tuple[Vessel, ...]
    tumours: tuple[Tumour, ...]
    nodes: tuple[Ellipsoid, ...]
    consolidations: tuple[Ellipsoid, ...] = ()

    @classmethod
    def invent(cls, stage: str, rng: np.random.Generator, diameter_mm: float | None = None) -> "Chest":
        """Invent a patient of a stage (I, II, IIIa, IIIb); `diameter_mm` overrides the stage's size."""
        size = float(rng.uniform(0.92, 1.06))
        side = -1.0 if rng.random() < 0.55 else 1.0
        diameter = diameter_mm or TUMOUR_DIAMETER_MM[stage] * float(rng.uniform(0.9, 1.1))
        return cls(
            size=size,
            vessels=_invent_vessels(rng),
            tumours=(_invent_tumour(rng, size, side, diameter, CENTRALITY[stage]),),
            nodes=_invent_nodes(rng, size, side, NODES[stage]),
            consolidations=_invent_consolidation(rng, side),
        )


def hounsfield(chest: Chest, points_lps_mm: Floats, voxel_mm: float) -> Floats:
    """Return HU at points (..., 3); edges are blurred over `voxel_mm`, as partial volume does."""
    canvas = Canvas(points_lps_mm / chest.size, voxel_mm / chest.size)
    _paint_trunk(canvas)
    _paint_lungs(canvas)
    for part in chest.consolidations:
        canvas.ellipsoid(part, CONSOLIDATION_HU)
    for vessel in chest.vessels:
        canvas.capsule(vessel.start_mm, vessel.end_mm, vessel.radius_mm, BLOOD_HU)
    _paint_mediastinum(canvas)
    _paint_bones(canvas)
    for node in chest.nodes:
        canvas.ellipsoid(node, NODE_HU)
    for tumour in chest.tumours:
        for part in (tumour.core, *tumour.lobes):
            canvas.ellipsoid(part, TUMOUR_HU)
        if tumour.is_necrotic:
            canvas.ellipsoid(_scaled(tumour.core, 0.4), NECROSIS_HU)
    return canvas.hu


def tumour_mask(chest: Chest, points_lps_mm: Floats) -> npt.NDArray[np.bool_]:
    """Tell for each point (..., 3) whether it lies in a tumour, necrosis included."""
    points = points_lps_mm / chest.size
    inside = np.zeros(points.shape[:-1], dtype=bool)
    for tumour in chest.tumours:
        for part in (tumour.core, *tumour.lobes):
            inside |= ellipsoid_distance(points, part) < 0
    return inside


class Canvas:
    """HU at points, painted shape after shape; a later shape covers an earlier one."""

    def __init__(self, points: Floats, edge_mm: float) -> None:
        self.points = points.astype(np.float32)
        self.edge_mm = np.float32(edge_mm)
        self.hu = np.full(points.shape[:-1], AIR_HU, dtype=np.float32)

    def paint(self, distance_mm: Floats, hu: float, where: npt.NDArray[np.bool_] | None = None) -> None:
        """Paint where the signed distance is negative, with a soft edge; `where` limits it to some points."""
        cover = np.clip(np.float32(0.5) - distance_mm / self.edge_mm, 0, 1).astype(np.float32)
        if where is None:
            self.hu += cover * (np.float32(hu) - self.hu)
        else:
            self.hu[where] += cover * (np.float32(hu) - self.hu[where])

    def near(self, lower: Floats, upper: Floats) -> npt.NDArray[np.bool_]:
        """Tell which points lie in a box widened by the soft edge."""
        inside = np.ones(self.hu.shape, dtype=bool)
        for axis in range(3):
            along = self.points[..., axis]
            inside &= (along > lower[axis] - self.edge_mm) & (along < upper[axis] + self.edge_mm)
        return inside

    def ellipsoid(self, shape: Ellipsoid, hu: float) -> None:
        """Paint an ellipsoid."""
        centre, radii = _single(shape.centre_mm), _single(shape.radii_mm)
        where = self.near(centre - radii, centre + radii)
        self.paint(ellipsoid_distance(self.points[where], shape), hu, where)

    def capsule(self, start: Vector, end: Vector, radius: float, hu: float) -> None:
        """Paint a rod with round ends."""
        low = _single(np.minimum(start, end)) - np.float32(radius)
        high = _single(np.maximum(start, end)) + np.float32(radius)
        where = self.near(low, high)
        along = _single(end) - _single(start)
        offset = self.points[where] - _single(start)
        share = np.clip(offset @ along / np.float32(along @ along), 0, 1)
        distance = np.linalg.norm(offset - share[:, None] * along, axis=-1) - np.float32(radius)
        self.paint(distance, hu, where)


def _paint_trunk(canvas: Canvas) -> None:
    x, y, _ = np.moveaxis(canvas.points, -1, 0)
    skin = _rounded(x, y, 172.0, 116.0)
    canvas.paint(skin, FAT_HU)
    canvas.paint(skin + 12.0, MUSCLE_HU)
    top = y - 122.0 + 14.0 * (x / 200.0) ** 2
    canvas.paint(np.maximum(np.abs(top - 5.0) - 5.0, np.abs(x) - 200.0), TABLE_HU)


def _paint_lungs(canvas: Canvas) -> None:
    x, y, z = np.moveaxis(canvas.points, -1, 0)
    cage = _rounded(x, y, 132.0, 86.0)
    for side, dome_mm, below in ((-1.0, -52.0, LIVER_HU), (1.0, -66.0, MUSCLE_HU)):
        middle = np.abs(x - side * 72.0)
        taper = np.clip((z - 40.0) / 80.0, 0, 1) ** 2
        lung = np.maximum(cage + 4.0 + 38.0 * taper, 24.0 + 10.0 * taper - side * x)
        dome = dome_mm - 0.004 * middle**2 - 0.002 * (y - 5.0) ** 2
        canvas.paint(lung, LUNG_HU)
        canvas.paint(np.maximum(lung, z - dome), below)


def _paint_mediastinum(canvas: Canvas) -> None:
    heart = Ellipsoid((22.0, -22.0, -38.0), (54.0, 44.0, 50.0))
    canvas.ellipsoid(heart, MUSCLE_HU)
    canvas.ellipsoid(_scaled(heart, 0.82), BLOOD_HU)
    canvas.capsule((26.0, 46.0, -140.0), (22.0, 42.0, 42.0), 12.0, BLOOD_HU)
    canvas.capsule((22.0, 42.0, 42.0), (-4.0, -16.0, 52.0), 13.0, BLOOD_HU)
    canvas.capsule((-4.0, -16.0, 52.0), (0.0, -20.0, -10.0), 14.0, BLOOD_HU)
    canvas.capsule((-24.0, -14.0, 110.0), (-26.0, -12.0, -10.0), 9.0, BLOOD_HU)
    canvas.capsule((0.0, 14.0, 140.0), (0.0, 18.0, 12.0), 9.0, AIR_HU)
    canvas.capsule((0.0, 18.0, 12.0), (-34.0, 20.0, -14.0), 6.5, AIR_HU)
    canvas.capsule((0.0, 18.0, 12.0), (36.0, 20.0, -16.0), 6.0, AIR_HU)
    canvas.capsule((6.0, 34.0, 140.0), (8.0, 36.0, -140.0), 7.0, MUSCLE_HU)


def _paint_bones(canvas: Canvas) -> None:
    x, y, z = np.moveaxis(canvas.points, -1, 0)
    spine = np.hypot(x / 1.15, y - 74.0) - 17.0
    disc = np.abs((z + 14.0) % 28.0 - 14.0) - 3.0
    canvas.paint(spine, CORTEX_HU)
    canvas.paint(spine + 3.0, MARROW_HU)
    canvas.paint(np.maximum(spine, disc), MUSCLE_HU + 40.0)
    canvas.paint(np.hypot(x, y - 98.0) - 12.0, CORTEX_HU)
    canvas.paint(np.hypot(x, y - 97.0) - 8.0, CANAL_HU)
    ring = np.abs(_rounded(x, y, 132.0, 86.0) - 3.0) - 4.0
    slope = z + 0.32 * y
    rib = np.abs((slope + 13.0) % 26.0 - 13.0) - 5.0
    ribs = np.maximum(np.maximum(ring, rib), -85.0 - y)
    canvas.paint(ribs, CORTEX_HU)
    canvas.paint(ribs + 2.5, MARROW_HU)
    canvas.paint(
        np.maximum(np.maximum(np.abs(x) - 17.0, np.abs(y + 92.0) - 5.0), -40.0 - z), MARROW_HU + 60.0
    )


def _invent_vessels(rng: np.random.Generator) -> tuple[Vessel, ...]:
    """Grow a small tree from each hilum to the periphery."""
    vessels = []
    for side in (-1.0, 1.0):
        for _ in range(7):
            point = np.array([side * 30.0, 15.0, -5.0])
            heading = np.array([side * rng.uniform(0.3, 1.0), rng.uniform(-0.8, 0.7), rng.uniform(-0.7, 0.9)])
            for radius in (4.5, 3.4, 2.5, 1.8):
                heading = heading + rng.normal(0, 0.25, 3)
                heading = heading / np.linalg.norm(heading)
                end = point + heading * rng.uniform(18, 26)
                if not _is_in_lung(end, side):
                    break
                vessels.append(Vessel(_vector(point), _vector(end), radius))
                point = end
    return tuple(vessels)


def _invent_tumour(
    rng: np.random.Generator, size: float, side: float, diameter_mm: float, centrality: float
) -> Tumour:
    radius = diameter_mm / 2 / size
    reach = 38.0 + (1 - centrality) * 62.0
    centre = np.array([side * reach, rng.uniform(-30, 38), rng.uniform(-18, 32)])
    # A tumour grows from within the lung: pull it in until its centre has lung around it.
    while not _is_in_lung(centre + np.array([side * 0.35 * radius, 0, 0]), side):
        centre = centre * np.array([0.96, 0.9, 0.95])
    if rng.random() < AT_THE_WALL:
        centre = _towards_the_wall(centre, side, radius)
    core = Ellipsoid(_vector(centre), _vector(radius * rng.uniform(0.85, 1.12, 3)))
    lobes = []
    for _ in range(int(rng.integers(2, 5))):
        direction = rng.normal(0, 1, 3)
        direction /= np.linalg.norm(direction)
        lobe_radius = radius * rng.uniform(0.35, 0.55)
        lobes.append(Ellipsoid(_vector(centre + direction * radius * 0.7), _vector(np.full(3, lobe_radius))))
    return Tumour(core, tuple(lobes), is_necrotic=diameter_mm > 38)


def _towards_the_wall(centre: npt.NDArray[np.float64], side: float, radius: float) -> npt.NDArray[np.float64]:
    """Move a tumour sideways and back until a good half of its radius is left between its centre and the ribs."""
    step = np.array([side, 0.4, 0.0])
    while _wall_distance(centre + step) > 4 + 0.6 * radius:
        centre = centre + step
    return centre


def _invent_consolidation(rng: np.random.Generator, side: float) -> tuple[Ellipsoid, ...]:
    """Fill a part of the lower lobe, against the wall at the back, on either side."""
    if rng.random() >= CONSOLIDATED:
        return ()
    which = side if rng.random() < 0.3 else -side
    centre = (which * rng.uniform(62, 84), rng.uniform(52, 62), rng.uniform(-40, -8))
    return (Ellipsoid(centre, _vector(rng.uniform((20, 15, 16), (30, 22, 26)))),)


def _invent_nodes(rng: np.random.Generator, size: float, side: float, count: int) -> tuple[Ellipsoid, ...]:
    """Place enlarged nodes: first on the tumour's side, then below the carina, then on the other side."""
    stations = (
        (side * 30.0, 6.0, 4.0),
        (0.0, 30.0, -6.0),
        (side * 14.0, 6.0, 34.0),
        (-side * 30.0, 6.0, 4.0),
        (-side * 16.0, 4.0, 36.0),
    )
    nodes = []
    for station in stations[:count]:
        centre = np.asarray(station) + rng.normal(0, 1.5, 3)
        nodes.append(Ellipsoid(_vector(centre), _vector(rng.uniform(7.0, 11.0, 3) / size)))
    return tuple(nodes)


def _is_in_lung(point: npt.NDArray[np.float64], side: float) -> bool:
    x, y, z = (np.float32(value) for value in point)
    cage = float(_rounded(x, y, 132.0, 86.0))
    return cage < -10 and side * float(x) > 30 and -48 < float(z) < 70


def _wall_distance(point: npt.NDArray[np.float64]) -> float:
    x, y, _ = (np.float32(value) for value in point)
    return -float(_rounded(x, y, 132.0, 86.0))


def _rounded(x: Floats | np.float32, y: Floats | np.float32, a: float, b: float) -> Floats:
    """Approximate signed distance in mm to a superellipse of exponent 2.6 in the axial plane."""
    level = (np.abs(x / a) ** 2.6 + np.abs(y / b) ** 2.6) ** (1 / 2.6)
    return np.asarray((level - 1) * min(a, b), dtype=np.float32)


def ellipsoid_distance(points: Floats, shape: Ellipsoid) -> Floats:
    """Approximate signed distance in mm, exact in sign."""
    radii = _single(shape.radii_mm)
    level = np.linalg.norm((points - _single(shape.centre_mm)) / radii, axis=-1)
    return np.asarray((level - 1) * radii.min(), dtype=np.float32)


def _single(vector: Vector | npt.NDArray[np.float64]) -> Floats:
    return np.asarray(vector, dtype=np.float32)


def _scaled(shape: Ellipsoid, factor: float) -> Ellipsoid:
    return Ellipsoid(shape.centre_mm, _vector(np.asarray(shape.radii_mm) * factor))


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
