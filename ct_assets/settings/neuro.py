"""Settings of the head CT and MR token cache (`neuro:`)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ct_assets.settings.base import Section

Mode = Literal["ct", "mri"]
Stream = Literal["mri", "brain", "blood", "bone"]
TokenBackground = Literal["any", "all"]


class PreprocessingSettings(Section):
    """How an image becomes a volume of [0, 1] (`neuro.preprocessing:`); part of every cache key."""

    in_plane_mm: float = Field(default=1.0, gt=0, le=10)
    """Spacing within a slice after resampling."""
    slice_mm: float = Field(default=4.0, gt=0, le=20)
    """Spacing along the slice axis after resampling."""
    air_hu: float = -1000.0
    """HU of what lies outside the scanned extent, and the floor of padding values."""
    ct_background_hu: float = -500.0
    """CT voxels at or below are background."""
    mri_background_percentile: float = Field(default=10.0, ge=0, lt=100)
    """MR voxels at or below this percentile of the image are background."""
    mri_clip_percentiles: tuple[float, float] = (0.5, 99.5)
    """MR values are clipped to these percentiles, then scaled from smallest to largest."""
    fill_holes: bool = False
    """Count enclosed background (sinuses, ventricles on MR) as foreground."""

    @model_validator(mode="after")
    def _percentiles_ascend(self) -> "PreprocessingSettings":
        low, high = self.mri_clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"mri_clip_percentiles must ascend within 0 to 100, got {low} and {high}")
        return self


class Normalisation(Section):
    """Mean and standard deviation of one stream's values of [0, 1]."""

    mean: float
    std: float = Field(gt=0)


class NeuroSettings(Section):
    """The token cache of head CT and MR (`neuro:`)."""

    data_dir: Path | None = None
    """The data set's folder with `raw/<study>/…`; by default `neuro` under the data root."""
    modes: Path | None = None
    """Which study is `ct` and which `mri`: a CSV (`study_id, mode`) or JSON; by default `modes.csv` there."""
    dataset_name: str = "neuro"
    """Name written into `metadata.json`."""
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    token_background: TokenBackground = "any"
    """A token is background where any of its voxels is, or only where all are."""
    normalisation: dict[Stream, Normalisation] = {}
    """Streams whose values are standardised when a data set reads them; the others stay in [0, 1]."""
