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
        "recognizable_face",
        "A face may be recognisable in the images; they are not defaced.",
        "Share them under terms that forbid identification, or deface them first.",
    ),
)
