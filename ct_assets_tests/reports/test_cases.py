"""Pages of the cases: planes on one scale, outlines where the mask is, nothing left behind."""

import numpy as np
import pytest

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.reports import cases
from ct_assets_tests.imaging.test_nifti_cohort import Cohort


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


def write(cohort, summary):
    return cases.write_pages(cohort.layout, summary.digests, made=summary.made_cases, workers=1)


def test_each_case_has_a_page_and_stands_on_the_sheet(cohort):
    sheet = write(cohort, cohort.build())
    page = sheet.read_text()
    for row in cohort.rows:
        case_id = row["case_id"]
        assert f"{case_id}.html" in page
        assert "2: GTV" in (sheet.parent / f"{case_id}.html").read_text()
        for suffix in (".png", "_small.png"):
            assert (sheet.parent / f"{case_id}{suffix}").read_bytes().startswith(b"\x89PNG")


def test_only_cases_that_were_made_are_drawn_again_and_those_gone_are_removed(cohort):
    sheet = write(cohort, cohort.build())
    before = {path.name: path.stat().st_mtime_ns for path in sheet.parent.glob("case_*")}
    write(cohort, cohort.build(rows=cohort.rows[:2]))
    after = {path.name: path.stat().st_mtime_ns for path in sheet.parent.glob("case_*")}
    assert {name for name in before if name.startswith("case_0002")} == set(before) - set(after)
    assert all(before[name] == after[name] for name in after)


def test_a_refused_case_says_why(cohort):
    rows = [*cohort.rows[:2], cohort.rows[2] | {"mask_sop_instance_uid": "1.2.3.4"}]
    sheet = write(cohort, cohort.build(rows=rows))
    assert "mask_object_missing" in sheet.read_text()
    assert "1 refused" in sheet.read_text()


def test_pictures_show_head_up_right_on_the_left_and_the_outline_round_the_mask():
    # Bright where the patient's left (+x), front (-y) and head (+z) are; mask in the middle.
    k, j, i = np.mgrid[:20, :40, :40]
    bright = (i >= 30) & (j < 10) & (k >= 15)
    mask = (abs(i - 20) < 4) & (abs(j - 20) < 4) & (abs(k - 10) < 3)
    grid = Grid.of((20, 40, 40), (1, 1, 2))
    hu = np.where(bright, 400, np.where(mask, 40, -1000)).astype(np.int16)
    sections = cases.planes(Volume(hu, grid), Volume(mask.astype(np.uint8), grid), "mediastinum")
    axial, coronal, sagittal = (section.picture for section in sections)
    assert axial.shape == coronal.shape == sagittal.shape  # 40 mm each way
    outline = (axial == cases.OUTLINE_RGB).all(axis=-1)
    rows, columns = np.nonzero(outline)
    scale = axial.shape[0] / 40
    assert rows.min() / scale == pytest.approx(17, abs=0.5)
    assert columns.max() / scale == pytest.approx(24, abs=0.5)
    flipped = Volume(hu[::-1], Grid(grid.shape, grid.affine_lps @ _flip_k(20)))
    again = cases.planes(flipped, Volume(mask[::-1].astype(np.uint8), flipped.grid), "mediastinum")
    np.testing.assert_array_equal(again[1].picture, coronal)
    assert [section.caption for section in again] == [section.caption for section in sections]


def test_a_section_tells_where_it_lies_in_the_patient():
    # 40 slices of 2 mm, the first at z = -30 mm; the mask in slice 25, at -30 + 25 * 2 = 20 mm: above the origin
    grid = Grid.of((40, 10, 10), (1, 1, 2), origin_lps_mm=(-7.0, 3.0, -30.0))
    mask = np.zeros(grid.shape, np.uint8)
    mask[25, 4, 2] = 1
    image = Volume(np.zeros(grid.shape, np.int16), grid)
    captions = [section.caption for section in cases.planes(image, Volume(mask, grid), "lung")]
    assert captions == [
        "axial S 20.0 mm, 26 of 40",
        "coronal P 7.0 mm, 5 of 10",
        "sagittal R 5.0 mm, 3 of 10",
    ]


def test_a_page_leads_to_the_viewer_and_says_how_to_open_the_files(cohort):
    sheet = write(cohort, cohort.build())
    page = (sheet.parent / "case_0000.html").read_text()
    assert "../../viewer/cases/case_0000" in page
    assert "itksnap -g nifti/imagesTr/case_0000.nii.gz -s nifti/labelsTr/case_0000.nii.gz" in page


def _flip_k(count):
    flip = np.eye(4)
    flip[2, 2], flip[2, 3] = -1, count - 1
    return flip
