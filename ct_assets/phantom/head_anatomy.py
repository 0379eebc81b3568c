"""A head as HU at any points of the patient: scalp, skull, brain, ventricles, and lesions of any contrast.

Belongs here: shapes and tissues in patient coordinates, so that any scanner samples the same head. Does not:
scanners (`phantom.scanner`), files and labels (`phantom.head`).

Coordinates are LPS in millimetres with the origin in the middle of the brain. Sizes are those of an adult;
none of it is measured on anybody.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.phantom.anatomy import Canvas, Ellipsoid, ellipsoid_distance

Floats = npt.NDArray[np.float32]

SCALP_HU, SKULL_HU, BRAIN_HU, WHITE_HU, FLUID_HU, PLEXUS_HU = 25.0, 1150.0, 37.0, 28.0, 6.0, 90.0
SCALP = Ellipsoid((0, 0, 0), (78, 98, 92))
SKULL = Ellipsoid((0, 0, 0), (73, 92, 86))
BRAIN = Ellipsoid((0, 0, 0), (66, 84, 79))
WHITE = Ellipsoid((0, 0, 4), (52, 68, 62))
OEDEMA_HU = -9.0
"""What surrounds a lesion is darker than the brain by this; it scales with the lesion's contrast."""
FULL_CONTRAST_HU = 30.0


@dataclass(frozen=True)
class Head:
    """One invented head."""

    size: float
    """Factor on all sizes."""
    ventricles: tuple[Ellipsoid, ...]
    calcified: tuple[Ellipsoid, ...]
    """Bright spots of the choroid plexus that are no lesion."""
    lesions: tuple[Ellipsoid, ...]
    contrast_hu: float
    """Lesions against the brain around them."""

    @classmethod
    def invent(cls, rng: np.random.Generator, *, lesions: int, contrast_hu: float) -> "Head":
        """Invent a head with so many lesions."""
        wide = float(rng.uniform(0.8, 1.5))
        ventricles = tuple(
            Ellipsoid((side * 13.0, float(rng.uniform(-6, 2)), 10.0), (6.0 * wide, 28.0, 11.0 * wide))
            for side in (-1.0, 1.0)
        )
        calcified = tuple(
            Ellipsoid((side * 16.0, float(rng.uniform(16, 24)), 8.0), (2.5, 2.5, 3.0))
            for side in (-1.0, 1.0)
            if rng.random() < 0.5
        )
        return cls(
            size=float(rng.uniform(0.93, 1.06)),
            ventricles=ventricles,
            calcified=calcified,
            lesions=tuple(_lesion(rng) for _ in range(lesions)),
            contrast_hu=contrast_hu,
        )


def hounsfield(head: Head, points_lps_mm: Floats, voxel_mm: float) -> Floats:
    """Return HU at points (..., 3); edges are blurred over `voxel_mm`, as partial volume does."""
    canvas = Canvas(points_lps_mm / head.size, voxel_mm / head.size)
    for shape, hu in ((SCALP, SCALP_HU), (SKULL, SKULL_HU), (BRAIN, BRAIN_HU), (WHITE, WHITE_HU)):
        canvas.ellipsoid(shape, hu)
    for one in head.ventricles:
        canvas.ellipsoid(one, FLUID_HU)
    for one in head.calcified:
        canvas.ellipsoid(one, PLEXUS_HU)
    share = head.contrast_hu / FULL_CONTRAST_HU
    for one in head.lesions:
        wider = Ellipsoid(one.centre_mm, tuple(1.5 * radius for radius in one.radii_mm))  # type: ignore[arg-type]
        canvas.ellipsoid(wider, WHITE_HU + OEDEMA_HU * share)
        canvas.ellipsoid(one, WHITE_HU + head.contrast_hu)
    return canvas.hu


def lesion_mask(head: Head, points_lps_mm: Floats) -> npt.NDArray[np.bool_]:
    """Tell for each point (..., 3) whether it lies in a lesion."""
    points = points_lps_mm / head.size
    inside = np.zeros(points.shape[:-1], dtype=bool)
    for one in head.lesions:
        inside |= ellipsoid_distance(points, one) < 0
    return inside


def _lesion(rng: np.random.Generator) -> Ellipsoid:
    """Invent a lesion at the border of grey and white matter, where metastases settle."""
    angle = float(rng.uniform(0, 2 * np.pi))
    centre = (46.0 * np.cos(angle), 60.0 * np.sin(angle), float(rng.uniform(-4, 16)))
    radius = float(rng.uniform(7.0, 12.0))
    radii = tuple(radius * float(factor) for factor in rng.uniform(0.85, 1.15, 3))
    return Ellipsoid((float(centre[0]), float(centre[1]), centre[2]), (radii[0], radii[1], radii[2]))
