"""The principal series: requirements, preferences in their order, and why the others are not it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ct_assets.cohort.principal_series import Candidate, choose, unfit
from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind
from ct_assets.settings.audit import AuditSettings, PrincipalSettings
from ct_assets_tests.dicom.test_geometry import measured


def candidate(
    name: str,
    slices: int = 20,
    step_mm: float = 2.5,
    *,
    is_original: bool = True,
    kernel: str | None = None,
    orientation=(1, 0, 0, 0, 1, 0),
    decision="convert",
) -> Candidate:
    normal = np.cross(orientation[:3], orientation[3:])
    geometry = measured(np.outer(np.arange(slices) * step_mm, normal), orientation).geometry
    series = Series(name, name, "study", "P1", Kind.CT, (), (), geometry, decision, (), ())
    return Candidate(series, is_original, kernel)


def winner(*candidates: Candidate, **settings: object) -> tuple[str, str]:
    found = choose(candidates, PrincipalSettings(**settings))
    return found.series.series_id, found.why


def test_the_only_candidate_is_it():
    assert winner(candidate("a")) == ("a", "only_candidate")


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        (candidate("b"), candidate("a", is_original=False), "original"),
        (candidate("b", 40, 1.25), candidate("a"), "thinner_slices"),
        (candidate("b", 30), candidate("a"), "more_coverage"),
        (candidate("b"), candidate("a", decision="refuse"), "geometry_not_refused"),
        (candidate("b", decision="correct"), candidate("a", decision="refuse"), "geometry_not_refused"),
        (candidate("a"), candidate("b"), "smaller_identifier"),
    ],
)
def test_what_decides_between_two(better, worse, why):
    name = better.series.series_id
    assert winner(better, worse) == winner(worse, better) == (name, why)


@pytest.mark.parametrize(
    ("warning", "setting"),
    [
        ("oblique_orientation", "oblique"),
        ("rescale_type_not_hu", "unproven_unit"),
        ("unit_not_proven", "unproven_unit"),
    ],
)
def test_a_series_that_converts_may_be_kept_from_standing_for_its_patient(warning, setting):
    plain, odd = candidate("b"), candidate("a")
    series = replace(odd.series, warnings=(warning,))
    for choice, decision in (("refuse", "refuse"), ("convert", "convert")):
        codes = unfit(series, AuditSettings(**{setting: choice}))
        kept = replace(odd, series=series, unfit=codes)
        alone = choose([kept], PrincipalSettings())
        assert (alone.decision, alone.reasons) == (decision, [warning] if codes else [])
        assert choose([kept, plain], PrincipalSettings()).series.series_id == ("b" if codes else "a")


def test_original_comes_before_thin():
    assert winner(candidate("a", 40, 1.0, is_original=False), candidate("b"))[0] == "b"


def test_order_of_preferences_is_a_setting():
    thin = candidate("a", 40, 1.0, is_original=False)
    assert winner(thin, candidate("b"), preferences=("thinnest", "original")) == ("a", "thinner_slices")


def test_kernels_are_liked_in_the_order_of_the_settings():
    liked = {"kernels": ("b30", "b50")}
    candidates = [candidate("a", kernel="B70f"), candidate("b", kernel="B50f"), candidate("c", kernel="B30f")]
    assert winner(*candidates, **liked) == ("c", "preferred_kernel")
    assert winner(*candidates[:2], **liked) == ("b", "preferred_kernel")


def test_spacings_that_differ_by_rounding_are_equally_thin():
    assert winner(candidate("a", 21, 2.5), candidate("b", 20, 2.49))[1] == "more_coverage"


def test_a_tie_is_told():
    assert choose([candidate("a"), candidate("b")], PrincipalSettings()).is_tie
    assert not choose([candidate("a"), candidate("b", 30)], PrincipalSettings()).is_tie


def test_runners_up_say_what_they_lack():
    coronal = candidate("c", orientation=(1, 0, 0, 0, 0, -1))
    few = candidate("d", 5)
    unmeasured = replace(few, series=replace(few.series, series_id="e", geometry=None))
    found = choose(
        [candidate("a"), candidate("b", is_original=False), coronal, few, unmeasured], PrincipalSettings()
    )
    assert found.series.series_id == "a"
    assert [(one.series_id, one.why) for one in found.runners_up] == [
        ("b", "original"),
        ("c", "not_axial"),
        ("d", "too_few_slices"),
        ("e", "no_geometry"),
    ]


def test_nothing_that_meets_the_requirements_is_no_principal_series():
    assert choose([candidate("a", 3)], PrincipalSettings()).series is None
    assert choose([candidate("a", 3)], PrincipalSettings()).why == "no_ct_series_meets_the_requirements"
    assert choose([], PrincipalSettings()).why == "no_ct_series"


def test_the_order_of_the_candidates_changes_nothing():
    several = [
        candidate("a"),
        candidate("b", 40, 1.25),
        candidate("c", 30),
        candidate("d", is_original=False),
    ]
    choices = {repr(choose(order, PrincipalSettings())) for order in itertools.permutations(several)}
    assert len(choices) == 1
