"""What every nodule detector is: a volume in, findings with masks out.

Belongs here: the interface. Detectors: `classical`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Volume
from ct_assets.systems.nodules.findings import Filters, Finding, select
from ct_assets.systems.nodules.marks import Mark
from ct_assets.systems.nodules.reference import diameter_of
from ct_assets.systems.nodules.volumes import Prepared

EVALUATED = Filters(least_diameter_mm=None, most_diameter_mm=None)
"""An evaluation leaves out what lies outside the lungs, double marks and all beyond 100; it asks for no confidence."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A finding and its mask."""

    finding: Finding
    part: npt.NDArray[np.bool_]
    """Its mask (k, j, i), as a part of the volume of `Detections`."""
    first: tuple[int, int, int]
    """First voxel of the part."""

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

    def marks(self, scan: str, filters: Filters = EVALUATED) -> list[Mark]:
        """Return the findings that an evaluation counts; the diameter is that of the ball with the volume."""
        kept, _ = select([row.finding for row in self.rows], filters, lungs=self.lungs)
        return [
            Mark(scan, one.centre_lps_mm, one.confidence, diameter_of(one.volume_mm3), one.triage)
            for one in kept
        ]


class Detector(Protocol):
    """Finds nodules in a chest CT in HU, whatever its grid."""

    @property
    def name(self) -> str:
        """Its name in reports."""
        ...

    def detect(self, volume: Volume) -> Detections:
        """Return the findings, before filters."""
        ...

    def detect_prepared(self, prepared: Prepared) -> Detections:
        """Return the findings of a volume that is on the detector's grid already."""
        ...
