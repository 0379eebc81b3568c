"""FROC and CPM by the rules of LUNA16, each rule with a case worked out by hand."""

import numpy as np
import pytest

from ct_assets.learning.evaluation.detection import Finding, Mark, cpm_interval, froc

HERE = (0.0, 0.0, 0.0)


def nodule(scan="a", centre=HERE, diameter=10.0, **facts):
    return Finding(scan, centre, diameter, **facts)


def mark(scan="a", centre=HERE, score=0.9):
    return Mark(scan, centre, score)


def points(curve):
    return list(zip(curve.false_per_scan.tolist(), curve.sensitivity.tolist(), strict=True))


class TestHits:
    def test_half_the_diameter_away_is_no_hit_and_nearer_is_one(self):
        assert froc(["a"], [nodule()], [mark(centre=(5.0, 0, 0))]).sensitivity[-1] == 0
        assert froc(["a"], [nodule()], [mark(centre=(4.999, 0, 0))]).sensitivity[-1] == 1

    def test_an_unknown_diameter_is_ten_millimetres(self):
        unknown = nodule(diameter=-1.0)
        assert froc(["a"], [unknown], [mark(centre=(4.9, 0, 0))]).sensitivity[-1] == 1
        assert froc(["a"], [unknown], [mark(centre=(5.1, 0, 0))]).sensitivity[-1] == 0

    def test_a_mark_never_hits_a_finding_of_another_scan(self):
        assert points(froc(["a", "b"], [nodule("b")], [mark("a")])) == [(0, 0), (0.5, 0)]

    def test_three_marks_on_one_finding_are_one_hit_and_no_false_mark(self):
        curve = froc(["a"], [nodule()], [mark(score=s) for s in (0.9, 0.5, 0.2)])
        assert points(curve) == [(0, 0), (0, 1)]

    def test_a_mark_on_an_excluded_finding_counts_neither_way(self):
        findings = [nodule(), nodule(centre=(50, 0, 0), is_excluded=True)]
        curve = froc(["a"], findings, [mark(score=0.4), mark(centre=(50, 0, 0))])
        assert points(curve) == [(0, 0), (0, 1)]

    def test_a_finding_that_nobody_marks_stays_in_the_denominator(self):
        assert froc(["a"], [nodule(), nodule(centre=(50, 0, 0))], [mark()]).sensitivity[-1] == 0.5

    def test_of_each_scan_the_hundred_most_certain_marks_count(self):
        false = [mark(centre=(99, 0, 0), score=0.5 + n / 1000) for n in range(100)]
        assert froc(["a"], [nodule()], [*false, mark(score=0.1)]).sensitivity[-1] == 0
        assert froc(["a"], [nodule()], [*false, mark(score=0.9)]).sensitivity[-1] == 1


class TestCurve:
    SCANS = ("a", "b", "c", "d")
    FINDINGS = (nodule("a"), nodule("b"))
    MARKS = (
        mark("a", score=0.9),
        mark("c", score=0.8),
        mark("d", score=0.7),
        mark("b", score=0.6),
    )

    def test_false_marks_are_counted_over_all_scans_those_without_findings_too(self):
        curve = froc(self.SCANS, self.FINDINGS, self.MARKS)
        assert points(curve) == [(0, 0), (0, 0.5), (0.25, 0.5), (0.5, 0.5), (0.5, 1.0)]

    def test_the_competition_metric_is_the_mean_at_seven_rates(self):
        # 1/8 and 1/4: 0.5; 1/2 and beyond: 1
        assert froc(self.SCANS, self.FINDINGS, self.MARKS).cpm == pytest.approx((2 * 0.5 + 5 * 1.0) / 7)

    def test_a_first_point_at_one_false_mark_does_not_give_its_sensitivity_away(self):
        curve = froc(["a"], [nodule()], [mark(centre=(99, 0, 0), score=0.9), mark(score=0.5)])
        assert curve.at(1.0) == 1
        assert curve.at(0.125) == 0  # up to one false mark nothing is found
        assert curve.at(8.0) == 1

    def test_joined_to_the_origin(self):
        # hit and false mark with one score: a straight line from (0, 0) to (1, 1)
        curve = froc(["a"], [nodule()], [mark(centre=(99, 0, 0)), mark()])
        assert curve.at(0.125) == pytest.approx(0.125)

    def test_the_interval_over_scans_holds_the_figure(self):
        low, high = cpm_interval(self.SCANS, self.FINDINGS, self.MARKS, samples=300)
        assert low <= froc(self.SCANS, self.FINDINGS, self.MARKS).cpm <= high
        assert (low, high) == cpm_interval(self.SCANS, self.FINDINGS, self.MARKS, samples=300)

    def test_without_findings_there_is_no_sensitivity(self):
        with pytest.raises(ValueError, match="no findings"):
            froc(["a"], [nodule(is_excluded=True)], [mark()])

    def test_a_mark_in_an_unknown_scan_is_named(self):
        with pytest.raises(ValueError, match="not listed: z"):
            froc(["a"], [nodule()], [mark("z")])

    def test_a_detector_without_marks_finds_nothing(self):
        assert froc(["a"], [nodule()], []).cpm == 0
        assert np.isinf(froc(["a"], [nodule()], []).thresholds[0])
