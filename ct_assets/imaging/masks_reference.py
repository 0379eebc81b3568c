"""Which CT series a mask object means, by what it refers to.

Belongs here: the ranking of references (SOP instances over series over frame of reference over mere
position) and the refusals. Does not: voxels (`imaging.masks`, `imaging.rtstruct`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ct_assets.dicom.seg import MaskError
from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind

Rank = Literal["sop_instance", "series", "frame_of_reference", "position"]


@dataclass(frozen=True, slots=True)
class Stated:
    """What a mask object says about itself and its image."""

    patient_id: str | None
    study_instance_uid: str | None
    series_uids: frozenset[str]
    sop_uids: frozenset[str]
    frame_of_reference_uids: frozenset[str]
    may_go_by_position: bool
    """Whether the study alone may decide where nothing else does: a structure set's contours still have to
    lie on the slices."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A CT series as a mask may refer to it."""

    series_id: str
    series_instance_uid: str | None
    study_instance_uid: str | None
    patient_id: str | None
    sop_uids: frozenset[str]
    frame_of_reference_uids: frozenset[str]
    is_usable: bool
    """Whether the series becomes a volume."""


@dataclass(frozen=True)
class Candidates:
    """The CT series of a tree or a cohort, found by what masks refer to."""

    by_id: dict[str, Candidate]
    series: dict[str, Series]
    by_sop: dict[str, list[str]] = field(default_factory=dict)
    by_uid: dict[str, list[str]] = field(default_factory=dict)
    by_patient: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Iterable[Series]) -> "Candidates":
        """Collect the CT series among `found`."""
        collected = cls({}, {})
        for series in found:
            if series.kind is not Kind.CT:
                continue
            name = series.series_id
            sop_uids = frozenset(one.sop_instance_uid for one in series.instances if one.sop_instance_uid)
            collected.series[name] = series
            collected.by_id[name] = Candidate(
                series_id=name,
                series_instance_uid=series.series_instance_uid,
                study_instance_uid=series.study_instance_uid,
                patient_id=series.patient_id,
                sop_uids=sop_uids,
                frame_of_reference_uids=frozenset(series.frame_of_reference_uids),
                is_usable=series.decision != "refuse",
            )
            for uid in sop_uids:
                collected.by_sop.setdefault(uid, []).append(name)
            if series.series_instance_uid:
                collected.by_uid.setdefault(series.series_instance_uid, []).append(name)
            collected.by_patient.setdefault(series.patient_id or "", []).append(name)
        return collected

    def near(self, stated: Stated) -> list[Candidate]:
        """Return the series that a mask could mean: those it names, and its patient's."""
        names = set(self.by_patient.get(stated.patient_id or "", []))
        for uid in stated.sop_uids:
            names.update(self.by_sop.get(uid, []))
        for uid in stated.series_uids:
            names.update(self.by_uid.get(uid, []))
        return [self.by_id[name] for name in sorted(names)]


@dataclass(frozen=True, slots=True)
class Meant:
    """The series, and by which reference it was found."""

    series_id: str
    by: Rank
    warnings: tuple[str, ...]
    has_other_frame_of_reference: bool


def resolve(stated: Stated, candidates: Sequence[Candidate]) -> Meant:
    """Return the CT series that a mask means.

    1. The series that holds most of the referenced SOP instances. 2. The series that is named. 3. Where no
    series is named: the only usable series of the same patient in the same frame of reference. 4. Likewise
    for structure sets: the only usable series of the same study. A series that is named and not there is
    never replaced by another one. Raises `MaskError`: wrong patient, missing or ambiguous series.
    """
    warnings: list[str] = []
    meant, by = _by_instances(stated, candidates, warnings)
    if meant is None and stated.series_uids:
        meant, by = _by_series(stated, candidates, warnings), "series"
    if meant is None:
        meant, by = _by_patient(stated, candidates, warnings)
    if not _same_patient(stated, meant):
        raise MaskError("mask_of_other_patient", "the mask refers to a series of another patient")
    both_told = bool(stated.frame_of_reference_uids and meant.frame_of_reference_uids)
    other = both_told and not stated.frame_of_reference_uids & meant.frame_of_reference_uids
    return Meant(meant.series_id, by, tuple(warnings), other)


def _by_instances(
    stated: Stated, candidates: Sequence[Candidate], warnings: list[str]
) -> tuple[Candidate | None, Rank]:
    found = [(len(stated.sop_uids & candidate.sop_uids), candidate) for candidate in candidates]
    found = sorted((pair for pair in found if pair[0]), key=lambda pair: (-pair[0], pair[1].series_id))
    if not found:
        return None, "sop_instance"
    if len(found) > 1:
        if found[0][0] == found[1][0]:
            raise MaskError("mask_reference_ambiguous", "the mask refers equally to several series")
        warnings.append("mask_refers_to_several_series")
    meant = found[0][1]
    if stated.sop_uids - meant.sop_uids and len(found) == 1:
        warnings.append("mask_references_missing_instances")
    if stated.series_uids and meant.series_instance_uid not in stated.series_uids:
        warnings.append("mask_references_contradict")
    return meant, "sop_instance"


def _by_series(stated: Stated, candidates: Sequence[Candidate], warnings: list[str]) -> Candidate:
    named = [candidate for candidate in candidates if candidate.series_instance_uid in stated.series_uids]
    if not named:
        raise MaskError("mask_references_missing_series", "the series that the mask names is not there")
    if stated.sop_uids:
        warnings.append("mask_sop_references_stale")
    return _only(named)


def _by_patient(
    stated: Stated, candidates: Sequence[Candidate], warnings: list[str]
) -> tuple[Candidate, Rank]:
    if stated.sop_uids:
        warnings.append("mask_sop_references_stale")
    same = [candidate for candidate in candidates if _same_patient(stated, candidate)]
    frames = stated.frame_of_reference_uids
    in_frame = [candidate for candidate in same if frames & candidate.frame_of_reference_uids]
    if in_frame:
        warnings.append("mask_found_by_frame_of_reference")
        return _only(in_frame), "frame_of_reference"
    in_study = [
        candidate
        for candidate in same
        if stated.study_instance_uid and candidate.study_instance_uid == stated.study_instance_uid
    ]
    if stated.may_go_by_position and in_study:
        warnings.append("mask_found_by_position")
        return _only(in_study), "position"
    raise MaskError("mask_reference_missing", "nothing in the mask leads to a CT series that is there")


def _only(several: list[Candidate]) -> Candidate:
    usable = [candidate for candidate in several if candidate.is_usable]
    if len(usable) > 1:
        raise MaskError("mask_reference_ambiguous", "several CT series could be meant")
    return usable[0] if usable else several[0]


def _same_patient(stated: Stated, candidate: Candidate) -> bool:
    return (stated.patient_id or "").strip() == (candidate.patient_id or "").strip()
