"""Series: the instances that belong together in space and acquisition, and whether they become a volume.

Belongs here: the value objects `Series`, `Instance`, `LeftOut`, and `group`, which makes them of the header
index. Does not: the measuring (`dicom.geometry`), the partition of one UID (`dicom.splitting`), the reading
of slices from the index (`dicom.slices`), pixels, masks and principal series (`cohort.ct_prepro_audit`).
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import polars as pl

from ct_assets.dicom import concatenations, splitting, units
from ct_assets.dicom import slices as slices_of_index
from ct_assets.dicom.geometry import Gap, Measured, SeriesGeometry, Vector3
from ct_assets.dicom.splitting import Part, Slice
from ct_assets.dicom.uids import (
    CT_IMAGES,
    MULTI_FRAME_CT_IMAGES,
    RT_STRUCTURE_SET,
    SEGMENTATIONS,
    Kind,
    is_uid,
)
from ct_assets.files import digest_of
from ct_assets.settings.audit import AuditSettings

__all__ = ["Decision", "Gap", "Instance", "Kind", "LeftOut", "Series", "SeriesGeometry", "group"]

Decision = Literal["convert", "correct", "refuse"]
Row = dict[str, Any]

LOCALIZER_WORDS = ("LOCALIZER", "SCOUT", "TOPOGRAM")
"""ImageType value 3 of a CT localizer is LOCALIZER (PS3.3 C.8.2.1.1.1); old devices write the others."""
ROUNDED_MM = 0.01
"""A corner that misses the grid by more is told, even where the tolerance admits it."""
THICKNESS_TOLERANCE_MM = 0.05
TILT_TAG_TOLERANCE_DEG = 0.5
FILE_NAMES = ("series_instance_uid", "sop_instance_uid")
"""UIDs that become names of files."""
COMPARED_UIDS = ("study_instance_uid", "frame_of_reference_uid")
"""UIDs that are only compared."""
_SERIES_ID = re.compile(r"(?:[0-9]+(?:\.[0-9]+)*|(?:no|bad)-uid-[0-9a-f]{16})(?:_[0-9]+)?")
OWNER = ("patient_id", "study_instance_uid")
NEEDED_COLUMNS = (
    *slices_of_index.COLUMNS,
    *OWNER,
    "series_instance_uid",
    "content_sha256",
    "modality",
    "problems",
    "samples_per_pixel",
    "photometric_interpretation",
    "has_pixel_data",
    "lossy_image_compression",
    "multienergy_ct_acquisition",
    *concatenations.COLUMNS,
    "spacing_between_slices_mm",
    "gantry_detector_tilt_deg",
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One slice: an instance, or one frame of a multi-frame instance; elsewhere, any instance."""

    path: str
    """Relative to the root of the index, with forward slashes."""
    sop_instance_uid: str | None
    position_lps_mm: Vector3 | None = None
    """Centre of the first pixel; None where the header does not tell."""
    frame: int | None = None
    """Index of the frame, counted from 0; None for a single-frame instance."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance (or frame) that shares the series' UID and is no slice of the volume."""

    path: str
    sop_instance_uid: str | None
    reason: str
    frame: int | None = None


@dataclass(frozen=True)
class Series:
    """Instances that belong together, and what is to become of them."""

    series_id: str
    """The SeriesInstanceUID; `_2`, `_3` ... where one UID holds several volumes; `no-uid-...` without one,
    `bad-uid-...` for a value that is no UID. Always a name that may stand in paths."""
    series_instance_uid: str | None
    study_instance_uid: str | None
    patient_id: str | None
    kind: Kind
    instances: tuple[Instance, ...]
    """By position along the normal, or by path where there is no geometry."""
    left_out: tuple[LeftOut, ...]
    geometry: SeriesGeometry | None
    decision: Decision
    """'convert' as it is, 'correct' as the reasons say (a setting allows it), or 'refuse'."""
    reasons: tuple[str, ...]
    """Codes of `ct_assets.reasons.series`: why it is refused, or what is corrected."""
    warnings: tuple[str, ...]
    frame_of_reference_uids: tuple[str, ...] = ()
    split_by: tuple[str, ...] = ()
    """The attributes that part it from other volumes under its UID."""


