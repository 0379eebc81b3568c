"""Schemas of brain CT classification; a line a column, units in names."""

import dataframely as dy
import polars as pl


class BrainFeatures(dy.Schema):
    """A row a slice of the label table: what its header and pixels say, usable or not."""

    id = dy.String(primary_key=True)
    """The file's stem (`ID_...`), or the SOPInstanceUID of a slice from the platform's batches."""
    path = dy.String()
    """Relative to the folder that holds the images."""
    label = dy.Int64(min=0, max=1)
    ok = dy.Int64(min=0, max=1)
    """1 where the slice can be used."""
    error = dy.String(nullable=True)
    """Code of `ct_assets.reasons`; null where `ok` is 1."""
    warnings = dy.List(dy.String(), nullable=False)
    pixel_spacing_x = dy.Float64(nullable=True)
    """Millimetres along a row: the second value of PixelSpacing (0028,0030)."""
    pixel_spacing_y = dy.Float64(nullable=True)
    """Millimetres along a column: the first value."""
    slice_thickness = dy.Float64(nullable=True)
    orientation = dy.List(dy.Float64(), nullable=True)
    """ImageOrientationPatient (0020,0037)."""
    position = dy.List(dy.Float64(), nullable=True)
    """ImagePositionPatient (0020,0032), LPS millimetres."""
    window_center = dy.Float64(nullable=True)
    """The first value of several."""
    window_width = dy.Float64(nullable=True)
    """The first value of several."""
    shape_0 = dy.Int64(nullable=True)
    """Rows."""
    shape_1 = dy.Int64(nullable=True)
    """Columns."""
    hu_min = dy.Float64(nullable=True)
    hu_max = dy.Float64(nullable=True)
    hu_mean = dy.Float64(nullable=True)
    pixel_array_min = dy.Float64(nullable=True)
    """Stored values, before the rescale."""
    pixel_array_max = dy.Float64(nullable=True)
    pixel_array_mean = dy.Float64(nullable=True)
    bbox = dy.List(dy.Int64(), nullable=True)
    """Skull: upper, lower, left, right; lower and right are exclusive."""
    group_id = dy.String()
    """What never crosses splits: a digest of the patient and study, as far as the header knows them."""
    study_id = dy.String()
    """What slices are aggregated to: the study, or the slice alone where the header does not know it."""
    series_id = dy.String(nullable=True)
    manufacturer = dy.String(nullable=True)
    convolution_kernel = dy.String(nullable=True)
    kvp_kv = dy.Float64(nullable=True)
    file_sha256 = dy.String(nullable=True)
    pixel_sha256 = dy.String(nullable=True)

    @dy.rule()
    def error_where_not_ok(cls) -> pl.Expr:
        """A slice is usable, or has its reason."""
        return (cls.ok.col == 1) == cls.error.col.is_null()


class BrainSplit(BrainFeatures):
    """The features with the place of every slice."""

    test = dy.Bool()
    """Set apart for the one test."""
    fold = dy.Int64(nullable=True, min=0)
    """The fold that validates the slice; null in the test set."""


class BrainPredictions(dy.Schema):
    """A row a predicted slice."""

    id = dy.String(primary_key=True)
    study_id = dy.String()
    group_id = dy.String()
    label = dy.Int64(min=0, max=1)
    fold = dy.Int64(nullable=True, min=0)
    """The fold whose model predicted it out of fold; null in the test set."""
    logit = dy.Float64()
    prob = dy.Float64(min=0, max=1)
