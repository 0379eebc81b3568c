"""Matching without labels: places and sizes worked out by hand."""

import math

import pytest

from ct_assets.systems.longitudinal.matching import Match, Nodule, match, quality


def at(name, x, volume=100.0, y=0.0):
    return Nodule(name, (x, y, 0.0), volume)


def states(matches):
    return {(one.state, one.earlier_id, one.later_id) for one in matches}


def test_each_nodule_of_both_exams_is_in_the_result_whatever_their_order():
    earlier = [at("a", 0), at("b", 50), at("gone", 100)]
    later = [at("B", 52, 200.0), at("A", 1), at("fresh", 200)]
    wanted = {
        ("matched", "a", "A"),
        ("matched", "b", "B"),
        ("vanished", "gone", None),
        ("new", None, "fresh"),
    }
    assert states(match(earlier, later)) == states(match(earlier[::-1], later[::-1])) == wanted
    one = next(one for one in match(earlier, later) if one.later_id == "B")
    assert (one.distance_mm, one.volume_ratio) == (2.0, 2.0)


def test_the_sum_decides_and_not_the_nearest_first():
    # The nearest link a-B (4 mm) would leave b without a partner: B is 14 from b, A is 18 (too far).
    assert states(match([at("a", 0), at("b", 18)], [at("A", -10), at("B", 4)])) == {
        ("matched", "a", "A"),
        ("matched", "b", "B"),
    }


def test_size_decides_between_neighbours():
    earlier = [at("small", 0, 50.0), at("large", 4, 1600.0)]
    later = [at("S", 2.5, 50.0), at("L", 1.5, 1600.0)]
    assert states(match(earlier, later)) == {("matched", "small", "S"), ("matched", "large", "L")}


@pytest.mark.parametrize(
    ("x", "volume", "is_one"), [(15, 100, 1), (15.01, 100, 0), (0, 3000, 1), (0, 3010, 0)]
)
def test_limits_of_distance_and_size_are_inclusive(x, volume, is_one):
    states_of = [one.state for one in match([at("a", 0, 100.0)], [at("A", x, volume)])]
    assert states_of == (["matched"] if is_one else ["vanished", "new"])


def test_a_further_part_within_reach_is_a_split_and_beyond_it_is_new():
    ball = math.pi / 6 * 20**3  # 20 mm across: parts within 15 mm belong to it
    later = [at("P", 1, ball / 2), at("Q", -9, ball / 4), at("far", 16, ball / 4)]
    assert states(match([at("a", 0, ball)], later)) == {
        ("matched", "a", "P"),
        ("split", "a", "Q"),
        ("new", None, "far"),
    }


def test_nothing_on_one_side_or_both():
    assert match([], []) == []
    assert states(match([], [at("A", 0)])) == {("new", None, "A")}
    assert states(match([at("a", 0)], [])) == {("vanished", "a", None)}


def test_quality_counts_links_and_is_null_without_any():
    matches = [
        Match("matched", "a", "A", 1.0, 1.0),
        Match("matched", "b", "C", 1.0, 1.0),
        Match("new", None, "D", None, None),
    ]
    found = quality(matches, [("a", "A"), ("b", "B"), ("c", "C")])
    assert (found.precision, found.recall) == (0.5, pytest.approx(1 / 3))
    assert (quality([], []).precision, quality([], []).recall) == (None, None)


@pytest.mark.parametrize(
    ("centre", "volume"), [((math.nan, 0, 0), 1.0), ((0, 0, 0), 0.0), ((0, 0, 0), math.inf)]
)
def test_what_is_no_place_or_volume_is_refused(centre, volume):
    with pytest.raises(ValueError, match="nodule a"):
        Nodule("a", centre, volume)
