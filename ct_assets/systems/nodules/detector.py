"""What every nodule detector is: a volume in, findings with masks out.

Belongs here: the interface. Detectors: `classical`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Volume
from ct_assets.systems.nodules.findings import Finding
from ct_assets.systems.nodules.marks import Mark


@dataclass(frozen=True, eq=False)
class Detection:
    """A finding and its mask."""

    finding: Finding
    part: npt.NDArray[np.bool_]
    """Its mask (k, j, i), as a part of the volume of `Detections`."""
    first: tuple[int, int, int]
    """First voxel of the part."""
    mark: Mark | None = None
    """Where the detector itself puts it, and how large; null where its mask is all there is."""

    def mask(self, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
        """Return the mask of the whole volume."""
        whole = np.zeros(shape, dtype=bool)
        whole[
            tuple(slice(low, low + size) for low, size in zip(self.first, self.part.shape, strict=True))
        ] = self.part
        return whole


@dataclass(frozen=True, eq=False)
class Detections:
    """All findings of a volume, on the grid on which they were measured."""

    volume: Volume
    """HU on that grid; its world is that of the volume that was given."""
    lungs: npt.NDArray[np.bool_] | None
    rows: tuple[Detection, ...]
    """The most confident first."""


class Detector(Protocol):
    """Finds nodules in a chest CT in HU, whatever its grid."""

    name: str

    def detect(self, volume: Volume) -> Detections:
        """Return the findings, before filters."""
        ...