def group(index: pl.DataFrame, settings: AuditSettings) -> list[Series]:
    """Return the series of a header index, sorted by `series_id`; the order of its rows changes nothing.

    The index is one of `dicom.index.scan`; where several are joined, pass them through
    `dicom.index.with_content_digests` first, or instances that occur twice count as contradicting.
    """
    members = index.filter(pl.col("is_dicom")).select(NEEDED_COLUMNS).sort("path")
    twice = _delivered_twice(members)
    members = members.with_columns(_group_uid(members)).sort("group_uid", *OWNER, "path", nulls_last=False)
    owners = members.select("group_uid", *OWNER).unique()
    shared = dict(owners.group_by("group_uid").agg(pl.col("patient_id").n_unique()).iter_rows())
    several_studies = dict(owners.group_by("group_uid").len().iter_rows())
    shared_values = _shared_values(members)
    members = members.drop(list(shared_values))
    names = members.columns
    found: list[Series] = []
    start = 0
    # One series' rows are Python objects at a time: memory follows a series, not the cohort.
    for length in (
        members.select(pl.struct("group_uid", *OWNER).rle_id()).to_series().rle().struct.field("len")
    ):
        rows = []
        for values in members[start : start + length].rows():
            row = shared_values.copy()
            row.update(zip(names, values, strict=True))
            rows.append(row)
        start += length
        uid = rows[0]["group_uid"]
        fatal: tuple[str, ...] = ()
        if shared[uid] > 1:
            fatal = ("series_uid_of_two_patients",)
        elif several_studies[uid] > 1:
            fatal = ("series_uid_of_two_studies",)
        try:
            found += _series_of_uid(uid, rows, twice, fatal, settings)
        except Exception:  # whatever one series' headers do to the measuring, all others go on
            if os.environ.get("CT_ASSETS_DEBUG"):
                raise
            found.append(_refused(uid, rows, kind_of(rows[0]), (*fatal, "unexpected_failure"), []))
    return _numbered(found)


