"""Settings of splits, plans, drift and smaller sets."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ct_assets.settings.base import Section


class SplitSettings(Section):
    """The split ledger (`splits:`); all but `given` are fixed when the ledger is made."""

    folds: int = Field(default=5, ge=2, le=50)
    """Folds of the cross-validation."""
    test_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the patients that is set apart for the one test; 0 for no test set."""
    salt: str = "ct-assets"
    """Text that enters the hash which orders patients; another salt draws another test set."""
    strata: tuple[Literal["stage", "site"], ...] = ("stage", "site")
    """What folds are balanced over; the first named outlives the collapse of rare cells."""
    scheme: Literal["stratified", "leave_one_site_out"] = "stratified"
    """Balanced folds, or a fold for each site."""
    given: Path | None = None
    """Folds made by a person: a CSV (patient_id or case_id, split, fold) or nnU-Net's splits_final.json."""


class PlanSettings(Section):
    """How a fold's plan follows from its training patients (`plan:`)."""

    spacing: Literal["median"] | tuple[float, float, float] = "median"
    """Target spacing in mm as (x, y, z), or the training median with the anisotropy rule."""
    intensity: Literal["foreground_zscore", "window", "unit_range", "per_case"] = "foreground_zscore"
    """How HU become network input."""
    window: str = "lung"
    """The window of `intensity: window`, by its name in `ct_assets.imaging.windows`."""
    crop: Literal["body", "lung", "none"] = "body"
    """What part of a volume is kept; judged from the image alone."""
    crop_margin_mm: float = Field(default=10.0, ge=0, le=200)
    """Kept around the crop."""
    image_order: Literal[0, 1, 3] = 3
    """Interpolation of images where they get finer: nearest, linear or cubic; coarser is always area-true."""
    outside_hu: int = Field(default=-1000, ge=-32768, le=32767)
    """HU beyond the edge of a volume: air."""
    patch_size: tuple[int, int, int] | None = None
    """Network input as (k, j, i) voxels; by default from `patch_memory_gb`."""
    patch_memory_gb: float = Field(default=12.0, gt=0, le=1024)
    """Memory of the accelerator that one patch's training step may fill."""
    overrides: Path | None = None
    """A small JSON of fields that replace those of the plan, recorded in it as such."""

    @model_validator(mode="after")
    def _spacing_is_positive(self) -> "PlanSettings":
        if self.spacing != "median" and min(self.spacing) <= 0:
            raise ValueError(f"spacing must be positive millimetres, got {self.spacing}")
        if self.patch_size is not None and min(self.patch_size) < 1:
            raise ValueError(f"patch_size must be positive, got {self.patch_size}")
        return self


class DriftSettings(Section):
    """Drift between splits and confounding of the stage (`drift:`)."""

    alarm_rate: float = Field(default=0.05, gt=0, lt=1)
    """Chance that a report on a clean cohort raises any alarm at all."""
    permutations: int = Field(default=1999, ge=99, le=100_000)
    """Random relabellings behind every p-value."""
    seed: int = 20_240_101
    """Seed of the relabellings."""


class DerivedSettings(Section):
    """A smaller set (`derived.<name>:`), drawn from training patients only."""

    patients: int = Field(default=20, ge=2)
    """At most so many patients."""
    spacing: Literal["median"] | tuple[float, float, float] = (2.0, 2.0, 3.0)
    """Target spacing in mm as (x, y, z)."""
    crop: Literal["body", "lung", "none"] = "body"
    """What part of a volume is kept."""
    patch_size: tuple[int, int, int] | None = None
    """Network input as (k, j, i) voxels; by default as in the full set's settings."""
    max_mb: float = Field(default=500.0, gt=0)
    """The set's volumes take at most so many megabytes (10^6 bytes)."""
    seed: int = 0
    """Which patients of a stratum are drawn."""
