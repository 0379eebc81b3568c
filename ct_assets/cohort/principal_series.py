"""The principal CT series of a patient: the one that stands for the patient, chosen by a stated rule.

Belongs here: the rule. Requirements: CT, axial, a measured geometry, enough slices. Then, the first that
differs wins: geometry not refused; the preferences of the settings in their order; more slices; and last,
arbitrary but always the same, the smaller identifier. The choice says what decided, and the runners-up say
what they lack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind
from ct_assets.settings.audit import AuditSettings, PrincipalSettings

NO_CT = "no_ct_series"
NO_CANDIDATE = "no_ct_series_meets_the_requirements"
ONLY_CANDIDATE = "only_candidate"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A CT series of the patient, with the header facts that preferences look at."""

    series: Series
    is_original: bool
    kernel: str | None
    unfit: tuple[str, ...] = ()
    """Codes that keep it from standing for its patient although it converts; as a refusal it comes last."""


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A CT series that is not the principal one, and why."""

    series_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The principal series, or why there is none."""

    series: Series | None
    why: str
    is_tie: bool
    """Only the arbitrary last rule told the winner from the next one."""
    runners_up: tuple[RunnerUp, ...]
    unfit: tuple[str, ...] = ()
    """Codes of `Candidate.unfit` of the series."""

    @property
    def decision(self) -> str | None:
        """What becomes of the patient's image: `refuse` where the series converts and may not stand for it."""
        return None if self.series is None else "refuse" if self.unfit else self.series.decision

    @property
    def reasons(self) -> list[str]:
        """Why, as codes."""
        return [] if self.series is None else list(dict.fromkeys((*self.series.reasons, *self.unfit)))


def choose(candidates: Sequence[Candidate], settings: PrincipalSettings) -> Choice:
    """Return the principal series among a patient's CT series; their order changes nothing."""
    series = [one for one in candidates if one.series.kind is Kind.CT]
    if not series:
        return Choice(None, NO_CT, False, ())
    unfit = {one.series.series_id: _unmet(one, settings) for one in series}
    ranked = sorted(
        (one for one in series if unfit[one.series.series_id] is None),
        key=lambda one: [value for _, value in _criteria(one, settings)],
    )
    out = [RunnerUp(name, why) for name, why in sorted(unfit.items()) if why]
    if not ranked:
        return Choice(None, NO_CANDIDATE, False, tuple(out))
    winner = ranked[0]
    behind = [RunnerUp(one.series.series_id, _first_difference(winner, one, settings)) for one in ranked[1:]]
    why = behind[0].why if behind else ONLY_CANDIDATE
    return Choice(winner.series, why, why == "smaller_identifier", (*behind, *out), winner.unfit)


def unfit(series: Series, settings: AuditSettings) -> tuple[str, ...]:
    """Return the warnings of a series that, by the settings, keep it from standing for its patient."""
    keeping_out = set()
    if settings.oblique == "refuse":
        keeping_out.add("oblique_orientation")
    if settings.unproven_unit == "refuse":
        keeping_out |= {"rescale_type_not_hu", "unit_not_proven"}
    return tuple(code for code in series.warnings if code in keeping_out)


def _unmet(one: Candidate, settings: PrincipalSettings) -> str | None:
    geometry = one.series.geometry
    if geometry is None:
        return "no_geometry"
    if geometry.plane != "axial":
        return "not_axial"
    if geometry.slices < settings.min_slices:
        return "too_few_slices"
    return None


def _criteria(one: Candidate, settings: PrincipalSettings) -> list[tuple[str, Any]]:
    """Return the criteria in order, each a name and a value of which the least wins."""
    geometry = one.series.geometry
    if geometry is None:
        raise ValueError("a candidate has a geometry")
    values: dict[str, Any] = {
        "original": 0 if one.is_original else 1,
        "thinnest": round(geometry.spacing_mm / settings.thickness_step_mm),
        "kernel": _kernel_place(one.kernel, settings.kernels),
        "coverage": -round(geometry.coverage_mm),
    }
    names = {
        "original": "original",
        "thinnest": "thinner_slices",
        "kernel": "preferred_kernel",
        "coverage": "more_coverage",
    }
    return [
        ("geometry_not_refused", one.series.decision == "refuse" or bool(one.unfit)),
        *((names[preference], values[preference]) for preference in settings.preferences),
        ("more_slices", -geometry.slices),
        ("smaller_identifier", one.series.series_id),
    ]


def _first_difference(winner: Candidate, other: Candidate, settings: PrincipalSettings) -> str:
    for (name, best), (_, value) in zip(_criteria(winner, settings), _criteria(other, settings), strict=True):
        if best != value:
            return name
    return "smaller_identifier"


def _kernel_place(kernel: str | None, liked: Sequence[str]) -> int:
    told = (kernel or "").upper()
    for place, prefix in enumerate(liked):
        if told and told.startswith(prefix.upper()):
            return place
    return len(liked)
