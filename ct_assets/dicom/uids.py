"""What a UID is (PS3.5 9.1), the SOP classes that the platform tells apart (PS3.4 B.5), and the kinds of series."""

import re
from enum import StrEnum

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

CT_IMAGES = frozenset((CT_IMAGE, ENHANCED_CT_IMAGE, LEGACY_CONVERTED_ENHANCED_CT_IMAGE))
MULTI_FRAME_CT_IMAGES = frozenset((ENHANCED_CT_IMAGE, LEGACY_CONVERTED_ENHANCED_CT_IMAGE))
SEGMENTATIONS = frozenset((SEGMENTATION, LABEL_MAP_SEGMENTATION))


LONGEST_UID = 64
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)


def is_uid(value: str) -> bool:
    """Tell whether `value` is a UID: numbers with dots between them, at most 64 characters (PS3.5 9.1).

    Components with leading zeros break the rule too and are taken all the same: real devices write them, they
    are compared as text, and they are safe as file names.
    """
    return len(value) <= LONGEST_UID and _UID.fullmatch(value) is not None


class Kind(StrEnum):
    """What a series is for this platform."""

    CT = "ct"
    LOCALIZER = "localizer"
    SEG = "seg"
    RTSTRUCT = "rtstruct"
    OTHER = "other"
