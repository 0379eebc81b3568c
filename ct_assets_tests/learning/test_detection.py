"""FROC and CPM by the rules of LUNA16: each rule worked out by hand, and all of them against a plain implementation."""

from fractions import Fraction

import numpy as np
import pytest

from ct_assets.learning.evaluation import bootstrap
from ct_assets.learning.evaluation.detection import FALSE_MARKS_PER_SCAN, Findings, Marks, match

HERE = (0.0, 0.0, 0.0)
AWAY = (99.0, 0.0, 0.0)


def nodule(scan="a", centre=HERE, diameter=10.0, is_excluded=False):
    return scan, centre, diameter, is_excluded


def mark(scan="a", centre=HERE, score=0.9):
    return scan, centre, score


def matched(scans, nodules, marks):
    findings = Findings(
        [n[0] for n in nodules],
        np.array([n[1] for n in nodules], dtype=float).reshape(-1, 3),
        np.array([n[2] for n in nodules], dtype=float),
        np.array([n[3] for n in nodules], dtype=bool),
    )
    table = Marks(
        [m[0] for m in marks],
        np.array([m[1] for m in marks], dtype=float).reshape(-1, 3),
        np.array([m[2] for m in marks], dtype=float),
    )
    return match(list(scans), findings, table)


def points(matching):
    curve = matching.curve()
    return list(zip(curve.false_per_scan.tolist(), curve.sensitivity.tolist(), strict=True))


def plain(scans, nodules, marks, weights=None):
    """The same, one mark at a time, in whole numbers: slow and by the wording of the rules alone."""
    weights = weights or dict.fromkeys(scans, 1)
    best, false, counts = {}, [], {"on_excluded": 0, "further_hits": 0, "beyond_limit": 0}
    for scan in scans:
        its = [m for m in marks if m[0] == scan]
        if len(its) > 100:
            limit = sorted((m[2] for m in its), reverse=True)[100]
            kept = [m for m in its if m[2] > limit]
            counts["beyond_limit"] += len(its) - len(kept)
            its = kept
        ignored = set()
        for number, (where, centre, diameter, is_excluded) in enumerate(nodules):
            if where != scan or is_excluded:
                continue
            radius = (10.0 if diameter < 0 else diameter) / 2
            on = [
                at
                for at, m in enumerate(its)
                if sum((p - q) ** 2 for p, q in zip(centre, m[1], strict=True)) < radius**2
            ]
            if on:
                best[number] = max(its[at][2] for at in on)
                counts["further_hits"] += len(on) - 1
                ignored |= set(on)
        for at, m in enumerate(its):
            if at in ignored:
                continue
            near = any(
                where == scan
                and is_excluded
                and sum((p - q) ** 2 for p, q in zip(centre, m[1], strict=True))
                < ((10.0 if diameter < 0 else diameter) / 2) ** 2
                for where, centre, diameter, is_excluded in nodules
            )
            if near:
                counts["on_excluded"] += 1
            else:
                false.append((m[2], scan))
    total = sum(weights[n[0]] for n in nodules if not n[3])
    images = sum(weights.values())
    hits = [(score, nodules[number][0]) for number, score in best.items()]
    curve = [(Fraction(0), Fraction(0))]
    for threshold in sorted({score for score, _ in hits + false}, reverse=True):
        curve.append(
            (
                Fraction(sum(weights[s] for score, s in false if score >= threshold), images),
                Fraction(sum(weights[s] for score, s in hits if score >= threshold), total),
            )
        )
    counts |= {"hits": len(hits), "false_marks": len(false)}
    return [_read(curve, Fraction(rate)) for rate in FALSE_MARKS_PER_SCAN], counts


def _read(curve, rate):
    if exact := [sens for fps, sens in curve if fps == rate]:
        return float(max(exact))
    before = [point for point in curve if point[0] < rate][-1]
    after = [point for point in curve if point[0] > rate]
    if not after:
        return float(before[1])
    (x0, y0), (x1, y1) = before, after[0]
    return float(y0 + (y1 - y0) * (rate - x0) / (x1 - x0))


