"""Reason codes of the NIfTI cache: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "image_series_missing",
        "The image series of the case is not among those that are there.",
        "Build the cohort's manifest again; the batch may have been replaced.",
    ),
    (
        "mask_object_missing",
        "The mask object of the case is not among those that are there.",
        "Build the cohort's manifest again; the batch may have been replaced.",
    ),
    (
        "mask_references_other_series",
        "The mask means another series than the case's image.",
        "Find out which image it belongs to.",
    ),
)
