"""Scanners: the grid on which a patient is sampled, noise and kernel, and how pixels are stored.

Belongs here: what a vendor's machine decides. Does not: the patient (`phantom.anatomy`), the rest of the
DICOM header (`phantom.headers`).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.imaging.volume import Grid
from ct_assets.phantom import anatomy

HU_RANGE = (-1024, 3071)


@dataclass(frozen=True)
class Scanner:
    """One machine with its usual chest protocol."""

    manufacturer: str
    model: str
    software: str
    kernel: str
    kvp: float
    noise_hu: float
    blur_mm: float
    """Blur of the kernel: noise of a soft kernel is low and coarse, of a sharp one high and fine."""
    thickness_mm: float
    step_mm: float
    matrix: int
    field_of_view_mm: float
    is_signed: bool
    intercept: int
    bits_stored: int
    padding: int | None = None
    """Stored value outside the reconstruction circle, where the vendor pads."""
    transfer_syntax: UID = ExplicitVRLittleEndian
    slices: int = 40
    head_first: bool = True
    in_plane_deg: float = 0.0
    oblique_deg: float = 0.0

    def grid(self) -> Grid:
        """The voxel grid in the patient; slices run along the normal, headwards where `head_first`."""
        spacing = self.field_of_view_mm / self.matrix
        turn, lean = np.radians(self.in_plane_deg), np.radians(self.oblique_deg)
        about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
        direction = np.round(about_x @ about_z, 6)
        direction[:, 2] = np.cross(direction[:, 0], direction[:, 1])
        if not self.head_first:
            direction = direction @ np.diag([1.0, 1.0, -1.0])
        shape = (self.slices, self.matrix, self.matrix)
        steps = (spacing, spacing, self.step_mm)
        middle = direction @ ((np.array([self.matrix, self.matrix, self.slices]) - 1) / 2 * np.array(steps))
        origin = np.round(np.array([0.0, 4.0, 8.0]) - middle, 3)
        return Grid.of(shape, steps, (origin[0], origin[1], origin[2]), direction)


_SIEMENS = Scanner(
    "SIEMENS",
    "SOMATOM Phantom",
    "syngo CT VA40",
    kernel="B31f",
    kvp=120,
    noise_hu=11,
    blur_mm=1.6,
    thickness_mm=4.0,
    step_mm=4.0,
    matrix=96,
    field_of_view_mm=352,
    is_signed=False,
    intercept=-1024,
    bits_stored=12,
)
_GE = Scanner(
    "GE MEDICAL SYSTEMS",
    "Phantom Discovery",
    "gmp_hp.72",
    kernel="STANDARD",
    kvp=120,
    noise_hu=14,
    blur_mm=1.2,
    thickness_mm=3.75,
    step_mm=3.75,
    matrix=100,
    field_of_view_mm=360,
    is_signed=True,
    intercept=-1024,
    bits_stored=16,
    padding=-2000,
    transfer_syntax=ImplicitVRLittleEndian,
    slices=44,
)
_PHILIPS = Scanner(
    "Philips",
    "Phantom iCT 256",
    "4.1.6",
    kernel="YB",
    kvp=100,
    noise_hu=20,
    blur_mm=0.6,
    thickness_mm=4.0,
    step_mm=4.0,
    matrix=104,
    field_of_view_mm=364,
    is_signed=False,
    intercept=-1000,
    bits_stored=12,
)
_CANON = Scanner(
    "Canon Medical Systems",
    "Phantom Aquilion",
    "V8.4ER003",
    kernel="FC18",
    kvp=120,
    noise_hu=13,
    blur_mm=1.3,
    thickness_mm=5.0,
    step_mm=4.0,
    matrix=96,
    field_of_view_mm=350,
    is_signed=True,
    intercept=0,
    bits_stored=16,
    slices=42,
    head_first=False,
)
_SIEMENS_SHARP = replace(
    _SIEMENS,
    software="syngo CT VA48",
    kernel="B70f",
    kvp=140,
    noise_hu=30,
    blur_mm=0.0,
    thickness_mm=3.0,
    step_mm=3.0,
    field_of_view_mm=345,
    slices=52,
)
SCANNERS = (_SIEMENS, _GE, _PHILIPS, _CANON, _SIEMENS_SHARP)
"""Several vendors, kernels, thicknesses and ways to store pixels."""

COMPRESSED = {"jpegls": JPEGLSLossless, "rle": RLELossless, "jpeg2000": JPEG2000Lossless}


def small(scanner: Scanner) -> Scanner:
    """Return the same machine with a small matrix and 24 slices, for patients who are there for a fault."""
    return replace(scanner, matrix=64, slices=24, thickness_mm=4.0, step_mm=4.0)


def acquire(
    scanner: Scanner, chest: anatomy.Chest, rng: np.random.Generator
) -> tuple[Grid, npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Scan a patient: the grid, HU as whole numbers (k, j, i), and the tumour's mask on the same grid."""
    grid = scanner.grid()
    k, j, i = np.indices(grid.shape)
    points = grid.world(np.stack([i, j, k], axis=-1).astype(np.float64)).astype(np.float32)
    hu = anatomy.hounsfield(chest, points, voxel_mm=float(np.mean(grid.spacing_mm)))
    return grid, expose(scanner, grid, hu, rng), anatomy.tumour_mask(chest, points)


def expose(
    scanner: Scanner, grid: Grid, hu: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Return true HU (k, j, i) as the machine reconstructs them: blurred by its kernel, noisy, whole numbers."""
    from scipy import ndimage

    noise = rng.normal(0, 1, grid.shape).astype(np.float32)
    if scanner.blur_mm:
        spacing = grid.spacing_mm
        sigma = (0.0, scanner.blur_mm / spacing[1], scanner.blur_mm / spacing[0])
        hu = ndimage.gaussian_filter(hu, sigma)
        noise = ndimage.gaussian_filter(noise, sigma)
        noise /= noise.std()
    hu = hu + noise * scanner.noise_hu
    return np.clip(np.rint(hu), *HU_RANGE).astype(np.int16)


def stored_values(scanner: Scanner, hu: npt.NDArray[np.int16]) -> npt.NDArray[np.int16 | np.uint16]:
    """Return one slice (j, i) as the machine stores it: HU less intercept, padded outside the circle."""
    stored = hu.astype(np.int32) - scanner.intercept
    if scanner.padding is not None:
        j, i = np.indices(hu.shape) - (np.array(hu.shape)[:, None, None] - 1) / 2
        stored[np.hypot(j, i) > max(hu.shape) / 2] = scanner.padding
    if scanner.is_signed:
        return stored.astype(np.int16)
    return np.clip(stored, 0, 2**scanner.bits_stored - 1).astype(np.uint16)
