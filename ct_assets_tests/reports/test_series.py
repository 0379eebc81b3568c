"""Pictures of refused series: one each, none for the others, and the same bytes again."""

import pytest

from ct_assets.reports.series import write_refused
from ct_assets_tests.dicom.factory import ct_series, ct_slice, grouped, move


def gapped():
    slices = ct_series()
    del slices[4]
    return slices


def unplaced():
    return [ct_slice(number, (0, 0, number), ImageOrientationPatient=None) for number in range(4)]


def untold():
    return ct_series(4, ImagePositionPatient=None)


def doubled():
    slices = ct_series()
    return [*slices, ct_slice(40, slices[2].ImagePositionPatient)]


def tilted():
    slices = ct_series()
    move(slices, lambda number: (0, number, 0))
    return slices


@pytest.mark.parametrize("make", [gapped, unplaced, untold, doubled, tilted])
def test_a_refused_series_has_a_picture(tmp_path, make):
    found = grouped(tmp_path / "dicom", make())
    assert write_refused(found, tmp_path / "out") == 1
    (picture,) = (tmp_path / "out").iterdir()
    assert picture.stem == found[0].series_id
    first = picture.read_bytes()
    write_refused(found, tmp_path / "out")
    assert picture.read_bytes() == first


def test_a_good_series_has_none_and_loses_an_old_one(tmp_path):
    write_refused(grouped(tmp_path / "bad", gapped()), tmp_path / "out")
    assert write_refused(grouped(tmp_path / "good", ct_series()), tmp_path / "out") == 0
    assert list((tmp_path / "out").iterdir()) == []
