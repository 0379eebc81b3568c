"""ct_assets: from a hospital's DICOM drop to a de-identified cohort, folds and evaluated models."""

__version__ = "0.1.0"
