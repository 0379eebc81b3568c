"""Reason codes of brain CT classification: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "slice_not_ct",
        "The file is no CT image by its modality.",
        "Leave it out of the folder; the windows need Hounsfield units.",
    ),
    (
        "slice_multi_frame",
        "The file holds several frames.",
        "Export one slice a file, or hand it in as a series through a batch.",
    ),
    (
        "slice_constant",
        "All pixels of the slice have one value.",
        "Export it again.",
    ),
    (
        "slice_values_not_hu",
        "No pixel is as dark as air outside a head, so the values may not be Hounsfield units.",
        "Give the CT as its scanner made it, not a masked or rescaled picture.",
    ),
    (
        "slice_oblique",
        "The plane of the slice is tilted against the patient's axes; it is used as it is.",
        "Nothing, where the gantry was tilted on purpose.",
    ),
    (
        "slice_not_axial",
        "The plane of the slice is coronal or sagittal.",
        "Deliver the axial series.",
    ),
    (
        "slice_orientation_unknown",
        "The header does not tell how the slice lies in the patient; it is used as it is.",
        "Nothing; flips and turns are not undone.",
    ),
    (
        "slice_copied",
        "Another file holds the same pixels; both stay on one side of every split.",
        "Take one of them out.",
    ),
    (
        "copy_like_name",
        "The file name ends like a copy that an operating system made, such as `name (1).dcm`; it is not used.",
        "Take the copy out of the folder.",
    ),
    (
        "image_without_label",
        "The label table has no row for the file; it is not used.",
        "Add a row, or take the file out.",
    ),
    (
        "label_repeated",
        "The label table has the same row twice; it counts once.",
        "Take one of them out.",
    ),
    (
        "not_head",
        "BodyPartExamined says that the series shows no head.",
        "Correct brain.body_parts where the site writes it otherwise.",
    ),
    (
        "single_study_only",
        "All slices are of one patient or study, so nothing can be split.",
        "Correct the identifiers, or set group_by where they mean nothing.",
    ),
    (
        "sens_target_missed",
        "No threshold reaches the sensitivity asked for in the mean over folds; that of the best F1 was taken.",
        "Lower sens_target, or train a better model.",
    ),
    (
        "no_usable_slice",
        "No slice of the series can be used.",
        "See the reasons of its slices.",
    ),
    (
        "too_small_slice",
        "The slice has fewer than 16 rows or columns.",
        "Export it whole.",
    ),
)
