"""How raw values are read: typed, tolerant, and telling what was odd."""

import datetime as dt

import pytest
from pydicom.datadict import dictionary_VR

from ct_assets import tables
from ct_assets.dicom import header
from ct_assets.tables.audits import MetadataAudit


@pytest.mark.parametrize(
    ("reader", "raw", "value", "oddity"),
    [
        (header.number, b"2.50 ", 2.5, None),
        (header.number, b"2,5", 2.5, "decimal_comma"),
        (header.number, b"1\\2", 1.0, "several_values"),
        (header.number, b"thick", None, "not_a_number"),
        (header.number, b"NaN ", None, "not_finite"),
        (header.number, b"1_0", None, "not_a_number"),
        (header.number, b"  ", None, None),
        (header.numbers(3), b"1\\-2.5\\3e1", [1.0, -2.5, 30.0], None),
        (header.numbers(3), b"1\\2", None, "wrong_number_of_values"),
        (header.numbers(3), b"1\\\\3", None, "not_a_number"),
        (header.numbers(2), b"0.5\\inf", None, "not_finite"),
        (header.integer, b"-12 ", -12, None),
        (header.integer, b"+7", 7, None),
        (header.integer, b"7.0", 7, "not_an_integer"),
        (header.integer, b"7.5", None, "not_an_integer"),
        (header.integer, b"9" * 40, None, "not_an_integer"),
        (header.unsigned, b"\x00\x02", 512, None),
        (header.unsigned, b"\x00", None, "wrong_length"),
        (header.date, b"20240229", dt.date(2024, 2, 29), None),
        (header.date, b"2024.02.29", dt.date(2024, 2, 29), "not_a_date"),
        (header.date, b"20230229", None, "not_a_date"),
        (header.date, b"yesterday ", None, "not_a_date"),
        (header.time_of_day, b"010203.5", 3723.5, None),
        (header.time_of_day, b"0102", 3720.0, None),
        (header.time_of_day, b"01:02:03", 3723.0, None),
        (header.time_of_day, b"250000", None, "not_a_time"),
        (header.age, b"061Y", 61.0, None),
        (header.age, b"018M", 1.5, None),
        (header.age, b"old ", None, "not_an_age"),
        (header.identifier, b"AB 12 ", "AB 12", None),
        (header.identifier, b" AB  ", "AB", "blanks_around_the_value"),
        (header.uid, b"1.2.3\0", "1.2.3", None),
        (header.uid, b"1.2.x", "1.2.x", "not_a_uid"),
        (header.texts, b"ORIGINAL\\PRIMARY \\AXIAL", ["ORIGINAL", "PRIMARY", "AXIAL"], None),
    ],
)
def test_reading_a_value(reader, raw, value, oddity):
    assert reader(raw) == (value, oddity)


def test_oddities_name_the_column_and_never_the_value():
    _, oddities = header.interpret({0x00180050: b"SECRET", 0x00080022: b"on request"})
    assert sorted(oddities) == ["acquisition_date:not_a_date", "slice_thickness_mm:not_a_number"]


def test_texts_are_decoded_by_their_character_set():
    values = {0x00080005: b"ISO_IR 100", 0x00080080: "Klinik Süd".encode("latin-1")}
    row, _ = header.interpret(values)
    assert row["institution_name"] == "Klinik Süd"


def test_padding_is_signed_where_pixels_are():
    raw = (-2000 + 65536).to_bytes(2, "little")
    signed, _ = header.interpret({0x00280103: b"\1\0", 0x00280120: raw})
    unsigned, _ = header.interpret({0x00280103: b"\0\0", 0x00280120: raw})
    assert (signed["pixel_padding_value"], unsigned["pixel_padding_value"]) == (-2000, 63536)


def test_every_column_of_the_suite_is_a_column_of_the_table():
    assert set(header.SUITE) <= set(tables.dtypes(MetadataAudit))


def test_every_reader_fits_the_value_representation_of_its_element():
    fits = {
        header.number: {"DS", "IS"},
        header.integer: {"IS"},
        header.unsigned: {"US", "US or SS"},
        header.unsigned_long: {"UL"},
        header.single: {"FL"},
        header.double: {"FD"},
        header.date: {"DA"},
        header.time_of_day: {"TM"},
        header.age: {"AS"},
        header.uid: {"UI"},
    }
    for name, (tag, reader) in header.SUITE.items():
        if reader in fits:
            assert dictionary_VR(tag) in fits[reader], name
