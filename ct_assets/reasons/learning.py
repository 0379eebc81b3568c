"""Reason codes of training and evaluation: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "stale_plan",
        "The fold's plan was made from other training patients or settings than the volumes.",
        "Materialize fold_plan and fold_volumes of this fold again.",
    ),
    (
        "manifest_changed",
        "The cohort manifest is not the one with which this experiment was begun.",
        "Start an experiment with a new name, so that all its folds see one cohort.",
    ),
    (
        "experiment_mismatch",
        "The training configuration is not the one with which this experiment was begun.",
        "Start an experiment with a new name, or go back to the configuration it was begun with.",
    ),
    (
        "training_under_way",
        "Another process trains this fold of this experiment.",
        "Wait for it, or pause it with ct-assets train --pause; its state tells how far it is.",
    ),
    (
        "weights_not_loaded",
        "The file of pre-trained weights filled too little of the network.",
        "Compare the list of names loaded and not loaded; choose the network that the file belongs to.",
    ),
    (
        "weights_convention",
        "The pre-trained weights saw another spacing or intensity than the plan gives.",
        "Use a plan with the weights' convention, or accept the difference in the training configuration.",
    ),
    (
        "test_already_read",
        "The test split was read before, with another model or other settings.",
        "Report that reading; a forced second reading is marked in the report for ever.",
    ),
    (
        "prediction_refused",
        "The series or image could not be predicted.",
        "See the codes beside it.",
    ),
    (
        "seg_not_written",
        "The series lacks attributes that a DICOM SEG must copy from it; only the NIfTI mask was written.",
        "Export the series again with its patient, study and frame of reference attributes.",
    ),
    (
        "image_format_unknown",
        "The file lies among the inputs and is neither NIfTI nor DICOM.",
        "Convert it to NIfTI or DICOM.",
    ),
    (
        "not_a_ct_volume",
        "The DICOM series is no CT volume: another modality or kind of image.",
        "Send the CT series.",
    ),
    (
        "image_too_large",
        "The image does not fit into memory.",
        "Crop or resample it, or predict on a machine with more memory.",
    ),
    (
        "prediction_failed",
        "The network could not be run on this image.",
        "Look at the image; predict it alone to see whether it is at fault.",
    ),
    (
        "unreadable_image",
        "The file is no readable 3-D image.",
        "Give a 3-D NIfTI file or a DICOM series.",
    ),
)
