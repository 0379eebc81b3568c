"""Reason codes of the head CT and MR token cache: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "unsupported_format",
        "The path is neither a folder of DICOM files, a DICOM file nor an image of a format that is read here.",
        "Give .nii, .nii.gz, .dcm or a folder.",
    ),
    (
        "not_three_dimensional",
        "The image has more or fewer than three axes.",
        "Split a time series into one file a volume.",
    ),
    (
        "sheared_grid",
        "The axes of the image are not at right angles (gantry tilt kept in the affine).",
        "Convert the original series with `ct-assets convert`, or resample it onto a rectangular grid.",
    ),
    (
        "implausible_extent",
        "The image is no part of a body: its sides are too short or too long, or its steps are.",
        "Correct the spacing, or its unit of length (xyzt_units of a NIfTI file).",
    ),
    (
        "no_finite_voxels",
        "The image has no finite value.",
        "Export it again.",
    ),
    (
        "non_finite_voxels",
        "Some voxels are NaN or infinite; they were set to air (CT) or to the smallest finite value.",
        "Check how the file was made.",
    ),
    (
        "no_air_in_ct",
        "No voxel of a CT image is as dark as air, so its values may not be Hounsfield units.",
        "Check the rescaling of the file; windows and background need HU.",
    ),
    (
        "several_series",
        "The folder holds several image series.",
        "Name one of them, or let DatasetMetadata.from_directory list each as an image.",
    ),
    (
        "no_image_series",
        "No image series of CT or MR is there.",
        "Check what the folder or file holds.",
    ),
    (
        "mode_mismatch",
        "The header says another modality than the mode mapping.",
        "Correct the mode mapping.",
    ),
    (
        "smaller_than_a_token",
        "After resampling the image is smaller than one token of 4 x 16 x 16 voxels.",
        "Leave it out, or scan with more coverage.",
    ),
    (
        "mode_unmapped",
        "The mode mapping does not name the study.",
        "Add the study with `ct` or `mri`.",
    ),
    (
        "mode_unknown",
        "The mode mapping gives the study a mode other than `ct` or `mri`.",
        "Correct the mode mapping.",
    ),
    (
        "study_without_folder",
        "The mode mapping names a study that has no folder under `raw`.",
        "Deliver the study, or take it out of the mapping.",
    ),
    (
        "study_without_images",
        "The study's folder holds no usable image.",
        "See the reasons of its images.",
    ),
    (
        "unsafe_name",
        "The name begins with a dot, is too long, or holds control characters, separators or `...`.",
        "Rename the folder or file.",
    ),
    (
        "reserved_name",
        "The name ends in `_mask`, which the cache keeps for the background of another image.",
        "Rename the file; leave segmentations out of `raw`.",
    ),
    (
        "name_taken",
        "Another image of the study has the same name.",
        "Rename one of the two files.",
    ),
    (
        "source_missing",
        "The file or folder that the metadata names is not there.",
        "Deliver it again, or make the metadata anew.",
    ),
    (
        "not_cached",
        "The image is not in the cache, or the cache was made from another source or other parameters.",
        "Run build_cache, or allow reading the raw image.",
    ),
)
