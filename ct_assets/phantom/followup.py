"""Follow-up exams of invented chests: nodules that grow by a law of their type between scans in other positions.

Belongs here: patients, their exams (motion, dates, skipped timepoints), and the tables and images of such a cohort.
Does not: the full chest (`phantom.anatomy`). The body is small, so that a scan takes a fraction of a second; nothing
of it is measured on anybody, and no metric on it may be compared with one on patients.

Positions are LPS millimetres. Type decides density and growth: calcified nodules stay, solid ones double in 400 days,
part-solid ones in 200. Nothing visible decides how an `erratic` one grows: its rate is drawn about the mean rate of the
other types, so that no model can know more about it than that mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, parallel
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.phantom.anatomy import Canvas, Ellipsoid, Vector

Floats = npt.NDArray[np.float64]

SHAPE, SPACING_MM = (60, 88, 106), (1.9, 1.9, 2.2)
"""Slices, rows, columns; steps along i, j, k."""
NOISE_HU = 12.0
TISSUE_HU, LUNG_HU, BONE_HU, VESSEL_HU = 40.0, -860.0, 450.0, 60.0
LUNGS = (Ellipsoid((-46.0, 0.0, 0.0), (36.0, 52.0, 58.0)), Ellipsoid((46.0, 0.0, 0.0), (36.0, 52.0, 58.0)))
BODY_MM = (96.0, 72.0)
MOST_SHIFT_MM, MOST_TURN_DEG = 8.0, 6.0

DOUBLING_DAYS = {"calcified": math.inf, "solid": 400.0, "part_solid": 200.0}
"""Volume doubling times that a nodule's appearance decides."""
ERRATIC = "erratic"
"""The type whose growth cannot be learned."""
TYPES = {"calcified": 0.25, "solid": 0.25, "part_solid": 0.25, ERRATIC: 0.25}
HU = {"calcified": 380.0, "solid": 40.0, "part_solid": -450.0, ERRATIC: -250.0}
CORE, CORE_HU = 0.5, 100.0
"""The solid core of a part-solid nodule, as a share of its diameter."""
MEAN_RATE = math.log(2) * sum(1 / days for days in DOUBLING_DAYS.values()) / len(DOUBLING_DAYS)
"""Mean growth rate a day of the other types, about which that of an erratic one is drawn."""
ERRATIC_RATE = math.log(2) / 300
"""An erratic rate differs from the mean by up to this, a day."""
DIAMETER_MM = (5.0, 9.0)
MOST_DIAMETER_MM = 15.0
"""A nodule starts so small that it hardly grows beyond: it would not fit a crop."""
APART_MM = 22.0
"""Between centres, so that a crop shows one nodule."""
FROM_WALL_MM = 13.0
"""From a nodule's centre to the chest wall, at least about this."""
INTERVAL_DAYS = (60, 420)
SCHEDULES = {(0, 1, 2): 0.5, (0, 2): 0.25, (0, 1): 0.25}
"""Timepoints that a patient has, with shares: all, the middle one skipped, the last one not yet there."""
SPLITS = {"train": 0.42, "val": 0.08, "test": 0.5}
"""Half of the patients are for the test: fewer than thirty give no interval."""


@dataclass(frozen=True)
class Nodule:
    """An ellipsoid in the lung on the first exam, and how it grows."""

    group: str
    nodule_type: str
    centre_mm: Vector
    diameters_mm: Vector
    rate_per_day: float

    def volume_mm3(self, days: float) -> float:
        """Return the analytic volume so many days after the first exam."""
        return math.pi / 6 * math.prod(self.diameters_mm) * math.exp(self.rate_per_day * days)

    def radii_mm(self, days: float) -> Vector:
        """Return the radii then; the shape stays."""
        factor = math.exp(self.rate_per_day * days / 3) / 2
        x, y, z = (size * factor for size in self.diameters_mm)
        return x, y, z


@dataclass(frozen=True)
class Exam:
    """One scan of a patient."""

    exam_id: str
    timepoint: int
    days: int
    """After the first exam."""
    matrix: tuple[tuple[float, ...], ...]
    """4 x 4: where a point of the body (its place on the first exam) lies on this one. Rigid."""


