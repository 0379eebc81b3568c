"""Reason codes of mask objects (SEG, RTSTRUCT): (code, meaning, what the user can do)."""

EXPORT_AGAIN = "Export the mask again together with its images."
RESAMPLE = "Set conversion.masks.other_grid to nearest where resampling the mask is acceptable."
CROP = "Set conversion.masks.outside to crop where cutting the mask is acceptable."

REASONS: tuple[tuple[str, str, str], ...] = (
    # What the object is
    ("mask_unreadable", "The mask object's frames, segments or contours cannot be read.", EXPORT_AGAIN),
    ("segmentation_type_unknown", "SegmentationType is none of BINARY, FRACTIONAL, LABELMAP.", EXPORT_AGAIN),
    (
        "segment_numbers_invalid",
        "Segment or ROI numbers are missing, repeated, or used without a description.",
        EXPORT_AGAIN,
    ),
    (
        "mask_frames_incomplete",
        "The frames of the mask and their descriptions do not match in number or name no segment.",
        EXPORT_AGAIN,
    ),
    ("mask_position_missing", "A frame of the mask tells no position, orientation or spacing.", EXPORT_AGAIN),
    (
        "roi_without_contours",
        "A structure has no closed planar contour.",
        "Draw the structure again if it is needed.",
    ),
    # Which series is meant
    (
        "mask_of_other_patient",
        "The mask refers to a series of another patient.",
        "Find out whose mask it is.",
    ),
    (
        "mask_references_missing_series",
        "The series that the mask names is not there.",
        "Deliver that series.",
    ),
    ("mask_reference_missing", "Nothing in the mask leads to a CT series that is there.", EXPORT_AGAIN),
    ("mask_reference_ambiguous", "The mask could mean several CT series alike.", EXPORT_AGAIN),
    ("referenced_series_refused", "The series that the mask means is refused itself.", "Mend the series."),
    (
        "mask_in_other_frame_of_reference",
        "Mask and image name different frames of reference; as a warning: each frame lies on the very slice "
        "that it refers to, so its place is proven all the same.",
        EXPORT_AGAIN,
    ),
    # Where it lies
    ("mask_grid_differs", "The mask's pixels do not coincide with the image's.", RESAMPLE),
    ("mask_outside_volume", "The mask lies outside the image.", "Find out which image it belongs to."),
    ("mask_exceeds_volume", "The mask runs past the image.", CROP),
    (
        "contours_between_slices",
        "A contour lies between two slices, further from both than allowed.",
        "Set conversion.masks.between_slices to nearest where moving it is acceptable.",
    ),
    ("contours_not_in_slices", "Contours are not parallel to the slices.", EXPORT_AGAIN),
    # Warnings
    (
        "fractional_mask_thresholded",
        "A FRACTIONAL segmentation was cut at a threshold.",
        "Look at the outline once; the threshold is in the settings.",
    ),
    (
        "mask_references_missing_instances",
        "Some instances that the mask names are not in the series.",
        "Deliver the missing slices if the mask reaches into them.",
    ),
    (
        "mask_refers_to_several_series",
        "The mask names instances of several series; most are of this one.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_references_contradict",
        "The instances that the mask names are not of the series it names.",
        "Look at the mask on the image once; ask for a new export if it is off.",
    ),
    (
        "mask_sop_references_stale",
        "None of the instances that the mask (or a part of it) names is there; its positions decide.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_source_elsewhere",
        "A frame or contour lies on another slice than it names; position decides.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_found_by_frame_of_reference",
        "The series was found by its frame of reference alone.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_found_by_position",
        "The series was found by patient, study and position alone.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_resampled",
        "The mask was resampled to the image's grid, nearest voxel, as set.",
        "Look at the mask on the image once.",
    ),
    (
        "mask_cropped",
        "The mask was cut at the image's border, as set.",
        "Deliver the whole image if the structure was cut.",
    ),
    (
        "mask_corrected_with_image",
        "The mask was resampled as its image was corrected, nearest voxel.",
        "Nothing need be done.",
    ),
    (
        "mask_frames_repeated",
        "Frames of one segment lie at one place and were joined.",
        "Nothing need be done.",
    ),
    ("segment_empty", "A segment has no voxel.", "Draw the segment again if it is needed."),
    (
        "rois_left_out",
        "Some structures were left out; segments.json tells why.",
        "Look into segments.json whether one of them is needed.",
    ),
    (
        "contours_left_out",
        "Points, open lines or broken contours enclose nothing and were left out.",
        "Look at the mask once; draw the broken contours again if they matter.",
    ),
    (
        "contours_repeated",
        "A contour stands twice in the same place; it counts once.",
        "Nothing need be done.",
    ),
    (
        "contours_moved_to_nearest_slice",
        "Contours between slices were taken to the nearest slice.",
        "Look at the mask on the image once.",
    ),
    (
        "contour_planes_merged",
        "Of several contour planes at one slice, the closest one counts.",
        "Look at the mask on the image once.",
    ),
    # What it holds, found while auditing
    ("unreadable_mask_pixels", "The pixels of the SEG cannot be decoded.", EXPORT_AGAIN),
    ("mask_empty", "No segment holds a voxel, no structure a contour.", "Deliver the finished mask."),
    (
        "no_tumour_segment",
        "No segment of the mask is the tumour by label, type or code.",
        "Name the segment, or add its name to audit.tumour.ranks.",
    ),
    (
        "tumour_segment_ambiguous",
        "Several segments could be the tumour, and no rank decides between them.",
        "Name the primary tumour's segment, or order the names in audit.tumour.ranks.",
    ),
    ("tumour_segment_empty", "The tumour's segment holds no voxel.", "Deliver the finished mask."),
    (
        "only_segment_taken_for_tumour",
        "The only segment was taken for the tumour; neither name nor code says so.",
        "Name or code the segment as tumour, or look at it once.",
    ),
)
