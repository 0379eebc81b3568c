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
        "label_map_background_unknown",
        "A LABELMAP describes a segment 0 and no Pixel Padding Value (0028,0120) tells the background.",
        EXPORT_AGAIN,
    ),
    (
        "fractional_maximum_missing",
        "A FRACTIONAL SEG has no Maximum Fractional Value (0062,000E): its values have no scale.",
        EXPORT_AGAIN,
    ),
    (
        "mask_frames_incomplete",
        "Frames of the mask and their descriptions differ in number, or a frame names no segment.",
        EXPORT_AGAIN,
    ),
    (
        "mask_position_missing",
        "A frame of the mask has no position (and names no single slice instead), orientation or spacing.",
        EXPORT_AGAIN,
    ),
    (
        "roi_without_contours",
        "A structure has no closed planar contour.",
        "Draw the structure again if it is needed.",
    ),
    (
        "contours_damaged",
        "The numbers of a contour cannot be read, or are fewer than NumberOfContourPoints (3006,0046) states.",
        EXPORT_AGAIN,
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
        "Mask (or ROI) and image name different frames of reference, and not each frame or contour lies on a "
        "slice that it names; as a warning: each does, so its place is proven all the same.",
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
        "Points, open lines and contours of fewer than three points enclose nothing and were left out.",
        "Look at the mask once if they matter.",
    ),
    (
        "contours_repeated",
        "A contour stands twice in the same place, nowhere half a pixel apart; it counts once.",
        "Nothing need be done.",
    ),
    (
        "contours_overlap",
        "Contours of one structure overlap in part; they were joined.",
        "Look at the mask on the image once, whether one of them was meant as a hole.",
    ),
    (
        "contours_skip_slices",
        "A structure is drawn on several slices, of which no two are neighbours; the slices between stay empty.",
        "Interpolate the structure where it was drawn, and export it again, if it is meant to be continuous.",
    ),
    (
        "contour_crosses_itself",
        "A contour crosses itself: it goes around some pixels twice, or around some the other way than around others.",
        "Look at the mask on the image once; pixels with an odd number of turns around them are inside.",
    ),
    (
        "contours_without_pixels",
        "A contour is so small that it holds no pixel's centre; nothing was painted for it.",
        "Look at the mask on the image once if small parts matter.",
    ),
    (
        "contour_items_joined",
        "Several items of ROIContourSequence (3006,0039) name one structure; their contours were joined.",
        "Look at the mask on the image once.",
    ),
    (
        "contours_without_roi",
        "Contours name a structure number that is not described; they were left out.",
        "Look at the mask once; ask for a new export if a structure is missing.",
    ),
    (
        "contour_numbers_repaired",
        "Contour Data was read in spite of decimal commas or a backslash at its end.",
        "Look at the mask on the image once.",
    ),
    (
        "segments_renumbered",
        "A segment or ROI number (0, negative or above 65,535) cannot be a label value; segments.json tells the "
        "value that stands for it.",
        "Take label values from segments.json.",
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
    ("mask_empty", "No segment or structure holds a voxel.", "Deliver the finished mask."),
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