@dataclass(frozen=True)
class Patient:
    """One invented patient; all of it follows from the seed and the number."""

    pid: str
    split: str
    nodules: tuple[Nodule, ...]
    vessels: tuple[tuple[Vector, Vector, float], ...]
    exams: tuple[Exam, ...]
    seed: tuple[int, int]

    @classmethod
    def invent(cls, seed: int, number: int, split: str = "train", nodules: int = 10) -> "Patient":
        """Invent a patient with up to `nodules` nodules and exams at timepoints 0 to 2, of which the middle may lack."""
        rng = np.random.default_rng([seed, number, 19])
        pid = f"{100001 + number}"
        gaps = [int(rng.integers(*INTERVAL_DAYS)) for _ in range(2)]
        days = [0, gaps[0], sum(gaps)]
        schedule = list(SCHEDULES)[int(rng.choice(len(SCHEDULES), p=list(SCHEDULES.values())))]
        exams = tuple(
            Exam(f"{pid}{timepoint}", timepoint, days[timepoint], _motion(rng, timepoint))
            for timepoint in schedule
        )
        grown = [
            _nodule(rng, f"{pid}-{index}", centre, days[-1])
            for index, centre in enumerate(_places(rng, nodules))
        ]
        vessels = _vessels(rng, [nodule.centre_mm for nodule in grown])
        return cls(pid, split, tuple(grown), vessels, exams, (seed, number))


def cohort(patients: int, seed: int = 0, nodules: int = 10) -> list[Patient]:
    """Invent a cohort; splits are shares of `SPLITS`, in the order of the patients, with one for validation at least."""
    train = max(1, round(SPLITS["train"] * patients))
    validation = max(1, round(SPLITS["val"] * patients))
    names = ["train"] * train + ["val"] * validation
    names += ["test"] * (patients - len(names))
    return [Patient.invent(seed, number, names[number], nodules) for number in range(patients)]


def grid() -> Grid:
    """Return the scanner's grid, centred on the body of the first exam."""
    x, y, z = (-(size - 1) / 2 * step for size, step in zip(reversed(SHAPE), SPACING_MM, strict=True))
    return Grid.of(SHAPE, SPACING_MM, (x, y, z))


