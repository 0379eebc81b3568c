"""Reason codes of labels, eligibility, cohort: (code, meaning, what the user can do)."""

CORRECT_TABLE = "Correct the clinic's table; the next run reads it."
EXPORT_SEG = "Export the right SEG, or correct it at the source, and deliver it."

REASONS: tuple[tuple[str, str, str], ...] = (
    # Rows of the clinic's table
    ("blank_row", "The row is empty.", "Nothing need be done."),
    ("row_malformed", "The row has more or fewer cells than the header.", CORRECT_TABLE),
    ("label_without_patient_id", "The row has no patient ID.", CORRECT_TABLE),
    ("repeated_row", "An earlier row says the same of the same patient.", "Nothing need be done."),
    (
        "label_without_images",
        "The patient of the row is in no batch.",
        "Nothing, if the images are yet to come; else correct the ID in the table.",
    ),
    (
        "label_id_shared",
        "Two issuers use the row's patient ID, and the table does not tell which patient is meant.",
        "Give the two patients different IDs in the table's source, and deliver table and images again.",
    ),
    ("stage_missing", "The stage is not told.", CORRECT_TABLE),
    (
        "stage_unknown",
        "The stage is none of the declared spellings.",
        "Correct it, or declare it in labels.spellings.",
    ),
    ("stage_contradictory", "Rows of one patient give different stages.", CORRECT_TABLE),
    ("age_unreadable", "The age is no number of years.", CORRECT_TABLE),
    (
        "sex_unknown",
        "The sex is none of the declared spellings.",
        "Correct it, or declare it in labels.sexes.",
    ),
    (
        "value_undeclared",
        "A kept column holds a value that is not declared.",
        "Correct it, or declare it in labels.keep.",
    ),
    (
        "value_contradictory",
        "Rows of one patient give different values in a kept column: none is kept.",
        CORRECT_TABLE,
    ),
    # Eligibility
    ("no_label", "The clinic's table has no row for the patient.", "Add a row to the clinic's table."),
    ("no_ct", "No CT volume of the patient was delivered and released.", "Deliver the CT."),
    (
        "no_principal_series",
        "No CT series of the patient can serve: the codes after this one say why.",
        "See `ct_prepro_audit.json`.",
    ),
    ("no_seg", "No DICOM SEG of the patient was delivered and released.", "Deliver the SEG."),
    ("several_segs", "There are several SEG objects, and none is said to hold.", EXPORT_SEG),
    ("seg_references_other_series", "The SEG points to another series than the principal CT.", EXPORT_SEG),
    (
        "ct_geometry_refused",
        "The geometry of the CT is refused: the codes after this one say why.",
        "See the series in `ct_prepro_audit.json`.",
    ),
    (
        "slices_too_thick",
        "The slices are thicker, or further apart, than the settings allow.",
        "See the limits in configs/eligibility.sql.",
    ),
    ("seg_misfit", "The SEG does not lie on the CT's grid: the codes after this one say why.", EXPORT_SEG),
    (
        "tumour_missing",
        "No one segment of the SEG is the tumour and holds voxels; codes after this say why.",
        EXPORT_SEG,
    ),
    ("seg_unusable", "The SEG cannot serve: the codes after this one say why.", EXPORT_SEG),
)
