"""Settings of the audits: what counts as one series and how a patient's principal series is chosen."""

from typing import Literal

from pydantic import Field

from ct_assets.settings.base import Section

PrincipalPreference = Literal["original", "thinnest", "kernel", "coverage"]


class PrincipalSettings(Section):
    """How a patient's principal CT series is chosen (`audit.principal:`).

    Requirements first (geometry not refused, axial, enough slices); then the preferences in the order given;
    then, so that a choice is always the same, more slices and the smaller SeriesInstanceUID.
    """

    min_slices: int = Field(default=10, ge=2)
    """Fewer slices are no volume of an organ; a series below is no candidate."""
    preferences: tuple[PrincipalPreference, ...] = ("original", "thinnest", "kernel", "coverage")
    """What decides between candidates, the first that differs wins."""
    kernels: tuple[str, ...] = ()
    """ConvolutionKernel values, liked best first (compared without case, as a prefix); others come last."""
    thickness_step_mm: float = Field(default=0.25, gt=0)
    """Slice spacings that differ by less count as equally thin."""


class TumourSettings(Section):
    """Which segment of a mask object is the tumour (`audit.tumour:`).

    A segment matches a rank by its code or by its label; the best rank that occurs wins, and two segments of
    that rank are ambiguous: nobody guesses.
    """

    ranks: tuple[tuple[str, ...], ...] = (
        ("gtvp", "gtv p", "gtv t", "gtvt", "gtv 1", "gtv1", "gtv primary", "primary tumor", "primary tumour"),
        ("gtv", "gross tumor volume", "gross tumour volume", "gross target volume"),
        (
            "tumor",
            "tumour",
            "neoplas",
            "lesion",
            "mass",
            "nodule",
            "carcinoma",
            "cancer",
            "malignan",
            "sarcoma",
        ),
        ("ctv", "clinical target volume"),
        ("itv", "internal target volume"),
        ("ptv", "planning target volume"),
    )
    """Words of a label, best rank first; compared without case at the beginning of any of its words, with
    every sign other than letters and digits as a blank. The primary tumour's usual names come before other
    gross tumour volumes, which may be nodes."""
    never: tuple[str, ...] = ("edema", "oedema", "gtvn", "gtv n", "node", "nodal", "lymph", "ring", "minus")
    """Words that keep a label from being the tumour: swelling, lymph nodes, helper structures of planning."""
    codes: tuple[tuple[str, int], ...] = (
        ("SCT:108369006", 2),
        ("SRT:M-80003", 2),
        ("SCT:86049000", 2),
        ("SRT:M-80103", 2),
        ("SCT:4147007", 2),
        ("SRT:M-03000", 2),
        ("SCT:52988006", 2),
        ("SRT:M-01100", 2),
        ("SCT:27925004", 2),
        ("SRT:M-03010", 2),
        ("NCIt:C3262", 2),
    )
    """`scheme:value` of the segmented property type and the rank it stands for, counted from 0: neoplasm,
    primary malignant neoplasm, mass, lesion, nodule (PS3.16 CID 7159)."""
    single_segment_is_tumour: bool = True
    """The only segment of a mask object is taken for the tumour, with a warning, where neither name nor code
    says what it is; never where its category is anatomy."""


class AuditSettings(Section):
    """Series grouping, geometry tolerances and the choice of the principal series (`audit:`)."""

    position_tolerance_mm: float = Field(default=0.15, gt=0, le=1)
    """How far, in any coordinate, any corner of any slice may lie from the regular grid. Coordinates rounded
    to 0.1 mm err by 0.05 mm each, so against a grid through the rounded first and last slice they reach
    0.1 mm, and 0.13 mm where the slices are oblique; a table that really moved unevenly errs by more."""
    oblique_tolerance_deg: float = Field(default=10.0, ge=0, le=45)
    """Angle between the image's axes and the patient's nearest axes up to which a series is not oblique: a head
    or a body may lie askew by a few degrees, a reformat along an organ is something else."""
    max_position_mm: float = Field(default=5000.0, gt=0)
    """A coordinate beyond cannot lie on a CT table (a table travels about 2 m)."""
    localizer_inside: Literal["leave_out", "refuse"] = "leave_out"
    """A localizer among the slices of a series: left out by name, or the series refused."""
    several_frames_of_reference: Literal["join", "refuse"] = "join"
    """Several FrameOfReferenceUIDs in one gapless, even volume: one volume with a warning, or refused."""
    min_slices_of_a_part: int = Field(default=3, ge=2)
    """A series is split by an attribute only where each part has as many slices and is a volume by itself."""
    tilt: Literal["refuse", "correct"] = "refuse"
    """A gantry tilt: refused, or corrected by resampling the shear away."""
    exact_duplicates: Literal["refuse", "correct"] = "refuse"
    """Two slices at one position with equal pixels: refused, or one of them dropped."""
    uneven_spacing: Literal["refuse", "correct"] = "refuse"
    """Slice steps that differ: refused, or resampled to even steps."""
    missing_slices: Literal["refuse", "correct"] = "refuse"
    """A gap of whole slices: refused, or filled by interpolation (never advisable where tumours count)."""
    oblique: Literal["refuse", "convert"] = "refuse"
    """Whether a series beyond the oblique tolerance may stand for its patient. It is converted on its oblique grid in
    any case, with a warning."""
    unproven_unit: Literal["refuse", "convert"] = "refuse"
    """Likewise for a series whose headers do not prove Hounsfield units (RescaleType US, maps of a dual-energy CT)."""
    mask_position_tolerance_mm: float = Field(default=0.1, gt=0, le=5)
    """How far a mask frame's pixel centres may lie from the CT's for the grids to count as one."""
    principal: PrincipalSettings = PrincipalSettings()
    tumour: TumourSettings = TumourSettings()
