from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config
from pydicom.valuerep import validate_value

from ct_assets.deid.elements import values

dates = st.dates(date(1900, 1, 1), date(2030, 1, 1))
shifts = st.integers(-1825, -30)


@given(dates, shifts)
def test_a_shifted_date_is_so_many_days_earlier(day, days):
    assert values.shifted_date(f"{day:%Y%m%d}", days) == f"{day + timedelta(days):%Y%m%d}"


@given(dates, dates, shifts)
def test_intervals_stay(first, second, days):
    def back(day):
        return date.fromisoformat(values.shifted_date(f"{day:%Y%m%d}", days))

    assert back(second) - back(first) == second - first


@pytest.mark.parametrize(
    ("value", "days", "expected"),
    [
        ("2020.02.29", -1, "20200228"),  # ACR-NEMA's form is read and written as DA
        ("20200229", -365, "20190301"),  # a leap day
        ("20200301 ", -1, "20200229"),
        ("20201345", -1, None),
        ("61d6b371-5759", -1, None),
        ("0001", -1, None),
        ("10000115", -30, None),
    ],
)
def test_dates_of_every_form(value, days, expected):
    assert values.shifted_date(value, days) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20231223110253.120000+0100", "20231222110253.120000+0100"),
        ("202401010000", "202312310000"),
        ("20240101", "20231231"),
        ("202401", "202312"),
        ("2024", "2023"),
        ("2024+0100", "2023+0100"),
        ("20240101T10", None),
        ("", None),
    ],
)
def test_date_times_keep_clock_offset_and_precision(value, expected):
    assert values.shifted_date_time(value, -1) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("089Y", "089Y"),
        ("090Y", "090Y"),
        ("091Y", "090Y"),
        ("1116M", "090Y"),
        ("093Y ", "090Y"),
        ("93", "090Y"),
        ("93 Y", "090Y"),
        ("62Y", "062Y"),
        ("012M", "012M"),
        ("", ""),
        ("old", None),
    ],
)
def test_ages_above_89_are_not_revealed(value, expected):
    assert values.capped_age(value, 89) == expected


@pytest.mark.parametrize("vr", sorted(values.DUMMIES))
def test_every_text_dummy_is_valid_for_its_vr(vr):
    validate_value(vr, values.DUMMIES[vr], config.RAISE)


def test_every_binary_dummy_is_one_value_of_its_size():
    sizes = {
        "US": 2,
        "SS": 2,
        "UL": 4,
        "SL": 4,
        "FL": 4,
        "FD": 8,
        "AT": 4,
        "UV": 8,
        "SV": 8,
        "OD": 8,
        "OF": 4,
        "OL": 4,
    }
    assert {vr: len(values.BINARY_DUMMIES[vr]) for vr in sizes} == sizes
    assert all(len(dummy) % 2 == 0 for dummy in values.BINARY_DUMMIES.values())


@pytest.mark.parametrize("value", ["101112", "1011", "10", "101112.123", "", "235960"])
def test_clock_times_stay(value):
    assert values.clock_time(value) == value


def test_a_clock_time_of_acr_nema_is_written_as_tm():
    assert values.clock_time("10:11:12.5") == "101112.5"


@pytest.mark.parametrize("value", ["Quenneville", "1o11", "256000", "00731946", "101112Q"])
def test_what_is_no_clock_time(value):
    assert values.clock_time(value) is None