def scan(patient: Patient, exam: Exam) -> Volume:
    """Return an exam as HU (int16); noise and values follow from the patient's seed and the timepoint."""
    where = grid()
    k, j, i = np.indices(where.shape)
    points = where.world(np.stack([i, j, k], axis=-1).astype(np.float64))
    matrix = np.array(exam.matrix)
    back = np.linalg.inv(matrix)
    body = (points @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
    canvas = Canvas(body, float(np.mean(SPACING_MM)))
    x, y, _ = np.moveaxis(canvas.points, -1, 0)
    canvas.paint(
        ((np.hypot(x / BODY_MM[0], y / BODY_MM[1]) - 1) * min(BODY_MM)).astype(np.float32), TISSUE_HU
    )
    for shape, hu in _body():
        _near(canvas, matrix, shape.centre_mm, max(shape.radii_mm)).ellipsoid(shape, hu)
    for start, end, radius in patient.vessels:
        middle = (np.array(start) + end) / 2
        reach = float(np.linalg.norm(np.subtract(end, start))) / 2 + radius
        _near(canvas, matrix, middle, reach).capsule(start, end, radius, VESSEL_HU)
    for nodule in patient.nodules:
        radii = nodule.radii_mm(exam.days)
        block = _near(canvas, matrix, nodule.centre_mm, max(radii))
        block.ellipsoid(Ellipsoid(nodule.centre_mm, radii), HU[nodule.nodule_type])
        if nodule.nodule_type == "part_solid":
            a, b, c = (radius * CORE for radius in radii)
            block.ellipsoid(Ellipsoid(nodule.centre_mm, (a, b, c)), CORE_HU)
    rng = np.random.default_rng([*patient.seed, exam.timepoint, 23])
    noisy = canvas.hu + rng.normal(0, NOISE_HU, where.shape).astype(np.float32)
    return Volume(np.clip(np.rint(noisy), -1024, 3071).astype(np.int16), where)


def _near(canvas: Canvas, matrix: Floats, centre: npt.ArrayLike, reach_mm: float) -> Canvas:
    """Return the part of a canvas around a place of the body; what is painted there is painted on the whole."""
    middle = grid().index(matrix[:3, :3] @ np.asarray(centre, np.float64) + matrix[:3, 3])[::-1]
    reach = reach_mm / np.array(SPACING_MM[::-1]) + 3
    low = np.clip(np.floor(middle - reach), 0, SHAPE).astype(int)
    high = np.clip(np.ceil(middle + reach) + 1, 0, SHAPE).astype(int)
    block = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    part = Canvas(canvas.points[block], float(canvas.edge_mm))
    part.hu = canvas.hu[block]
    return part


def voxel_box(nodule: Nodule, exam: Exam) -> tuple[int, ...]:
    """Return a nodule's box on an exam as the tracking table has it: low and high row, column, slice, inclusive."""
    matrix = np.array(exam.matrix)
    # The half extent of a turned ellipsoid along an axis (its support function).
    half = np.sqrt((matrix[:3, :3] ** 2) @ np.square(nodule.radii_mm(exam.days)))
    centre = matrix[:3, :3] @ np.array(nodule.centre_mm) + matrix[:3, 3]
    low, high = (np.rint(grid().index(centre + sign * half)).astype(int) for sign in (-1, 1))
    row, column, level = 1, 0, 2
    return tuple(int(end[axis]) for axis in (row, column, level) for end in (low, high))


@dataclass(frozen=True)
class Written:
    """Where a cohort lies."""

    exams: Path
    tracking: Path
    truth: Path
    images: Path
    patients: int
    scans: int


def write(folder: Path, patients: Sequence[Patient], *, workers: int = 1) -> Written:
    """Write images, the exam table, the tracking table and the truth (a row a nodule and exam) of a cohort."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    exams, tracking, truth = [], [], []
    for patient in patients:
        last = patient.exams[-1].days
        for exam in patient.exams:
            exams.append(_exam_row(patient, exam, last))
            for nodule in patient.nodules:
                row = {
                    "pid": patient.pid,
                    "nodule_group": nodule.group,
                    "exam_idx": exam.timepoint,
                    "exam": exam.exam_id,
                    "volume": nodule.volume_mm3(exam.days),
                    "coords": list(voxel_box(nodule, exam)),
                    "nodule_type": nodule.nodule_type,
                }
                tracking.append(row)
                x, y, z = nodule.centre_mm
                truth.append(
                    {name: value for name, value in row.items() if name != "coords"}
                    | {"rate_per_day": nodule.rate_per_day, "x_mm": x, "y_mm": y, "z_mm": z}
                    | {"body_to_exam": [value for line in exam.matrix for value in line]}
                )
    jobs = [
        (patient, exam, images / f"{exam.exam_id}.nii.gz") for patient in patients for exam in patient.exams
    ]
    for _ in parallel.map_ordered(_write_scan, jobs, workers=workers):
        pass
    written = Written(
        folder / "exams.parquet", folder / "tracking.parquet", folder / "truth.parquet", images,
        len(patients), len(jobs),
    )  # fmt: skip
    for path, rows in ((written.exams, exams), (written.tracking, tracking), (written.truth, truth)):
        with files.atomic_path(path) as partial:
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(partial)
    return written


def _write_scan(job: tuple[Patient, Exam, Path]) -> None:
    patient, exam, path = job
    nifti.write(path, scan(patient, exam))


def _exam_row(patient: Patient, exam: Exam, last: int) -> dict[str, object]:
    return {
        "pid": patient.pid,
        "exam_id": exam.exam_id,
        "exam": exam.exam_id,
        "series": f"2.25.{exam.exam_id}",
        "screen_timepoint": exam.timepoint,
        "num_slices": SHAPE[0],
        "slice_thickness": SPACING_MM[2],
        "days_at_event": last + 365 - exam.days,
        "cancer": 0,
        "split": patient.split,
        "nifti_path": f"{exam.exam_id}.nii.gz",
    }


def _motion(rng: np.random.Generator, timepoint: int) -> tuple[tuple[float, ...], ...]:
    matrix = np.eye(4)
    if timepoint:
        axis = rng.normal(0, 1, 3)
        axis /= np.linalg.norm(axis)
        angle = np.radians(rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG))
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        matrix[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        matrix[:3, 3] = rng.uniform(-MOST_SHIFT_MM, MOST_SHIFT_MM, 3)
    return tuple(tuple(float(value) for value in line) for line in matrix)


def _places(rng: np.random.Generator, count: int) -> list[Vector]:
    """Draw centres inside the lungs that are far enough from the wall and from each other; fewer where none fits."""
    places: list[Floats] = []
    for _ in range(count * 60):
        lung = LUNGS[int(rng.integers(2))]
        inner = np.array(lung.radii_mm) - FROM_WALL_MM
        centre = np.array(lung.centre_mm) + rng.uniform(-1, 1, 3) * inner
        if (((centre - lung.centre_mm) / inner) ** 2).sum() > 1:
            continue
        if all(np.linalg.norm(centre - other) >= APART_MM for other in places):
            places.append(centre)
        if len(places) == count:
            break
    return [(float(x), float(y), float(z)) for x, y, z in places]


def _nodule(rng: np.random.Generator, group: str, centre: Vector, last: int) -> Nodule:
    kind = str(rng.choice(list(TYPES), p=list(TYPES.values())))
    rate = math.log(2) / DOUBLING_DAYS.get(kind, math.inf)
    if kind == ERRATIC:
        rate = MEAN_RATE + ERRATIC_RATE * float(rng.uniform(-1, 1))
    # A fast one starts small, so that its last exam still fits a crop; its rate is not touched.
    least, most = DIAMETER_MM
    most = max(least, min(most, MOST_DIAMETER_MM / math.exp(rate * last / 3)))
    diameter = float(np.exp(rng.uniform(math.log(least), math.log(most))))
    stretch = rng.uniform(0.88, 1.14, 3)
    x, y, z = (float(value) for value in diameter * stretch / np.prod(stretch) ** (1 / 3))
    return Nodule(group, kind, centre, (x, y, z), rate)


def _vessels(rng: np.random.Generator, nodules: Sequence[Vector]) -> tuple[tuple[Vector, Vector, float], ...]:
    """Draw straight vessels from the hila outwards that keep clear of nodules."""
    vessels = []
    for lung in LUNGS:
        centre, radii = np.array(lung.centre_mm), np.array(lung.radii_mm)
        for _ in range(10):
            start = centre + np.array([-np.sign(centre[0]) * 30.0, 0.0, 0.0]) + rng.uniform(-12, 12, 3)
            heading = rng.normal(0, 1, 3)
            end = centre + heading / np.linalg.norm(heading) * radii * 0.8
            along = start + np.linspace(0, 1, 30)[:, None] * (end - start)
            if all(np.linalg.norm(along - np.array(other), axis=1).min() > 13.0 for other in nodules):
                ends = [tuple(float(value) for value in point) for point in (start, end)]
                vessels.append((ends[0], ends[1], float(rng.uniform(1.5, 3.0))))
    return tuple(vessels)  # type: ignore[arg-type]


def _body() -> list[tuple[Ellipsoid, float]]:
    """Return what is inside the skin, in the order of painting."""
    shapes = [(Ellipsoid((0.0, 58.0, 0.0), (9.0, 9.0, 400.0)), BONE_HU)]
    for level in (-54.0, -30.0, -4.0, 22.0, 50.0):
        shapes.append((Ellipsoid((0.0, 52.0, level), (15.0, 6.0, 6.0)), BONE_HU))
        for side in (-1.0, 1.0):
            rib = Ellipsoid((side * 88.0, 6.0, level + side * 4.0), (4.0, 26.0, 5.0))
            shapes.append((rib, BONE_HU))
    shapes.append((Ellipsoid((6.0, -24.0, -26.0), (30.0, 24.0, 30.0)), TISSUE_HU + 20))
    return shapes + [(lung, LUNG_HU) for lung in LUNGS]
