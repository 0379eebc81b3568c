"""Reason codes of nodule annotations and findings: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    ("lidc_no_xml", "The file is no XML.", "Take it out of the folder."),
    ("lidc_broken_xml", "The XML is broken or truncated.", "Fetch the file again."),
    (
        "lidc_forbidden_xml",
        "The XML has a document type or entities, which no read message has; it was not expanded.",
        "Find out where the file comes from.",
    ),
    ("lidc_too_large", "The file is larger than 64 MiB.", "Find out where the file comes from."),
    ("lidc_other_message", "The XML is no read message of LIDC-IDRI.", "Take it out of the folder."),
    ("lidc_radiograph", "The message is about a radiograph.", "Nothing; only CT is read."),
    (
        "lidc_no_series",
        "The header of the message names no SeriesInstanceUID.",
        "Fetch the file again.",
    ),
    (
        "lidc_images_missing",
        "No image of the message's series is among the images, so nothing in it has a position.",
        "Add the series to the folder of images.",
    ),
    ("lidc_exact_copy", "Another file has the same bytes.", "Nothing; it counts once."),
    (
        "lidc_sessions_repeated",
        "All reading sessions of the file are in another file of the series too; they count once.",
        "Nothing.",
    ),
    (
        "lidc_sessions_joined",
        "Several files hold different reading sessions of one series; they were joined.",
        "Check that no reader is in two of them.",
    ),
    (
        "lidc_readings_conflict",
        "Several files of one series agree in part only, or hold more than four sessions together.",
        "Leave the valid file of the series in the folder.",
    ),
    (
        "lidc_no_sessions",
        "The message has no reading session.",
        "Fetch the file again.",
    ),
    (
        "image_not_in_series",
        "A mark names an image that is not in the series; what was drawn on it is left out.",
        "Add the image, or find out which series the file belongs to.",
    ),
    (
        "image_geometry_unknown",
        "The header of a marked image does not tell where its pixels lie.",
        "Export the series again.",
    ),
    (
        "outline_unreadable",
        "An outline has no points, a point that is no pixel, or an unknown inclusion; it is left out.",
        "Fetch the file again.",
    ),
    (
        "outline_outside_image",
        "An outline leaves its image; it is left out.",
        "Find out which series the file belongs to.",
    ),
    (
        "outline_without_interior",
        "The outlines of a nodule enclose no pixel: by the rules of LIDC its points lie outside the nodule.",
        "Nothing; its centre is the mean of its points, and a hole alone has none.",
    ),
    (
        "outline_skips_slices",
        "The outlines of a nodule leave out slices between two others; nothing was filled in.",
        "Nothing, where the reader meant it.",
    ),
    (
        "slice_position_differs",
        "The message puts an image at another z than the image's own header, which is used.",
        "Nothing; the image is known by its UID.",
    ),
    (
        "small_nodule_rated",
        "A mark of one point, so of a nodule under 3 mm, has ratings.",
        "Nothing.",
    ),
    (
        "more_marks_than_readers",
        "A reader marked several places that other marks join into one nodule.",
        "Look at the marks; it may be two nodules.",
    ),
    (
        "rating_out_of_range",
        "A rating, diameter or growth has a value that its scale does not have; it counts as not given.",
        "Correct the value.",
    ),
    (
        "malignancy_not_rated",
        "Malignancy is not rated, so there is no triage score.",
        "Nothing.",
    ),
    (
        "finding_below_confidence",
        "The detector is less sure of the finding than is asked for.",
        "Lower the least confidence.",
    ),
    ("finding_too_small", "The finding is smaller than is asked for.", "Lower the least diameter."),
    ("finding_too_large", "The finding is larger than is asked for.", "Raise the largest diameter."),
    (
        "finding_outside_lungs",
        "The finding does not touch the lungs.",
        "Look at the lung mask where it misses a lung.",
    ),
    (
        "finding_suppressed",
        "A more confident finding is near or overlaps it.",
        "Lower the distance or raise the overlap of suppression.",
    ),
    (
        "finding_beyond_limit",
        "More findings than the limit are more confident.",
        "Raise the limit.",
    ),
    (
        "volume_too_small",
        "The volume has fewer than 32 voxels along an axis.",
        "Deliver the whole series.",
    ),
    (
        "spacing_out_of_range",
        "The distance of voxels is below 0.1 or above 10 mm.",
        "Check PixelSpacing and the positions of the slices.",
    ),
    ("values_not_finite", "The volume holds NaN or infinite values.", "Convert the series again."),
    (
        "hu_range_implausible",
        "The values are not those of a chest in Hounsfield units: no air, no bone, or beyond what CT can store.",
        "Check the rescale; deliver the CT as its scanner made it.",
    ),
    ("empty_slices", "A slice has one value only.", "Export the series again where it was not meant."),
    (
        "values_cut_off",
        "Many voxels share the highest value, above bone: values were cut off.",
        "Export the series without a window.",
    ),
    (
        "luna_row_shifted",
        "The row has more or fewer cells than the header, so that its columns may be shifted.",
        "Correct the row.",
    ),
    (
        "luna_series_no_uid",
        "The series is no DICOM UID: empty, or changed by a spreadsheet.",
        "Take the original file; open it as text.",
    ),
    ("luna_no_number", "A coordinate or diameter is no finite number.", "Correct the row."),
    (
        "luna_diameter_not_positive",
        "The diameter of a finding is 0, or negative outside the list of excluded findings.",
        "Correct the row, or move it to the list of excluded findings.",
    ),
    ("luna_series_not_listed", "The row is about a series that the data set does not have.", "Nothing."),
    ("luna_row_repeated", "An earlier row of the file says the same.", "Nothing; it counts once."),
    ("luna_class_unknown", "The class of a candidate is neither 0 nor 1.", "Correct the row."),
    (
        "luna_candidate_is_finding",
        "The candidate has class 1: it repeats a finding of the annotations.",
        "Nothing; findings come from the annotations.",
    ),
    (
        "luna_candidate_on_finding",
        "A candidate of class 0 lies on a finding or an excluded finding, so it is no certain negative.",
        "Nothing.",
    ),
    ("luna_subset_unknown", "The subset is not 0 to 9.", "Correct the row."),
    (
        "luna_series_in_two_subsets",
        "The series is in two of the given subsets; it would be learned and tested.",
        "Keep it in one.",
    ),
    (
        "nodule_series_not_annotated",
        "No read message is about the series, so nobody knows where its nodules are.",
        "Add its message to the folder of annotations.",
    ),
    (
        "annotation_outside_volume",
        "The annotation lies outside the volume; it is not used.",
        "Find out which series the file belongs to.",
    ),
    (
        "lungs_not_found",
        "No lung was found in the volume, so nothing was looked for.",
        "Check that the scan is a chest CT in Hounsfield units.",
    ),
)
