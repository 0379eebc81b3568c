"""What the header alone says about text in the pixels: the first tier.

Belongs here: rules over SOP class, modality, image type and the like, each of which names how the pixels have
to be looked at. Does not: looking at them (`glyphs`, `ocr`), the verdict (`burned_in`).
"""

import re
from enum import StrEnum

from pydicom.dataset import Dataset

from ct_assets.deid.pixels import frames

_SOP = "1.2.840.10008.5.1.4.1.1."
CROSS_SECTIONAL = frozenset(
    _SOP + tail
    for tail in (
        "2",  # CT
        "2.1",  # Enhanced CT
        "2.2",  # Legacy Converted Enhanced CT
        "4",  # MR
        "4.1",  # Enhanced MR
        "4.4",  # Legacy Converted Enhanced MR
        "128",  # PET
        "130",  # Enhanced PET
        "128.1",  # Legacy Converted Enhanced PET
        "481.2",  # RT Dose
    )
)
"""Slices as a scanner reconstructs them: no text unless somebody drew it, so a cheap test serves."""
NO_PICTURE = frozenset(
    _SOP + tail
    for tail in (
        "66.4",  # Segmentation
        "66.7",  # Label Map Segmentation
        "30",  # Parametric Map
        "66.3",  # Deformable Spatial Registration
    )
)
"""Pixels that are labels or measured values computed on another image's grid, not a picture of anyone."""
DOCUMENT_PREFIX = _SOP + "104."
"""Encapsulated PDF, CDA, STL, OBJ and MTL."""
SECONDARY_CAPTURE = frozenset({_SOP + "7", *(f"{_SOP}7.{kind}" for kind in (1, 2, 3, 4))})
CROSS_SECTIONAL_MODALITIES = frozenset({"CT", "MR", "PT"})
MADE_UP_IMAGE_TYPES = ("LOCALIZER", "SCOUT", "TOPOGRAM", "SCREEN SAVE", "SCREENSAVE", "REPORT", "POSDISP")
"""Values of ImageType that stand for scouts and for pages drawn by the scanner."""

_DOSE_WORDS = re.compile(
    r"DOSE (REPORT|INFO|SUMMARY|PAGE|RECORD|SR)|PATIENT PROTOCOL|DOSE_INFO|EXAM PROTOCOL"
)
_HEAD_WORDS = re.compile(
    r"\b(HEAD|BRAIN|SKULL|FACE|FACIAL|MAXILL\w*|ORBITS?|SINUS(ES)?|CEREBR\w*|CRANI\w*|NECK|"
    r"KOPF|SCHAEDEL|SCH\wDEL|HALS|NNH|HIRN|NCCT|CTBRAIN|TETE|CRANE|CABEZA)\b"
)


class Look(StrEnum):
    """How the pixels of an instance have to be looked at."""

    NONE = "none"
    """There are no pixels, or they are no picture."""
    CHEAP = "cheap"
    """A slice as reconstructed: a cheap test, a reader only where it finds something."""
    READ = "read"
    """Text is likely enough for a reader on every frame."""


def how_to_look(dataset: Dataset) -> Look:
    """Return how the pixels of `dataset` have to be looked at.

    Every kind of object that no rule knows is read: only what is known to be a plain slice is spared.
    """
    if not frames.has_pixels(dataset):
        return Look.NONE
    sop_class = sop_class_uid(dataset)
    if sop_class in NO_PICTURE:
        return Look.NONE
    nameless_slice = not sop_class and frames.text(dataset, 0x00080060) in CROSS_SECTIONAL_MODALITIES
    if sop_class not in CROSS_SECTIONAL and not nameless_slice:
        return Look.READ
    image_type = frames.texts(dataset, 0x00080008)
    drawn = any(mark in part for part in image_type for mark in MADE_UP_IMAGE_TYPES)
    secondary = len(image_type) > 1 and image_type[1] == "SECONDARY"
    colour = frames.number(dataset, 0x00280002, 1) != 1
    shallow = frames.number(dataset, 0x00280100, 16) == 8
    captured = bool(frames.text(dataset, 0x00080064))
    if drawn or secondary or colour or shallow or captured:
        return Look.READ
    return Look.CHEAP


def sop_class_uid(dataset: Dataset) -> str:
    """Return the SOP class, from the file meta information where the dataset has none."""
    named = frames.value(dataset, 0x00080016)
    if not named:
        named = getattr(getattr(dataset, "file_meta", None), "MediaStorageSOPClassUID", "")
    return str(named or "")


def is_document(dataset: Dataset) -> bool:
    """Whether the instance encapsulates a document or a surface model that cannot be cleaned."""
    return sop_class_uid(dataset).startswith(DOCUMENT_PREFIX) or 0x00420011 in dataset


def is_dose_page(dataset: Dataset) -> bool:
    """Whether the instance is a page of a dose report or of the patient protocol, drawn as an image."""
    if not frames.has_pixels(dataset):
        return False
    image_type = frames.texts(dataset, 0x00080008)
    if any("DOSE" in part for part in image_type[2:]) and sop_class_uid(dataset) != f"{_SOP}481.2":
        return True
    described = " ".join(frames.text(dataset, tag) for tag in (0x0008103E, 0x00081030, 0x00181030))
    return sop_class_uid(dataset) in SECONDARY_CAPTURE | CROSS_SECTIONAL and bool(
        _DOSE_WORDS.search(described)
    )


def declares_text(dataset: Dataset) -> bool:
    """Whether BurnedInAnnotation (0028,0301) says that text is in the pixels."""
    return frames.text(dataset, 0x00280301) in ("YES", "Y")


def shows_a_label(dataset: Dataset) -> bool:
    """Whether the header says that a slide's label is in the image: by SpecimenLabelInImage (0048,0010), or by an
    ImageType of LABEL or OVERVIEW that it does not deny (PS3.3 C.8.12.4.1.1 and C.8.12.4.1.4)."""
    stated = frames.text(dataset, 0x00480010)
    if stated == "YES":
        return True
    of_a_slide = frames.texts(dataset, 0x00080008)[2:3]
    return (stated != "NO" and of_a_slide in (("LABEL",), ("OVERVIEW",))) or of_a_slide == ("LABEL",)


def has_overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether an overlay lies in unused bits of the pixels (retired; PS3.3 2004, C.9.2): those bits stay."""
    for tag in dataset._dict:
        if 0x6000 <= tag.group <= 0x601E and tag.element == 0x0102:
            bit = frames.number(dataset, tag)
            if bit > 0 and (tag.group << 16 | 0x3000) not in dataset:
                return True
    return False


def may_show_a_face(dataset: Dataset) -> bool:
    """Whether a face can be recognised: slices of the head or neck, photographs, or a header that says so."""
    if not frames.has_pixels(dataset) or sop_class_uid(dataset) in NO_PICTURE:
        return False
    if frames.text(dataset, 0x00280302) == "YES" or frames.text(dataset, 0x00080060) == "XC":
        return True
    if frames.text(dataset, 0x00080060) not in CROSS_SECTIONAL_MODALITIES:
        return False
    where = (0x00180015, 0x00081030, 0x0008103E, 0x00181030)
    return bool(_HEAD_WORDS.search(" ".join(frames.text(dataset, tag) for tag in where).replace("_", " ")))
