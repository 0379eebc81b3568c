"""The triage score, by hand: base 1 + (malignancy - 1) 9/4, points, limits, rounding."""

import json

import pytest
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.systems.nodules.triage import Ratings, of_file, triage

HEADER = "malignancy,diameter_mm,spiculation,texture,internal_structure,growing\n"


@pytest.mark.parametrize(
    ("diameter", "points"),
    [(3.99, -1), (4, 0), (7.99, 0), (8, 1), (11.99, 1), (12, 2), (19.99, 2), (20, 3), (60, 3), (None, 0)],
)
def test_size(diameter, points):
    assert triage(Ratings(3, diameter)).size == points


@pytest.mark.parametrize(
    ("ratings", "parts"),
    [
        (Ratings(1, spiculation=3.5), (2, 0, 0)),
        (Ratings(1, spiculation=3.49), (0, 0, 0)),
        (Ratings(1, texture=2.5), (0, 1, 0)),
        (Ratings(1, texture=2.51), (0, 0, 0)),
        (Ratings(1, is_growing=True), (0, 0, 3)),
        (Ratings(1, is_growing=False), (0, 0, 0)),
        (Ratings(1), (0, 0, 0)),
    ],
)
def test_points(ratings, parts):
    scored = triage(ratings)
    assert (scored.spiculation, scored.ground_glass, scored.growth) == parts


@pytest.mark.parametrize(
    ("malignancy", "base", "score"),
    [(1, 1, 1), (2, 3.25, 3), (3, 5.5, 6), (4, 7.75, 8), (5, 10, 10), (1.6666666666666667, 2.5, 3)],
)
def test_base_and_rounding_halves_up(malignancy, base, score):
    scored = triage(Ratings(malignancy))
    assert scored.base == pytest.approx(base)
    assert scored.score == score


def test_it_stays_between_one_and_ten():
    assert triage(Ratings(1, 2)).score == 1
    assert triage(Ratings(5, 25, 5, 1, is_growing=True)).score == 10


def test_half_a_point_below_is_rounded_after_the_limits():
    # 5.5 - 1 = 4.5: halves go up, where Python's own round gives 4
    assert triage(Ratings(3, 3)).score == 5


def test_a_file(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(HEADER + "4,9,4,5,1,yes\n,9,,,,\n7,9,,,,\n3,-1,,,,\n3,9,,,,maybe\n3,,,2,1,no\n")
    done = CliRunner().invoke(app, ["nodules", "triage", str(path), str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["score"] for row in rows] == [10, None, None, None, None, 7]
    assert rows[0] | {"reasons": []} == rows[0]
    assert {name: rows[0][name] for name in ("base", "size", "spiculation", "ground_glass", "growth")} == {
        "base": 7.75, "size": 1, "spiculation": 2, "ground_glass": 0, "growth": 3,
    }  # fmt: skip
    assert rows[1]["reasons"] == ["malignancy_not_rated"]
    assert rows[2]["reasons"] == ["rating_out_of_range"]
    assert [row["out_of_range"] for row in rows[2:5]] == [["malignancy"], ["diameter_mm"], ["growing"]]


def test_soft_tissue_inside_is_no_ground_glass(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(HEADER + "3,9,1,5,1,\n")
    assert of_file(path)[0]["ground_glass"] == 0


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("malignancy\n3\n")
    with pytest.raises(UsageError, match="no column diameter_mm"):
        of_file(path)
