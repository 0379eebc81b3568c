"""What masks are put onto: the slices of a CT series, and what a mask may refer to them by.

Belongs here: slices, references and frame of reference of one series, from its headers alone, so that audit
and conversion decide over the same. Does not: voxels, grids (`imaging.volume`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ct_assets.dicom.series import Instance, Series
from ct_assets.dicom.sources import Source
from ct_assets.imaging.stack import SliceStack


@dataclass(frozen=True)
class SliceSources:
    """The instances, and frames of instances, that the slices of a stack are."""

    by_instance: Mapping[str, Mapping[int | None, int]]
    """SOPInstanceUID to frame (from 0; None for a single-frame instance) to slice."""

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> "SliceSources":
        """Collect the slices of a series."""
        found: dict[str, dict[int | None, int]] = {}
        for k, one in enumerate(instances):
            if one.sop_instance_uid:
                found.setdefault(one.sop_instance_uid, {})[one.frame] = k
        return cls(found)

    def slices(self, sources: Iterable[Source]) -> list[int]:
        """Return the slices that references name, as far as they are there.

        A reference to an instance without frame numbers names all its frames (PS3.3 10.3).
        """
        found: dict[int, None] = {}
        for source in sources:
            frames = self.by_instance.get(source.sop_instance_uid)
            if frames is None:
                continue
            if not source.frames or None in frames:
                found |= dict.fromkeys(frames.values())
            else:
                found |= {frames[one - 1]: None for one in source.frames if one - 1 in frames}
        return list(found)


@dataclass(frozen=True, eq=False)
class Target:
    """A CT series as masks see it."""

    stack: SliceStack
    sources: SliceSources
    frame_of_reference_uids: frozenset[str]

    @classmethod
    def of(cls, series: Series) -> "Target":
        """Return the target of a series whose geometry is known."""
        geometry = series.geometry
        assert geometry is not None
        stack = SliceStack(
            positions_mm=np.array([one.position_lps_mm for one in series.instances], dtype=np.float64),
            along_row=np.asarray(geometry.row_direction),
            along_column=np.asarray(geometry.column_direction),
            pixel_spacing_mm=geometry.pixel_spacing_mm,
            rows=geometry.rows,
            columns=geometry.columns,
        )
        return cls(stack, SliceSources.of(series.instances), frozenset(series.frame_of_reference_uids))

    def is_other_frame_of_reference(self, uids: Iterable[str]) -> bool:
        """Tell whether a mask's frames of reference, as far as both sides name any, are none of the image's."""
        named = frozenset(uids)
        return bool(named and self.frame_of_reference_uids and not named & self.frame_of_reference_uids)
