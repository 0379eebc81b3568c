"""The SOP classes that the platform tells apart, by name (PS3.4 B.5), and the kinds of series."""

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


class Kind(StrEnum):
    """What a series is for this platform."""

    CT = "ct"
    LOCALIZER = "localizer"
    SEG = "seg"
    RTSTRUCT = "rtstruct"
    OTHER = "other"
