"""Reason codes of splits, plans, volumes: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    # the files of a case
    ("image_missing", "The image file of the case is not there.", "Correct the path or bring the file."),
    ("image_unreadable", "The image file cannot be read as a 3-D NIfTI.", "Export the image again."),
    ("image_not_scalar", "The image holds colours or complex numbers.", "Give the CT values themselves."),
    ("image_not_finite", "Some voxels are not numbers.", "Export the image again in HU."),
    (
        "image_clipped_to_int16",
        "Some voxels lie beyond what 16 bits hold and were clipped (a warning).",
        "Check that the image is in HU.",
    ),
    ("label_missing", "The mask file of the case is not there.", "Correct the path or leave the cell empty."),
    ("label_unreadable", "The mask file cannot be read as a 3-D NIfTI.", "Export the mask again."),
    (
        "label_grid_mismatch",
        "Mask and image do not lie on the same grid.",
        "Bring the mask onto the grid of its image; nothing is moved by guess.",
    ),
    ("label_not_integer", "The mask holds fractions.", "Give whole label values."),
    ("label_out_of_range", "The mask has values below 0 or above 255.", "Give label values from 0 to 255."),
    ("label_empty", "The mask marks nothing (a warning).", "Check that the right mask was given."),
    (
        "label_everywhere",
        "The mask marks the whole image (a warning).",
        "Check that the right mask was given.",
    ),
    # the plan
    (
        "no_foreground_in_training",
        "No training case has a mask; intensities follow the body instead (a warning).",
        "Give masks, or choose another intensity scheme.",
    ),
    ("constant_intensity", "All training voxels have one value (a warning).", "Check the images."),
    (
        "training_case_left_out",
        "A training case could not be used for the plan (a warning).",
        "See the case's own reasons.",
    ),
    # the ledger
    (
        "few_patients_for_folds",
        "There are fewer training patients than folds (a warning).",
        "Go on with the folds that validate somebody, or make a new ledger with fewer folds.",
    ),
    (
        "no_test_set",
        "There is no test set: none was asked for, or there are fewer than three patients (a warning).",
        "Bring more patients, or set test_share.",
    ),
    (
        "class_missing_in_training",
        "The training part of a fold lacks one of the classes (a warning).",
        "Bring more patients of the class, or make a new ledger with fewer folds.",
    ),
    (
        "label_corrected",
        "The label of a patient is not the one it had when it was placed; the place stays (a warning).",
        "Nothing; balance is worth a look.",
    ),
    (
        "site_outside_folds",
        "A site came after the folds by site were fixed: it trains everywhere and validates nowhere (a warning).",
        "Make a new ledger to give it a fold.",
    ),
    (
        "shared_between_splits",
        "The same identity stands in two parts of the split: test, or different folds.",
        "Find out whether it is one patient under two names or one picture twice; leave one out.",
    ),
    (
        "ledger_rewritten",
        "The split ledger was changed other than by adding rows.",
        "Restore splits.parquet from a backup.",
    ),
    (
        "ledger_chain_broken",
        "A row of the split ledger does not match its digest.",
        "Restore splits.parquet from a backup.",
    ),
    # bad rows of a CSV of cases
    ("row_without_case_id", "The row has no case_id.", "Name the case."),
    ("row_without_patient_id", "The row has no patient_id.", "Name the patient; patients are what is split."),
    ("row_without_image", "The row names no image.", "Name the image file."),
    ("case_repeated", "Another row has the same case_id.", "Give every case an identifier of its own."),
    (
        "case_id_not_a_name",
        "The case_id holds other characters than letters, digits, '.', '_' and '-'.",
        "Choose an identifier that can be a file name.",
    ),
    (
        "stage_contradicts",
        "Rows of one patient have different stages.",
        "Give one stage a patient.",
    ),
    # drift
    (
        "split_drifts",
        "A factor differs between parts of the split more than chance explains (a warning).",
        "Look at the page; consider it when reading the scores of this fold.",
    ),
    (
        "stage_confounded",
        "A factor of the scan goes with the stage more than chance explains (a warning).",
        "A network may learn the scanner instead of the disease: balance, adjust or collect more.",
    ),
    (
        "headers_predict_stage",
        "A model that sees headers alone predicts the stage better than chance (a warning).",
        "Compare every image model with this one before believing it.",
    ),
)
