"""The threshold table, worked out by hand."""

import pytest

from ct_assets.learning.evaluation.thresholds import threshold_table


def test_four_cases():
    rows = threshold_table([1, 0, 1, 0], [0.9, 0.7, 0.7, 0.2]).to_dicts()
    assert [(r["tp"], r["fp"], r["tn"], r["fn"]) for r in rows] == [
        (0, 0, 2, 2),  # nobody is called
        (1, 0, 2, 1),  # from 0.9
        (2, 1, 1, 0),  # from 0.7: the two of one score together
        (2, 2, 0, 0),
    ]
    at = rows[2]
    assert (at["sensitivity"], at["specificity"]) == (1.0, 0.5)
    assert at["ppv"] == pytest.approx(2 / 3)
    assert at["npv"] == 1.0
    assert at["f1"] == pytest.approx(4 / 5)
    assert at["youden"] == 0.5
    assert rows[0]["ppv"] is None


def test_with_positives_only_specificity_is_not_defined():
    assert set(threshold_table([1, 1], [0.1, 0.2])["specificity"]) == {None}


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        threshold_table([1], [float("nan")])
