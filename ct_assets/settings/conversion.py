"""Settings of the conversion to volumes: voxel types, orientation, padding, and how masks become labels.

Which corrections of a series' geometry are allowed is decided where the geometry is judged (`audit:`).
"""

from typing import Literal

from pydantic import Field, field_validator

from ct_assets.settings.base import Section

AS_ACQUIRED = "as_acquired"


class MaskSettings(Section):
    """From SEG and RTSTRUCT to label maps (`conversion.masks:`)."""

    fractional_threshold: float = Field(default=0.5, gt=0, le=1)
    """A voxel of a FRACTIONAL segmentation belongs to the segment from this share of the maximum on."""
    other_grid: Literal["refuse", "nearest"] = "refuse"
    """A SEG on another grid than its CT (finer, coarser, shifted): refused, or taken to the nearest voxel."""
    outside: Literal["refuse", "crop"] = "refuse"
    """A mask that runs past the image: refused, or cut at its border."""
    between_slices: Literal["nearest", "refuse"] = "nearest"
    """Contours on a plane between two slices: they go to the nearest slice (at most half a step away; of
    several planes the closest one), or their ROI is refused. Slices between two contour planes stay empty."""


class ConversionSettings(Section):
    """From series and mask objects to NIfTI (`conversion:`)."""

    orientation: str = AS_ACQUIRED
    """`as_acquired`, or the three letters that the axes i, j, k shall run towards, such as RAS or LPS: axes
    are flipped and exchanged, never resampled."""
    padding: Literal["keep", "air"] = "keep"
    """Padding pixels (0028,0120): kept as they are and reported, or replaced by `air_hu`."""
    air_hu: int = Field(default=-1000, ge=-32768, le=0)
    """HU of air where padding is replaced or a correction needs values beyond the image."""
    rescale_types: tuple[str, ...] = ("HU",)
    """Rescale Types (0028,1054) that are taken for Hounsfield units; an absent one is HU in a CT image, and an
    unspecified one (US) is taken with a warning."""
    masks: MaskSettings = MaskSettings()

    @field_validator("orientation")
    @classmethod
    def _known_orientation(cls, value: str) -> str:
        axes = [set("LR"), set("AP"), set("IS")]
        letters = value.upper()
        if value == AS_ACQUIRED:
            return value
        if len(letters) == 3 and all(sum(letter in axis for letter in letters) == 1 for axis in axes):
            return letters
        raise ValueError("use as_acquired or three letters, one each of L/R, A/P, I/S, such as RAS")
