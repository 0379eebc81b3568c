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
)
