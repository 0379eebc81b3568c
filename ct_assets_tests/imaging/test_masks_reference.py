"""Which series a mask means: SOP instances before series before frame of reference, never a guess."""

import pytest

from ct_assets.dicom.seg import MaskError
from ct_assets.imaging.masks_reference import Candidate, Stated, resolve


def series(name, *, patient="P", sops=(), frame="F", study="S", usable=True):
    return Candidate(name, name, study, patient, frozenset(sops), frozenset({frame}), usable)


def stated(*, patient="P", series=(), sops=(), frame="F", study="S", structure_set=False):
    return Stated(
        patient, study, frozenset(series), frozenset(sops), frozenset({frame} - {None}), structure_set
    )


def refusal(*args):
    with pytest.raises(MaskError) as refused:
        resolve(*args)
    return refused.value.code


def test_instances_outrank_the_series_that_is_named():
    found = resolve(
        stated(series=["B"], sops=["1", "2"]), [series("A", sops=["1", "2", "3"]), series("B", sops=["9"])]
    )
    assert (found.series_id, found.by) == ("A", "sop_instance")
    assert "mask_references_contradict" in found.warnings


def test_of_several_series_the_one_with_most_instances_is_meant():
    found = resolve(stated(sops=["1", "2", "9"]), [series("A", sops=["9"]), series("B", sops=["1", "2"])])
    assert found.series_id == "B"
    assert "mask_refers_to_several_series" in found.warnings


def test_equally_many_are_nobodys_choice():
    assert (
        refusal(stated(sops=["1", "9"]), [series("A", sops=["9"]), series("B", sops=["1"])])
        == "mask_reference_ambiguous"
    )


def test_stale_instances_leave_the_series_that_is_named():
    found = resolve(stated(series=["A"], sops=["x"]), [series("A", sops=["1"]), series("B")])
    assert (found.series_id, found.by) == ("A", "series")
    assert "mask_sop_references_stale" in found.warnings


def test_a_named_series_that_is_not_there_is_never_replaced():
    candidates = [series("B", sops=["1"])]
    assert refusal(stated(series=["A"]), candidates) == "mask_references_missing_series"
    assert refusal(stated(series=["A"], structure_set=True), candidates) == "mask_references_missing_series"


def test_without_names_the_only_usable_series_in_the_same_frame_of_reference():
    found = resolve(stated(), [series("A", usable=False), series("B"), series("C", frame="G")])
    assert (found.series_id, found.by) == ("B", "frame_of_reference")


def test_two_series_in_one_frame_of_reference_are_ambiguous():
    assert refusal(stated(), [series("A"), series("B")]) == "mask_reference_ambiguous"


def test_only_a_structure_set_may_go_by_its_study():
    candidates = [series("A")]
    assert refusal(stated(frame=None), candidates) == "mask_reference_missing"
    assert resolve(stated(frame=None, structure_set=True), candidates).by == "position"


def test_another_patients_series_is_refused_even_when_instances_match():
    assert refusal(stated(sops=["1"]), [series("A", patient="Q", sops=["1"])]) == "mask_of_other_patient"
    assert refusal(stated(patient="P"), [series("A", patient="Q")]) == "mask_reference_missing"


def test_a_blank_at_the_end_makes_no_other_patient():
    assert resolve(stated(patient="P ", sops=["1"]), [series("A", sops=["1"])]).series_id == "A"


def test_another_frame_of_reference_is_told():
    assert resolve(stated(frame="G", sops=["1"]), [series("A", sops=["1"])]).has_other_frame_of_reference
