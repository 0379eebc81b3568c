"""The classical detector: round bright spots in the lungs, by the eigenvalues of the Hessian. Nothing is learned.

Belongs here: the yardstick of every trained detector. Method: Li, Sone and Doi 2003 (Med Phys 30:2040), the dot filter:
at the scale of a nodule all three second derivatives are negative and alike; along a vessel one is near 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Volume
from ct_assets.systems.nodules import findings, peaks, volumes
from ct_assets.systems.nodules.detector import Detection, Detections

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Voxel = tuple[int, int, int]

DIAMETERS_MM = (4.0, 6.0, 9.0, 13.0, 18.0)
LOW_HU, HIGH_HU = -1000.0, 400.0
LUNG_HU = -850.0
HALF_DOT = 0.15
"""A dot of this strength has confidence 1/2; an ideal ball of soft tissue in lung has about 0.3."""


@dataclass(frozen=True)
class Classical:
    """Dots of 4 to 18 mm in the lung mask."""

    spacing_mm: float = 1.0
    """Isotropic voxels, along the patient's axes closest to the volume's."""
    least_dot: float = 0.03
    """Weaker dots are no findings."""
    most: int = 100
    name: str = "classical"

    def detect(self, volume: Volume) -> Detections:
        """Return the dots of the lungs."""
        return self.detect_prepared(volumes.prepare(volume, self.spacing_mm))

    def detect_prepared(self, prepared: volumes.Prepared) -> Detections:
        """Return the dots of a volume that is on the detector's grid already."""
        fine, mask = prepared.image, prepared.lungs
        if mask is None:
            return Detections(fine, None, ())
        step = float(np.mean(fine.grid.spacing_mm))
        dots, scale = _dots(fine, mask, step)
        places, heights = peaks.local_maxima(dots, self.least_dot)
        rows = []
        for place, height in zip(places[: self.most], heights[: self.most], strict=True):
            k, j, i = (round(value) for value in place.tolist())
            part, first = _grown(fine.array, (k, j, i), float(scale[k, j, i]), step)
            confidence = float(height / (height + HALF_DOT))
            finding = findings.measure(part, fine, confidence=confidence, first=first)
            rows.append(Detection(finding, part, first))
        return Detections(fine, mask, tuple(rows))


def _dots(volume: Volume, inside: Flags, step_mm: float) -> tuple[Floats, Floats]:
    """Return the largest dot response over all scales within the mask, and the diameter it belongs to."""
    from scipy import ndimage

    box = tuple(
        slice(max(part.start - 20, 0), part.stop + 20)
        for part in ndimage.find_objects(inside.astype(np.uint8))[0]
    )
    hu = np.asarray(volume.array[box], dtype=np.float32)
    image = (np.clip(hu, LOW_HU, HIGH_HU) / (HIGH_HU - LOW_HU)).astype(np.float32)
    where = np.argwhere(inside[box])
    best, scale = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)
    for diameter in DIAMETERS_MM:
        # A ball answers most at a sigma of its radius over the root of 3, in three dimensions.
        sigma = diameter / (2 * np.sqrt(3)) / step_mm
        strength = _dot(image, sigma, where)
        at = tuple(where.T)
        better = strength > best[at]
        chosen = tuple(axis[better] for axis in at)
        best[chosen], scale[chosen] = strength[better], diameter
    dots, diameters = (np.zeros(inside.shape, np.float32) for _ in range(2))
    dots[box], diameters[box] = best, scale
    return dots, diameters


def _dot(image: Floats, sigma: float, where: npt.NDArray[np.int64]) -> Floats:
    """Return |smallest| squared over |largest| eigenvalue where all are negative, at the voxels `where`."""
    hessian = np.stack([part[tuple(where.T)] for part in _second_derivatives(image, sigma)], axis=1)
    trace = hessian[:, [0, 3, 5]].sum(axis=1)
    strength = np.zeros(len(where), np.float32)
    negative = np.flatnonzero((trace < 0) & (hessian[:, [0, 3, 5]] < 0).all(axis=1))
    matrices = hessian[negative][:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3) * sigma**2
    values = np.linalg.eigvalsh(matrices)
    # Ascending: the first is the most negative, the last the least.
    is_dot = values[:, 2] < 0
    strength[negative[is_dot]] = values[is_dot, 2] ** 2 / -values[is_dot, 0]
    return strength


def _second_derivatives(image: Floats, sigma: float) -> Iterator[Floats]:
    from scipy import ndimage

    for first in range(3):
        for second in range(first, 3):
            order = [0, 0, 0]
            order[first] += 1
            order[second] += 1
            yield ndimage.gaussian_filter(image, sigma, order=order, mode="nearest", truncate=3.0)


def _grown(
    array: npt.NDArray[np.generic], centre: Voxel, diameter_mm: float, step_mm: float
) -> tuple[Flags, Voxel]:
    """Return the voxels around a peak that are nearer to its HU than to lung, connected, within its scale.

    They come as a part of the volume, with the part's first voxel.
    """
    from scipy import ndimage

    reach = round(diameter_mm / step_mm) + 1
    low = [max(value - reach, 0) for value in centre]
    box = tuple(slice(start, value + reach + 1) for start, value in zip(low, centre, strict=True))
    part = np.asarray(array[box], dtype=np.float32)
    here = tuple(value - start for value, start in zip(centre, low, strict=True))
    axes = np.indices(part.shape) - np.array(here).reshape(3, 1, 1, 1)
    near = np.linalg.norm(axes * step_mm, axis=0) <= 0.75 * diameter_mm
    peak = float(np.median(part[tuple(slice(max(value - 1, 0), value + 2) for value in here)]))
    bright = (part > (peak + LUNG_HU) / 2) & near
    bright[here] = True
    labels, _ = ndimage.label(bright)
    k, j, i = low
    return labels == labels[here], (k, j, i)
