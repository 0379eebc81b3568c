"""Contour Data as files have it: padding is none of it, what is damaged is named, nothing is half read."""

import numpy as np
import pytest

from ct_assets.dicom.contour_text import DAMAGED, REPAIRED, read

TRIANGLE = [[0.5, 1, -2], [3, 4.25, -2], [5, 6, -2]]
TEXT = b"0.5\\1\\-2\\3\\4.25\\-2\\5\\6\\-2"


def one(text, stated=None):
    (points,) = read([text], [stated])
    return points


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT + b" ",
        TEXT + b"\0",
        TEXT + b" \0",
        TEXT.replace(b"\\", b" \\ "),
        TEXT.replace(b"\\", b"\\\r\n"),
        TEXT.replace(b"3\\", b"+3.0E+00\\"),
        TEXT.replace(b"3\\", b"3\0\\"),
    ],
)
def test_padding_and_blanks_change_nothing(text):
    found = one(text, 3)
    np.testing.assert_array_equal(found.points, TRIANGLE)
    assert not found.fault


@pytest.mark.parametrize("text", [TEXT + b"\\", TEXT + b"\\ ", TEXT.replace(b".", b",")])
def test_what_can_be_repaired_is_and_is_told(text):
    found = one(text, 3)
    np.testing.assert_array_equal(found.points, TRIANGLE)
    assert found.fault == REPAIRED


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (TEXT, 4),
        (TEXT[: TEXT.rindex(b"\\")], 3),
        (TEXT.replace(b"4.25", b"x"), 3),
        (TEXT.replace(b"4.25", b""), 3),
        (TEXT.replace(b"4.25", b"nan"), 3),
        (TEXT.replace(b"4.25", b"1_0"), 3),
        (TEXT.replace(b"4.25", b"1,234.5"), 3),
        (b"", 3),
    ],
)
def test_what_is_damaged_is_never_half_read(text, stated):
    found = one(text, stated)
    assert found.points is None
    assert found.fault == DAMAGED


def test_many_are_read_as_one_by_one():
    points = np.random.default_rng(0).uniform(-400, 400, (60, 40, 3)).round(3)
    texts = [b"\\".join(b"%.3f" % v for v in one.ravel()) for one in points]
    texts[7] = texts[7] + b"\0"
    texts[9] = texts[9].replace(b"\\", b" \\", 1)
    for found, wanted in zip(read(texts, [40] * 60), points, strict=True):
        np.testing.assert_array_equal(found.points, wanted)