def drawn(seed, *, scans=12, marks=260, coarse=True):
    """Random scans, nodules and marks; with `coarse` scores and places tie and coincide."""
    rng = np.random.default_rng(seed)
    names = [f"{n:03d}" for n in range(scans)]
    place = lambda: tuple(float(v) for v in rng.integers(0, 9, 3) * 2)  # noqa: E731
    size = lambda: float(rng.choice([-1.0, 4.0, 6.0, 12.0]))  # noqa: E731
    nodules = [
        (names[rng.integers(scans // 2)], place(), size(), bool(rng.random() < 0.4)) for _ in range(30)
    ]
    nodules.append((names[0], place(), 6.0, False))
    score = (lambda: float(rng.integers(1, 9) / 8)) if coarse else (lambda: float(rng.random()))
    table = [(names[rng.integers(scans - 2)], place(), score()) for _ in range(marks)]
    table += [(names[1], place(), score()) for _ in range(130)]
    return names, nodules, table


class TestAgainstThePlainImplementation:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("coarse", [True, False])
    def test_sensitivities_and_counts(self, seed, coarse):
        scans, nodules, marks = drawn(seed, coarse=coarse)
        expected, counts = plain(scans, nodules, marks)
        matching = matched(scans, nodules, marks)
        assert matching.sensitivity() == pytest.approx(expected, abs=1e-12)
        assert {name: getattr(matching.counts, name) for name in counts} == counts

    @pytest.mark.parametrize("seed", range(4))
    def test_resampled_scans(self, seed):
        scans, nodules, marks = drawn(seed)
        matching = matched(scans, nodules, marks)
        weights = bootstrap.patient_weights(scans, 5, seed)
        for row, values in zip(weights, matching.sensitivity(weights), strict=True):
            times = {scan: int(count) for scan, count in zip(scans, row, strict=True)}
            expected, _ = plain(scans, nodules, marks, times)
            assert values == pytest.approx(expected, abs=1e-12)

    def test_the_order_of_rows_means_nothing(self):
        scans, nodules, marks = drawn(9)
        there = matched(scans, nodules, marks)
        back = matched(scans[::-1], nodules[::-1], marks[::-1])
        assert there.counts == back.counts
        assert there.sensitivity().tolist() == back.sensitivity().tolist()


class TestHits:
    def sensitivity(self, nodules, marks):
        return matched(["a"], nodules, marks).curve().sensitivity[-1]

    def test_half_the_diameter_away_is_no_hit_and_nearer_is_one(self):
        assert self.sensitivity([nodule()], [mark(centre=(3.0, 4.0, 0))]) == 0
        assert self.sensitivity([nodule()], [mark(centre=(4.999, 0, 0))]) == 1

    def test_an_unknown_diameter_is_ten_millimetres(self):
        assert self.sensitivity([nodule(diameter=-1.0)], [mark(centre=(4.9, 0, 0))]) == 1
        assert self.sensitivity([nodule(diameter=-1.0)], [mark(centre=(5.0, 0, 0))]) == 0

    def test_a_mark_never_hits_a_finding_of_another_scan(self):
        assert points(matched(["a", "b"], [nodule("b")], [mark("a")])) == [(0, 0), (0.5, 0)]

    def test_three_marks_on_one_finding_are_one_hit_and_no_false_mark(self):
        matching = matched(["a"], [nodule()], [mark(score=s) for s in (0.9, 0.5, 0.2)])
        assert points(matching) == [(0, 0), (0, 1)]
        assert (matching.counts.hits, matching.counts.further_hits) == (1, 2)

    def test_one_mark_in_two_findings_hits_both(self):
        matching = matched(["a"], [nodule(), nodule(centre=(2.0, 0, 0))], [mark(centre=(1.0, 0, 0))])
        assert (matching.counts.hits, matching.counts.missed, matching.counts.further_hits) == (2, 0, 0)

    def test_a_mark_on_an_excluded_finding_counts_neither_way(self):
        findings = [nodule(), nodule(centre=(50, 0, 0), is_excluded=True)]
        matching = matched(["a"], findings, [mark(score=0.4), mark(centre=(50, 0, 0))])
        assert points(matching) == [(0, 0), (0, 1)]
        assert matching.counts.on_excluded == 1

    def test_a_mark_on_both_kinds_of_finding_is_a_hit(self):
        counts = matched(["a"], [nodule(is_excluded=True), nodule()], [mark()]).counts
        assert (counts.hits, counts.on_excluded) == (1, 0)

    def test_a_finding_without_a_mark_stays_in_the_denominator(self):
        assert self.sensitivity([nodule(), nodule(centre=(50, 0, 0))], [mark()]) == 0.5


class TestTheLimitOfHundredMarks:
    FALSE = [mark(centre=AWAY, score=0.5 + n / 1000) for n in range(100)]

    @pytest.mark.parametrize(("score", "hits"), [(0.1, 0), (0.9, 1)])
    def test_the_most_certain_count(self, score, hits):
        counts = matched(["a"], [nodule()], [*self.FALSE, mark(score=score)]).counts
        assert (counts.hits, counts.beyond_limit) == (hits, 1)

    def test_a_hundred_all_count_even_with_one_score(self):
        assert matched(["a"], [nodule()], [mark(centre=AWAY)] * 100).counts.false_marks == 100

    def test_a_score_that_reaches_across_the_limit_is_left_out_whole(self):
        # 98 above, then four of one score: the 99th to the 102nd
        marks = [*self.FALSE[:98], *[mark(centre=AWAY, score=0.2)] * 4]
        counts = matched(["a"], [nodule()], marks).counts
        assert (counts.false_marks, counts.beyond_limit) == (98, 4)


class TestCurve:
    SCANS = ("a", "b", "c", "d")
    FINDINGS = (nodule("a"), nodule("b"))
    MARKS = (mark("a", score=0.9), mark("c", score=0.8), mark("d", score=0.7), mark("b", score=0.6))

    def test_false_marks_are_counted_over_all_scans_those_without_findings_too(self):
        matching = matched(self.SCANS, self.FINDINGS, self.MARKS)
        assert points(matching) == [(0, 0), (0, 0.5), (0.25, 0.5), (0.5, 0.5), (0.5, 1.0)]

    def test_at_a_rate_that_is_attained_exactly_the_highest_sensitivity_counts(self):
        assert matched(self.SCANS, self.FINDINGS, self.MARKS).sensitivity()[2] == 1.0  # at 1/2
        assert matched(self.SCANS, self.FINDINGS, self.MARKS).cpm() == pytest.approx((2 * 0.5 + 5 * 1.0) / 7)

    def test_a_first_point_at_one_false_mark_does_not_give_its_sensitivity_away(self):
        matching = matched(["a"], [nodule()], [mark(centre=AWAY, score=0.9), mark(score=0.5)])
        assert matching.sensitivity().tolist() == [0, 0, 0, 1, 1, 1, 1]

    def test_joined_to_the_origin(self):
        # hit and false mark with one score: a straight line from (0, 0) to (1, 1)
        matching = matched(["a"], [nodule()], [mark(centre=AWAY), mark()])
        assert matching.sensitivity().tolist() == [0.125, 0.25, 0.5, 1, 1, 1, 1]

    @pytest.mark.parametrize("marks", [[], [mark(centre=AWAY)]])
    def test_without_marks_or_hits_it_is_zero(self, marks):
        assert matched(["a"], [nodule()], marks).cpm() == 0
        assert np.isinf(matched(["a"], [nodule()], marks).curve().thresholds[0])

    def test_a_sample_without_findings_is_undefined(self):
        assert np.isnan(matched(["a", "b"], [nodule()], [mark()]).cpm(np.array([0.0, 2.0])))


class TestRefusals:
    def test_without_findings_there_is_no_sensitivity(self):
        with pytest.raises(ValueError, match="no findings"):
            matched(["a"], [nodule(is_excluded=True)], [mark()])

    def test_a_mark_in_an_unknown_scan_is_named(self):
        with pytest.raises(ValueError, match="not listed: z"):
            matched(["a"], [nodule()], [mark("z")])

    def test_a_score_that_is_no_number(self):
        with pytest.raises(ValueError, match="not finite"):
            matched(["a"], [nodule()], [mark(score=float("nan"))])

    def test_a_scan_listed_twice(self):
        with pytest.raises(ValueError, match="twice"):
            matched(["a", "a"], [nodule()], [mark()])
