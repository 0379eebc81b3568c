"""Schemas of case checks, fold volumes, drift; a line a column, units in names."""

import dataframely as dy
import polars as pl


class CaseChecks(dy.Schema):
    """A row a case of the manifest: whether its files can be used, and if not, why."""

    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    is_usable = dy.Bool()
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of `ct_assets.reasons`; also warnings of usable cases."""
    detail = dy.String(nullable=True)
    """What the file says, without values of the header."""
    image_digest = dy.String(nullable=True)
    """XXH3-128 of the image file's bytes."""
    label_digest = dy.String(nullable=True)
    """XXH3-128 of the mask file's bytes; null where there is no mask."""
    pixel_digest = dy.String(nullable=True)
    """XXH3-128 of shape and stored voxels: equal for equal pictures, however compressed."""


class FoldVolumes(dy.Schema):
    """A row a usable case of one fold, with its resampled volumes in the store."""

    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    role = dy.String(check=lambda column: column.is_in(["train", "validation"]))
    """`train` or `validation`; test patients have no row. In the fold `final` all are `train`."""
    stage = dy.String(nullable=True)
    site = dy.String(nullable=True)
    image_key = dy.String()
    """Store entry of the image: int16 HU at the plan's spacing."""
    label_key = dy.String(nullable=True)
    """Store entry of the mask on the same grid; null where the case has none."""
    image = dy.String()
    """The NIfTI image, relative to the data root."""
    label = dy.String(nullable=True)
    """The NIfTI mask, relative to the data root."""
    shape_kji = dy.Array(dy.Int32(), 3, nullable=False)
    """Shape of the resampled volume."""
    foreground_voxels = dy.Int64()
    """Mask voxels in the resampled volume."""

    @dy.rule()
    def label_has_key(cls) -> pl.Expr:
        """A mask and its store entry are both there, or neither."""
        return cls.label_key.col.is_null() == cls.label.col.is_null()


class FinalSet(dy.Schema):
    """A row a case of `final/train` or `final/test`."""

    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    role = dy.String(check=lambda column: column.is_in(["train", "test"]))
    stage = dy.String(nullable=True)
    site = dy.String(nullable=True)
    image = dy.String()
    """Normalised float32 NIfTI, relative to the set's folder."""
    label = dy.String(nullable=True)
    """Mask NIfTI on the same grid, relative to the set's folder."""
    image_sha256 = dy.String()
    label_sha256 = dy.String(nullable=True)
    image_key = dy.String()
    """Store entry of the same volume before normalisation."""
    label_key = dy.String(nullable=True)
    source_image_digest = dy.String()
    """XXH3-128 of the source image file."""
    source_label_digest = dy.String(nullable=True)
    """XXH3-128 of the source mask file."""


class LeakageFindings(dy.Schema):
    """A row an identity that stands on both sides of a split."""

    kind = dy.String(primary_key=True)
    """`patient_id`, `study_instance_uid`, `frame_of_reference_uid`, `pixel_digest`, …"""
    value = dy.String(primary_key=True)
    patient_ids = dy.List(dy.String(), nullable=False)
    parts = dy.List(dy.String(), nullable=False)
    """Where it stands: `test`, `fold 0`, …"""
