"""Schemas of predictions and their metrics; a line a column, units in names."""

import dataframely as dy


class Predictions(dy.Schema):
    """A row a case that a model predicted without having been trained on it."""

    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    fold = dy.String(nullable=True)
    """The fold whose model predicted; null for the final model."""
    mask = dy.String()
    """Predicted mask on the image's grid, relative to the data root."""
    stage = dy.String(nullable=True)
    """The true stage; null where unknown."""
    stage_probabilities = dy.List(dy.Float64(min=0, max=1), nullable=True)
    """Uncalibrated, in the order of the vocabulary; null where no stage head was trained."""
    predicted_ml = dy.Float64(min=0)
    """Volume of the predicted mask."""
    site = dy.String(nullable=True)
    scanner = dy.String(nullable=True)
    """Manufacturer and model, where the manifest tells."""
    model_sha256 = dy.String()
    """The weights that predicted."""


class SegmentationScores(dy.Schema):
    """A row a case with a reference mask: how well the predicted mask fits, in the original image space."""

    model = dy.String(primary_key=True)
    """`model`, or the name of a baseline."""
    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    fold = dy.String(nullable=True)
    stage = dy.String(nullable=True)
    site = dy.String(nullable=True)
    scanner = dy.String(nullable=True)
    dice = dy.Float64(min=0, max=1)
    """1 where both masks are empty."""
    nsd = dy.Float64(min=0, max=1)
    """Normalised surface distance at the set tolerance."""
    hd95_mm = dy.Float64(min=0)
    """95 % Hausdorff distance; the image's diagonal where one mask is empty and the other is not."""
    reference_ml = dy.Float64(min=0)
    predicted_ml = dy.Float64(min=0)
    volume_error_ml = dy.Float64()
    """Predicted minus reference."""
    volume_error_share = dy.Float64(nullable=True)
    """Absolute error over the reference volume; null where the reference is empty."""
    lesions = dy.Int64(min=0)
    lesions_found = dy.Int64(min=0)
    lesions_false = dy.Int64(min=0)
    """Predicted components that touch no lesion."""
    lesion_f1 = dy.Float64(min=0, max=1)
    """1 where there is nothing to find and nothing was found."""
    is_missed = dy.Bool()
    """There is a reference and no predicted voxel in it."""
