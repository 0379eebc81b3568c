"""Reason codes of longitudinal nodules: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "registration_image_empty",
        "One of the two images shows no body: too little tissue, or one value everywhere.",
        "Look at the image; leave the exam out.",
    ),
    (
        "registration_image_not_finite",
        "One of the two images has a value that is not a finite number.",
        "Export the image again.",
    ),
    (
        "registration_no_overlap",
        "No position was found in which the two images show the same part of the body.",
        "Check that both exams are of the same region; leave the exam out.",
    ),
    (
        "registration_similarity_low",
        "After registration the tissue of the two images is not alike: other patients, other position, or a failed "
        "registration.",
        "Look at the registered image; leave the exam out if it is of somebody else or in another position.",
    ),
    (
        "registration_not_better_than_start",
        "The images fit better as they lay than after registration.",
        "Look at the registered image; leave the exam out.",
    ),
    (
        "registration_overlap_small",
        "Less than half of the fixed image's tissue lies in the moving image's field of view.",
        "Use findings of the shared part only, or leave the exam out.",
    ),
    (
        "registration_lungs_apart",
        "After registration the lungs overlap too little.",
        "Look at the registered image; leave the exam out if position or breath differ too much.",
    ),
    (
        "registration_rotation_large",
        "The rotation is larger than patients differ between two scans.",
        "Look at the registered image; leave the exam out.",
    ),
    (
        "registration_scale_implausible",
        "The affine transform shrinks or enlarges the body more than a body changes.",
        "Use a rigid registration, and check the spacing of both images.",
    ),
    (
        "registration_folds_space",
        "The deformation folds space: its Jacobian determinant is not positive everywhere.",
        "Use a rigid or affine registration.",
    ),
    (
        "registration_process_ended",
        "The process that registered the pair ended, for want of memory or by a damaged image.",
        "Run again with fewer workers; leave the exam out if it happens again.",
    ),
    ("exam_without_pid", "The exam has no patient.", "Fill in pid."),
    ("exam_without_exam_id", "The exam has no identifier.", "Fill in exam_id."),
    ("exam_without_series", "The exam has no series.", "Fill in series."),
    (
        "exam_without_timepoint",
        "The screening timepoint is missing or no whole number.",
        "Fill in screen_timepoint.",
    ),
    ("exam_without_thickness", "The slice thickness is missing or not positive.", "Fill in slice_thickness."),
    ("exam_too_thick", "The slices are thicker than 2.5 mm.", "Use a thinner reconstruction of the exam."),
    ("exam_too_few_slices", "The exam has fewer than 50 slices.", "Use a complete series of the exam."),
    ("exam_is_localizer", "The series is a localizer.", "Use the CT series of the exam."),
    ("exam_label_window_empty", "No year of follow-up is known after the exam.", "Nothing: it has no label."),
    (
        "exam_image_ambiguous",
        "The exam has both a NIfTI and DICOM paths, so that its image is not one.",
        "Leave one of has_nifti and sorted_paths empty.",
    ),
    (
        "exam_without_image",
        "The exam has neither a NIfTI nor DICOM paths.",
        "Add the image, or leave the exam out.",
    ),
    ("exam_exact_duplicate", "The row is there twice.", "Nothing: one is used."),
    (
        "exam_id_collision",
        "Several rows that differ have one exam identifier.",
        "Give each exam an identifier of its own.",
    ),
    (
        "patient_in_two_splits",
        "The exams of one patient are in more than one split.",
        "Give a patient one split.",
    ),
    ("exam_known_bad", "The exam is in the list of bad exams.", "Take it off the list to use it."),
    (
        "patient_with_bad_exam",
        "Another exam of the patient is in the list of bad exams, and the policy leaves the patient out.",
        "Use the policy `exam` to leave out the bad exam only.",
    ),
    (
        "exam_not_chosen",
        "Another exam of the timepoint has thinner slices, more slices or the smaller series UID.",
        "Nothing: one exam a timepoint is used.",
    ),
    ("interval_unknown", "One of the two exams has no date.", "Fill in days_at_event."),
    (
        "interval_not_positive",
        "The later timepoint is not later in days.",
        "Correct screen_timepoint or days_at_event.",
    ),
    ("nodule_seen_once", "The nodule is on one usable exam only.", "Nothing: it has no pair."),
    ("tracking_without_pid", "The tracked nodule has no patient.", "Fill in pid."),
    ("tracking_without_nodule_group", "The tracked nodule has no group.", "Fill in nodule_group."),
    ("tracking_without_exam", "The tracked nodule names no exam.", "Fill in exam."),
    (
        "tracking_of_another_patient",
        "The exam table gives the exam to another patient than the tracking table.",
        "Correct pid or exam.",
    ),
    ("tracking_without_exam_idx", "exam_idx is missing, negative or no whole number.", "Fill in exam_idx."),
    ("tracking_without_volume", "The volume is missing or not positive.", "Measure the nodule again."),
    ("tracking_exact_duplicate", "The row is there twice.", "Nothing: one is used."),
    (
        "tracking_contradicts",
        "Several rows that differ are of one nodule and exam index.",
        "Keep the one that is right.",
    ),
    (
        "pair_not_registered",
        "One of the two exams has no usable registration to the patient's first exam.",
        "Look at its row of the registrations; correct the image or the transform.",
    ),
    ("pair_without_box", "The tracking table has no box of the nodule on both exams.", "Fill in coords."),
    (
        "pair_box_outside",
        "The nodule's box lies outside its image.",
        "Correct coords, or their order of axes.",
    ),
    (
        "pair_without_split",
        "The patient is in none of the splits train, val and test.",
        "Fill in split of the exam table.",
    ),
    (
        "autoencoder_below_gate",
        "The autoencoder does not keep nodules: their volume or the values in their region change too much.",
        "Train it longer or with more channels, or use the flow of patches (`space: patches`).",
    ),
    (
        "latents_stale",
        "The latents are of another autoencoder, another scale or other crops than the experiment's.",
        "Encode the crops again.",
    ),
    (
        "interval_beyond_training",
        "The interval is shorter or longer than any that the model was trained with.",
        "Take the prediction as an extrapolation, or train with such intervals.",
    ),
    (
        "prediction_without_nodule",
        "The predicted image shows no nodule at the expected place; its volume counts as 0.",
        "Look at the predicted image.",
    ),
)
