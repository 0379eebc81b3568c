"""Dates and ages in texts: true ones in labels, plausible ones in descriptions, ages above the cap."""

import pytest

from ct_assets.deid.elements import ages, dates
from ct_assets.deid.elements.text import merged

TRUE = ((2020, 1, 17), (1957, 12, 31))


def cut(text: str, *, any_plausible: bool = False) -> bool:
    return bool(dates.spans(text, () if any_plausible else TRUE, any_plausible=any_plausible))


@pytest.mark.parametrize(
    "text",
    [
        "17Jan2020", "Jan 17, 2020", "200117", "2020_01_17", "17 01 2020", "01/2020", "17.1.", "31DEC1957", "31.12.57",
        "17. Januar", "17 janvier 2020", "17 de enero", "17 stycznia 2020", "17 января", "2020年1月17日",
        "令和2年1月17日",         "KW03", "GTV 2020", "17.1", "1-17",
    ],
)  # fmt: skip
def test_a_true_date_is_found_however_it_is_written(text):
    assert cut(text)


@pytest.mark.parametrize(
    "text",
    [
        "18Feb2019",
        "May-Thurner stenosis",
        "L5-S1",
        "PTV_60Gy 2 mm",
        "17.1 mm",
        "Th12",
        "Node 4R",
        "PTV 2000 cGy",
        "2.1",
    ],
)
def test_what_is_no_true_date_stays(text):
    assert not cut(text)


@pytest.mark.parametrize(
    "text", ["Jan20", "17.01.", "17/01", "17JAN", "JAN 17", "KW03", "01-20", "2020-01", "3 mars 19"]
)
def test_in_a_description_every_plausible_date_goes(text):
    assert cut(text, any_plausible=True)


@pytest.mark.parametrize("text", ["5.1 CHEST", "Thorax 1.25 B30f", "THX/ABD 2.0 I41f 3", "T2 1/2"])
def test_decimals_and_ratios_are_no_plausible_dates(text):
    assert not cut(text, any_plausible=True)


@pytest.mark.parametrize(
    "text",
    [
        "93yo",
        "93y F",
        "93J",
        "93 y",
        "F93",
        "age 93",
        "93-year-old",
        "1116m",
        "M93 pain",
        "age: 093Y",
        "94 lat",
        "93-jährig",
        "93yF",
    ],
)
def test_an_age_above_the_cap_is_found(text):
    assert ages.spans(text, 89, beside_sex=True)


@pytest.mark.parametrize("text", ["68yo", "89 y", "93 kV", "B90f", "F 120 mm", "100 ms", "600 months"])
def test_lower_ages_and_other_numbers_stay(text):
    assert not ages.spans(text, 89, beside_sex=True)


OWN_AGE = frozenset((93,))


@pytest.mark.parametrize("text", ["CT (93)", "93 Thorax", "Thorax 093"])
def test_the_patients_own_age_above_the_cap_goes_by_itself(text):
    assert ages.spans(text, 89, beside_sex=True, own=OWN_AGE)
    assert not ages.spans(text, 89, beside_sex=True)


@pytest.mark.parametrize("text", ["dose 93%", "93 kV", "1.93", "B93f", "193", "CT (94)"])
def test_other_numbers_that_read_like_it_stay(text):
    assert not ages.spans(text, 89, beside_sex=True, own=OWN_AGE)


def test_an_age_counts_birthdays():
    """Born on 1 June 1926: 93 the day before the birthday of 2020, 94 on it."""
    assert list(ages.of_days([(1926, 6, 1)], [(2020, 5, 31), (2020, 6, 1)])) == [93, 94]


@pytest.mark.parametrize(
    "text", ["31-XII-1957", "31.xii.57", "31|12|1957", "31:12:1957", "1957-W01", "1957W1"]
)
def test_other_signs_of_dates_are_true_dates_too(text):
    """31 December 1957 was the Tuesday of the first week of 1958 by ISO 8601; 3 January 1957 of that of 1957."""
    spans = dates.spans(f"GTV {text}", [(1957, 12, 31), (1957, 1, 3)], any_plausible=False)
    assert merged(spans) == [(4, 4 + len(text))]


@pytest.mark.parametrize("text", ["GTV Week 3", "scan 17:01:20", "CN V 20", "segment VI 3"])
def test_weeks_of_a_treatment_clock_times_and_roman_numbers_are_no_true_dates(text):
    assert not dates.spans(text, [(2020, 1, 17)], any_plausible=False)
