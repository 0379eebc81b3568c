"""Reason codes of NIfTI files, ours and others': (code, meaning, what the user can do)."""

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
    # Files of any origin
    (
        "analyze_format",
        "The file is Analyze 7.5, which does not say where left and right are.",
        "Convert it to NIfTI where its orientation is known.",
    ),
    (
        "nifti_part_missing",
        "Of a NIfTI pair .hdr and .img one file is missing.",
        "Put both files into one folder.",
    ),
    (
        "singular_affine",
        "The affine of the image spans no space: zeros, no numbers, or two axes alike.",
        "Export the image again; nothing says where its voxels lie.",
    ),
    (
        "length_unit_not_stated",
        "The NIfTI header states no unit of length, and the steps do not show that they are millimetres (a warning).",
        "Check the spacing, and set xyzt_units.",
    ),
    (
        "nifti_orientation_unknown",
        "The NIfTI header has neither sform nor qform: left and right are assumed (a warning).",
        "Set the affine from the original images; sides and places in the patient are not proven.",
    ),
    (
        "nifti_forms_disagree",
        "sform and qform put the image at different places; the sform holds (a warning).",
        "Set both to the same affine; look which one fits the original images.",
    ),
    (
        "nifti_spacing_disagrees",
        "pixdim is not the step of the sform, which holds (a warning).",
        "Check the spacing against the original images: the sform may lead into another space.",
    ),
    (
        "image_constant",
        "All voxels of the image have one value.",
        "Export the image again.",
    ),
    (
        "image_normalised",
        "The values were scaled to a narrow range such as 0 to 1: they are no Hounsfield units.",
        "Give the CT values themselves.",
    ),
    (
        "values_of_8_bits",
        "All values lie from 0 to 255: the image may be a window of a CT, not Hounsfield units (a warning).",
        "Give the CT values themselves unless the image is a part of an organ.",
    ),
    (
        "label_rounded",
        "Label values within 0.001 of a whole number were rounded (a warning).",
        "Store labels as integers.",
    ),
)