def _group_uid(members: pl.DataFrame) -> pl.Series:
    """Return names by SeriesInstanceUID, and for instances without one a name of patient, study and modality."""
    identity = ("series_instance_uid", "patient_id", "study_instance_uid", "modality")
    several = members.select(identity).unique()
    names = [
        series_name(uid) or f"no-uid-{digest_of([patient, study, modality])[:16]}"
        for uid, patient, study, modality in several.iter_rows()
    ]
    named = several.with_columns(pl.Series("group_uid", names, dtype=pl.String))
    joined = members.select(identity).join(
        named, on=identity, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["group_uid"]


def _shared_values(members: pl.DataFrame) -> Row:
    """Return the columns that say one thing of all instances: they are not carried through rows one by one.

    Such are columns without a value (those of frames), and single ones that all share, as modality often is.
    """
    own_columns = (*OWNER, "group_uid")
    shared: Row = {}
    for column in members:
        if column.name in own_columns:
            continue
        if column.null_count() == len(column):
            shared[column.name] = None
        elif not column.dtype.is_nested() and column.n_unique() == 1:
            shared[column.name] = column[0]
    return shared


def series_name(uid: str | None) -> str | None:
    """Return a SeriesInstanceUID as a name for files; `bad-uid-…` for a value that is no UID, None without one."""
    if not uid or is_uid(uid):
        return uid or None
    return f"bad-uid-{digest_of(uid)[:16]}"


def is_series_id(name: str) -> bool:
    """Tell whether a name can be a `Series.series_id`."""
    return _SERIES_ID.fullmatch(name) is not None


def _delivered_twice(members: pl.DataFrame) -> dict[str, str]:
    """Return path to reason for instances whose SOPInstanceUID occurs again.

    Equal ones count once (the first by path); unequal ones contradict each other, and none of them wins. Only a
    mask object that took the UID of an image loses against it: no mask may cost an image.
    """
    repeated = members.filter(
        pl.col("sop_instance_uid").is_not_null() & (pl.len().over("sop_instance_uid") > 1)
    ).select("sop_instance_uid", "path", "content_sha256", _is_mask().alias("is_mask"))
    reasons: dict[str, str] = {}
    for _, several in repeated.group_by("sop_instance_uid", maintain_order=True):
        if 0 < several["is_mask"].sum() < len(several):
            reasons |= dict.fromkeys(several.filter("is_mask")["path"], "contradicting_instances")
            several = several.filter(~pl.col("is_mask"))
            if len(several) == 1:
                continue
        digests, paths = several["content_sha256"].unique(), several["path"].to_list()
        if len(digests) == 1 and digests.null_count() == 0:
            reasons |= dict.fromkeys(paths[1:], "delivered_twice")
        else:
            reasons |= dict.fromkeys(paths, "contradicting_instances")
    return reasons


def _is_mask() -> pl.Expr:
    """Return the expression of `kind_of` that tells mask objects."""
    masks = pl.col("sop_class_uid").is_in([*SEGMENTATIONS, RT_STRUCTURE_SET])
    return masks.fill_null(False) | (
        pl.col("sop_class_uid").is_null() & pl.col("modality").is_in(["SEG", "RTSTRUCT"]).fill_null(False)
    )


def _series_of_uid(
    uid: str, members: list[Row], twice: dict[str, str], shared: tuple[str, ...], settings: AuditSettings
) -> list[Series]:
    kinds = [kind_of(row) for row in members]
    masks = [row for row, kind in zip(members, kinds, strict=True) if kind in (Kind.SEG, Kind.RTSTRUCT)]
    if 0 < len(masks) < len(members):  # mask objects under their image's UID are a series of their own
        images = [
            row for row, kind in zip(members, kinds, strict=True) if kind not in (Kind.SEG, Kind.RTSTRUCT)
        ]
        return _series_of_uid(uid, images, twice, shared, settings) + _series_of_uid(
            uid, masks, twice, shared, settings
        )
    left_out = [
        LeftOut(row["path"], row["sop_instance_uid"], twice[row["path"]])
        for row in members
        if row["path"] in twice
    ]
    by_kind: dict[Kind, list[Row]] = {}
    for row, kind in zip(members, kinds, strict=True):
        if row["path"] not in twice:
            by_kind.setdefault(kind, []).append(row)
    if not by_kind:
        if all(left.reason == "delivered_twice" for left in left_out):
            return []
        reasons = ("contradicting_instances", *shared)
        return [_refused(uid, members, kind_of(members[0]), reasons, left_out)]
    contradicting = any(left.reason == "contradicting_instances" for left in left_out)
    fatal = [*shared, *(["contradicting_instances"] if contradicting else []), *_missing_uids(members)]
    found: list[Series] = []
    if slices := by_kind.pop(Kind.CT, []):
        for kind, others in by_kind.items():
            reason = "localizer" if kind is Kind.LOCALIZER else "not_a_ct_image"
            left_out += [LeftOut(row["path"], row["sop_instance_uid"], reason) for row in others]
        if Kind.LOCALIZER in by_kind and settings.localizer_inside == "refuse":
            fatal.append("localizer_inside")
        found += _volumes(uid, slices, fatal, left_out, settings)
    else:
        for kind, others in sorted(by_kind.items()):
            found.append(_other(uid, others, kind, fatal, left_out))
            left_out = []
    return found


def kind_of(row: Row) -> Kind:
    """Tell what an instance is, by SOP class, modality and image type."""
    return _kind_of(row["sop_class_uid"], row["modality"], tuple(row["image_type"] or ()))


@lru_cache(maxsize=1024)
def _kind_of(sop_class: str | None, modality: str | None, image_type: tuple[str, ...]) -> Kind:
    if sop_class in SEGMENTATIONS or (not sop_class and modality == "SEG"):
        return Kind.SEG
    if sop_class == RT_STRUCTURE_SET or (not sop_class and modality == "RTSTRUCT"):
        return Kind.RTSTRUCT
    if sop_class in CT_IMAGES or (not sop_class and modality == "CT"):
        is_localizer = any(word in value.upper() for value in image_type[2:] for word in LOCALIZER_WORDS)
        return Kind.LOCALIZER if is_localizer else Kind.CT
    return Kind.OTHER


def _missing_uids(rows: list[Row]) -> list[str]:
    names = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid")
    values = {name: {row[name] for row in rows} for name in names}
    missing = [f"missing_{name}" for name in names if not all(values[name])]
    if any(not is_uid(uid or "0") for name in FILE_NAMES for uid in values[name]):
        missing.append("invalid_uid")
    return missing + ([] if all(row["patient_id"] for row in rows) else ["missing_patient_id"])


def _volumes(
    uid: str, rows: list[Row], fatal: list[str], left_out: list[LeftOut], settings: AuditSettings
) -> list[Series]:
    slices, without_place = slices_of_index.slices_of(rows)
    left_out = left_out + [
        LeftOut(one.path, one.sop_instance_uid, "no_place", one.frame) for one in without_place
    ]
    by_path = {row["path"]: row for row in rows}
    parts = splitting.split(slices, settings)
    found = []
    for number, part in enumerate(parts):
        members = [by_path[path] for path in sorted({one.path for one in part.slices})]
        found.append(_volume(uid, part, members, fatal, left_out if number == 0 else [], settings))
    return found


def _volume(
    uid: str, part: Part, rows: list[Row], fatal: list[str], left_out: list[LeftOut], settings: AuditSettings
) -> Series:
    left_out = list(left_out)
    measured, slices = part.measured, list(part.slices)
    faults = [*fatal, *_unfit_images(rows)]
    corrections: list[str] = []
    if "duplicate_positions" in measured.faults and _are_exact(measured, slices):
        if settings.exact_duplicates == "correct":
            dropped = {index for members in measured.duplicates for index in members[1:]}
            left_out += [
                LeftOut(
                    slices[at].path,
                    slices[at].sop_instance_uid,
                    "exact_duplicate_positions",
                    slices[at].frame,
                )
                for at in sorted(dropped)
            ]
            slices = [one for at, one in enumerate(slices) if at not in dropped]
            measured = splitting.measure(slices, settings)
            corrections.append("exact_duplicate_positions")
        else:
            faults.append("exact_duplicate_positions")
    for fault in measured.faults:
        if fault == "duplicate_positions" and "exact_duplicate_positions" in faults:
            continue
        if _may_be_corrected(fault, settings):
            corrections.append(fault)
        elif fault != "oblique_orientation":  # a warning: the grid is regular all the same
            faults.append(fault)
    if units.is_unit_missing(*_units(slices)):
        faults.append("unit_not_stated")
    frames_of_reference = _distinct(rows, "frame_of_reference_uid")
    if len(frames_of_reference) > 1 and settings.several_frames_of_reference == "refuse":
        faults.append("several_frames_of_reference")
    decision: Decision = "refuse" if faults else "correct" if corrections else "convert"
    first = rows[0]
    return Series(
        series_id=uid,
        series_instance_uid=first["series_instance_uid"],
        study_instance_uid=first["study_instance_uid"],
        patient_id=first["patient_id"],
        kind=Kind.CT,
        instances=tuple(
            Instance(
                slices[at].path, slices[at].sop_instance_uid, slices[at].position_lps_mm, slices[at].frame
            )
            for at in measured.order
        ),
        left_out=tuple(sorted(left_out, key=lambda left: (left.path, left.frame or 0))),
        geometry=measured.geometry,
        decision=decision,
        reasons=tuple(dict.fromkeys([*faults, *corrections])),
        warnings=_warnings(slices, rows, measured, left_out, part),
        frame_of_reference_uids=frames_of_reference,
        split_by=part.split_by,
    )


def _units(slices: list[Slice]) -> tuple[list[str | None], list[tuple[str, ...]]]:
    """Return the pairs of RescaleType and ImageType that slices have, each pair once, as two lists."""
    pairs = {(one.attributes["rescale_type"], one.attributes["image_type"]): None for one in slices}
    return [unit for unit, _ in pairs], [image_type for _, image_type in pairs]


def _may_be_corrected(fault: str, settings: AuditSettings) -> bool:
    allowed = {
        "gantry_tilt": settings.tilt,
        "uneven_spacing": settings.uneven_spacing,
        "missing_slices": settings.missing_slices,
    }
    return allowed.get(fault) == "correct"


def _are_exact(measured: Measured, slices: list[Slice]) -> bool:
    """Tell whether all slices at one place have equal pixels and equal headers as far as they count."""
    for members in measured.duplicates:
        contents = {
            (
                slices[at].pixel_sha256,
                slices[at].position,
                slices[at].orientation,
                slices[at].attributes["rescale"],
                slices[at].attributes["transfer_syntax_uid"],
            )
            for at in members
        }
        if len(contents) > 1 or any(slices[at].pixel_sha256 is None for at in members):
            return False
    return True


def _unfit_images(rows: list[Row]) -> list[str]:
    """Return why these images are no CT in Hounsfield units, whatever their geometry."""
    found = []
    if {row["modality"] for row in rows} - {"CT", None}:
        found.append("modality_not_ct")
    if {row["samples_per_pixel"] or 1 for row in rows} - {1} or {
        row["photometric_interpretation"] or "MONOCHROME2" for row in rows
    } - {"MONOCHROME1", "MONOCHROME2"}:
        found.append("not_monochrome")
    if False in {row["has_pixel_data"] for row in rows}:
        found.append("no_pixel_data")
    if any(
        (row["number_of_frames"] or 1) > 1 and row["sop_class_uid"] not in MULTI_FRAME_CT_IMAGES
        for row in rows
    ):
        found.append("multi_frame_ct_image")
    if not concatenations.are_whole(rows):
        found.append("concatenation_incomplete")
    problems = {problem for row in rows for problem in row["problems"]}
    pixel_problems = ("truncated_pixel_data", "pixel_data_length_mismatch", "unreadable_sequences")
    return found + [problem for problem in pixel_problems if problem in problems]


def _warnings(
    slices: list[Slice], rows: list[Row], measured: Measured, left_out: list[LeftOut], part: Part
) -> tuple[str, ...]:
    found = [f"split_by_{attribute}" for attribute in part.split_by]
    several = {
        "frame_of_reference_uid": "several_frames_of_reference",
        "acquisition_number": "several_acquisitions",
        "convolution_kernel": "several_kernels",
        "kvp": "several_kvps",
        "contrast_bolus_agent": "several_contrast_agents",
        "image_type": "several_image_types",
        "rescale": "several_rescales",
        "reconstruction_diameter": "several_reconstruction_diameters",
        "slice_thickness": "several_slice_thicknesses",
    }
    attributes = [one.attributes for one in slices]
    for attribute, code in several.items():
        if len({own[attribute] for own in attributes}) > 1:
            found.append(code)
    reasons = {left.reason for left in left_out}
    found += [
        f"{reason}_left_out" for reason in ("localizer", "not_a_ct_image", "no_place") if reason in reasons
    ]
    if "delivered_twice" in reasons:
        found.append("delivered_twice")
    if any(not is_uid(uid or "0") for name in COMPARED_UIDS for uid in {row[name] for row in rows}):
        found.append("invalid_reference_uid")
    if not any(own["frame_of_reference_uid"] for own in attributes):
        found.append("no_frame_of_reference")
    if any(row["lossy_image_compression"] == "01" for row in rows):
        found.append("lossy_compression")
    found += units.warnings_of(*_units(slices), {row["multienergy_ct_acquisition"] for row in rows})
    if "oblique_orientation" in measured.faults:
        found.append("oblique_orientation")
    if geometry := measured.geometry:
        if geometry.max_corner_error_mm > ROUNDED_MM and not set(measured.faults) - {"oblique_orientation"}:
            found.append("positions_rounded")
        thickness = _usual(rows, "slice_thickness_mm")
        if thickness and geometry.spacing_mm > thickness + THICKNESS_TOLERANCE_MM:
            found.append("spacing_larger_than_thickness")
        stated = _usual(rows, "spacing_between_slices_mm")
        if stated and abs(abs(stated) - geometry.spacing_mm) > THICKNESS_TOLERANCE_MM and geometry.slices > 1:
            found.append("spacing_tag_disagrees")
        tilt = _usual(rows, "gantry_detector_tilt_deg")
        if tilt is not None and abs(abs(tilt) - geometry.tilt_deg) > TILT_TAG_TOLERANCE_DEG:
            found.append("tilt_tag_disagrees")
    return tuple(found)


def _usual(rows: list[Row], column: str) -> float | None:
    """Return the value that most rows have, the least of several; None where none has one."""
    counts = Counter([row[column] for row in rows])
    del counts[None]
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None


def _other(uid: str, rows: list[Row], kind: Kind, fatal: list[str], left_out: list[LeftOut]) -> Series:
    """Return a series that is no volume: a mask object (judged by its own audit), a localizer, anything."""
    reasons = list(fatal)
    if kind is Kind.LOCALIZER:
        reasons.append("localizer")
    elif kind is Kind.OTHER:
        reasons.append("not_a_ct_image")
    return _refused(uid, rows, kind, tuple(reasons), left_out)


def _refused(
    uid: str, rows: list[Row], kind: Kind, reasons: tuple[str, ...], left_out: list[LeftOut]
) -> Series:
    gone = {left.path for left in left_out}
    return Series(
        series_id=uid,
        series_instance_uid=rows[0]["series_instance_uid"],
        study_instance_uid=rows[0]["study_instance_uid"],
        patient_id=rows[0]["patient_id"],
        kind=kind,
        instances=tuple(
            Instance(row["path"], row["sop_instance_uid"]) for row in rows if row["path"] not in gone
        ),
        left_out=tuple(left_out),
        geometry=None,
        decision="refuse" if reasons else "convert",
        reasons=tuple(dict.fromkeys(reasons)),
        warnings=("delivered_twice",) if any(left.reason == "delivered_twice" for left in left_out) else (),
        frame_of_reference_uids=_distinct(rows, "frame_of_reference_uid"),
    )


def _distinct(rows: list[Row], column: str) -> tuple[str, ...]:
    return tuple(sorted({row[column] for row in rows if row[column]}))


def _numbered(found: list[Series]) -> list[Series]:
    """Give series of one UID numbers: the first keeps the UID, others get `_2`, `_3` ..."""
    from dataclasses import replace

    counts: Counter[str] = Counter()
    numbered = []
    for series in found:
        counts[series.series_id] += 1
        number = counts[series.series_id]
        numbered.append(series if number == 1 else replace(series, series_id=f"{series.series_id}_{number}"))
    return sorted(numbered, key=lambda series: series.series_id)
