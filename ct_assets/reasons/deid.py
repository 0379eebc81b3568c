"""Reason codes of de-identification: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    # Pixels
    (
        "burned_in_text",
        "Text was found in the pixels.",
        "Look at it with `ct-assets quarantine`, and declare the region in burned_in.regions or reject it.",
    ),
    (
        "burned_in_declared",
        "The header says that text is burned into the pixels, and no region is declared for it.",
        "Declare the region in burned_in.regions, or look at it with `ct-assets quarantine`.",
    ),
    (
        "dose_report_image",
        "A page of a dose report or patient protocol, drawn as an image.",
        "It is not needed downstream; reject it with `ct-assets quarantine`.",
    ),
    (
        "encapsulated_document",
        "A document or surface model inside a DICOM object cannot be cleaned.",
        "Reject it, or release it after reading it with `ct-assets quarantine`.",
    ),
    (
        "overlay_in_pixels",
        "An overlay lies in unused bits of the pixels, where removing overlays does not reach it.",
        "Have it exported without the overlay.",
    ),
    (
        "pixels_unreadable",
        "The pixels cannot be decoded, so nobody can say whether text is in them.",
        "Have it exported again, uncompressed if need be.",
    ),
    (
        "pixel_stream_damaged",
        "The pixel data are not built as their transfer syntax and header say, so the image cannot be told from "
        "other bytes in them.",
        "Have it exported again, uncompressed if need be.",
    ),
    (
        "pixel_stream_unparsed",
        "The pixel data are in a form whose codestream is not parsed (video, JPEG XL, private transfer syntaxes, "
        "packet headers of JPEG 2000 set apart), so other bytes may stand beside the image.",
        "Have it exported in another transfer syntax, uncompressed if need be.",
    ),
    (
        "bulk_data_damaged",
        "A palette, lookup table or waveform does not say where its values end, so they cannot be told from other "
        "bytes in it.",
        "Have it exported again, with the descriptor of the table or the number of samples.",
    ),
    (
        "unused_bits",
        "Pixel words hold something in bits above or below the stored ones, where no display shows it.",
        "Have BitsStored corrected at the source where it is wrong, or have the image exported without it.",
    ),
    (
        "released_by_review",
        "Held at first; a person looked at it and released it.",
        "Who, when and why stands in quarantine_review.jsonl beside the audit.",
    ),
    (
        "rejected_by_review",
        "A person looked at it and rejected it.",
        "Who, when and why stands in quarantine_review.jsonl beside the audit.",
    ),
    (
        "recognizable_face",
        "A face may be recognisable in the images; they are not defaced.",
        "Share them under terms that forbid identification, or deface them first.",
    ),
    # Files
    ("empty_file", "The file has no bytes.", "Have it sent again if it should have been an image."),
    ("not_dicom", "The file is no DICOM.", "Nothing to do, unless an image was expected under this name."),
    (
        "archive",
        "The file is an archive or a compressed file (zip, gzip, tar, 7z and the like), not a DICOM file itself.",
        "Unpack it, and deliver the folder with the files that were in it.",
    ),
    (
        "damaged_deflate",
        "The data set is said to be deflated and cannot be inflated.",
        "Have it exported again, in Explicit VR Little Endian.",
    ),
    (
        "stray_bytes",
        "Bytes that are no DICOM element stand where one has to be; nothing is missing before them.",
        "Have it exported again, or have what was appended to the file taken off.",
    ),
    (
        "nested_too_deep",
        "Sequences are nested deeper than is kept (64 levels).",
        "Have it exported again by another system; no IOD of the Standard needs such depth.",
    ),
    ("truncated", "The file ends before its headers say it should.", "Have it exported again."),
    ("unreadable_dicom", "The file looks like DICOM and cannot be parsed.", "Have it exported again."),
    ("unreadable_file", "The file or folder cannot be opened.", "Check its permissions and the medium."),
    ("symbolic_link", "A symbolic link is not followed out of the batch.", "Deliver the file itself."),
    ("not_a_file", "A pipe, socket or device lies among the files.", "Take it out of the delivery."),
    ("dicomdir", "The directory of a medium, no image; it names patients.", "Nothing to do."),
    (
        "exact_duplicate",
        "The same bytes under the same SOPInstanceUID are in the batch already.",
        "Nothing to do: one of them is used.",
    ),
    (
        "equal_instance",
        "The same instance is in the batch already in another encoding: equal data set and pixels, other file meta "
        "information, preamble or transfer syntax.",
        "Nothing to do: one of them is used.",
    ),
    # Identity
    (
        "conflicting_duplicate",
        "Two different objects of the batch have one SOPInstanceUID, so neither is used.",
        "Ask the sender which is right and have that one sent again.",
    ),
    (
        "missing_patient_id",
        "There is no PatientID, so nobody can say whose object it is.",
        "Have it exported with a PatientID.",
    ),
    ("missing_sop_class_uid", "There is no SOPClassUID.", "Have it exported again by another system."),
    ("missing_sop_instance_uid", "There is no SOPInstanceUID.", "Have it exported again by another system."),
    ("missing_series_instance_uid", "There is no SeriesInstanceUID.", "Have it exported again."),
    ("missing_study_instance_uid", "There is no StudyInstanceUID.", "Have it exported again."),
    (
        "own_output",
        "The object, its series or its study was made by this project's de-identification under this key; "
        "its dates would be shifted a second time.",
        "Take it out of the delivery; use the released object.",
    ),
    (
        "withdrawn",
        "The person has withdrawn consent; nothing of theirs is taken in.",
        "Tell the sender. There is no way to take the object in under this key.",
    ),
    (
        "several_people_one_id",
        "Objects of one PatientID name different people (names without a common word, different birth dates).",
        "Ask the sender for the right PatientID of each and have them sent again.",
    ),
    (
        "several_people_in_study",
        "One study holds objects of different people (numbers, names and birth dates differ).",
        "Ask the sender whose study it is and have it sent again.",
    ),
    (
        "several_issuers_in_study",
        "One study holds objects of one PatientID under different issuers, so it would be released as several patients'.",
        "Have IssuerOfPatientID put right in the archive and the study sent again.",
    ),
    (
        "placeholder_patient_id",
        "The PatientID is a placeholder such as ANONYMIZED or 000000: others may go by it too.",
        "Released; check that the batch has one patient of this number, or have it sent with a number of its own.",
    ),
    (
        "id_under_several_issuers",
        "One PatientID with the same name or birth date comes under several issuers; they are released as different "
        "patients.",
        "If they are one person, have IssuerOfPatientID put right in the archive and the objects sent again.",
    ),
    (
        "ids_differ_in_study",
        "One study holds objects of one person under several PatientIDs; they are released as different patients.",
        "Have the PatientID put right in the archive and the study sent again.",
    ),
    (
        "repeated_element",
        "An element that identifies occurs twice in one data set, where it may occur once (PS3.5 7.1): nobody can say "
        "which value holds.",
        "Have it exported again by another system.",
    ),
    # Objects
    (
        "identifier_found",
        "After de-identification the leak scan still found a known identifier in the object.",
        "leak_scan.json beside the audit names element path and rule; add a site rule for the element.",
    ),
    (
        "structured_report",
        "A structured report may hold free text in any of its items.",
        "Switch on clean_structured_content, or release it after reading it with `ct-assets quarantine`.",
    ),
    (
        "unknown_sop_class",
        "The Standard's tables do not know this SOP class, so nobody can say what its attributes mean.",
        "Set unknown_sop_classes: release, or release it after looking at it with `ct-assets quarantine`.",
    ),
    (
        "retired_sop_class",
        "The SOP class is retired (PS3.6 Annex A): today's tables do not say what its attributes mean.",
        "Have it converted to the class that took its place, set unknown_sop_classes: release, or release it after "
        "looking at it with `ct-assets quarantine`.",
    ),
    (
        "not_processable",
        "The object could not be carried through de-identification.",
        "Have it exported again by another system.",
    ),
)
