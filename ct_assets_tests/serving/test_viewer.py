"""The viewer's data: findings where the tumour is on any grid, and no address that leads out of the data root."""

import gzip

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from ct_assets import tables
from ct_assets.layout import Layout
from ct_assets.serving import viewable, viewer
from ct_assets.tables.learning import SegmentationScores
from ct_assets_tests.imaging.test_nifti_cohort import Cohort
from ct_assets_tests.serving.volumes import SHAPE, TUMOUR_RADIUS_MM, TUMOUR_RAS_MM, affine, write_result

ORIENTATIONS = ("plain", "flipped", "oblique")


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A data root with three cases, an experiment's scores of two of them, and three inference results."""
    cohort = Cohort(tmp_path_factory.mktemp("platform"))
    cohort.build()
    layout = cohort.layout
    for name in ORIENTATIONS:
        write_result(layout.root / "serving/results/job" / name, name)
    score = dict.fromkeys(SegmentationScores.column_names(), 0) | dict.fromkeys(("nsd", "lesion_f1"), 0.5)
    rows = [
        score | {"model": "model", "case_id": case_id, "patient_id": "P", "fold": "0", "stage": "I", "site": "a",
                 "scanner": "s", "dice": dice, "is_missed": False}
        for case_id, dice in (("case_0000", 0.9), ("case_0001", 0.3))
    ]  # fmt: skip
    path = layout.experiment("lung") / "segmentation_scores.parquet"
    tables.write_table(path, tables.frame(rows, SegmentationScores), SegmentationScores)
    return layout


@pytest.fixture(scope="module")
def client(platform):
    return TestClient(viewer.application(platform))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_finding_is_where_the_tumour_is_whatever_the_grid(client, orientation):
    view = client.get(f"/results/job~{orientation}/view.json").json()
    (finding,) = view["findings"]
    np.testing.assert_allclose(finding["center_ras_mm"], TUMOUR_RAS_MM, atol=3)
    assert finding["volume_ml"] == pytest.approx(4 / 3 * np.pi * TUMOUR_RADIUS_MM**3 / 1000, rel=0.05)
    voxel = np.array(view["voxel_of_ras_mm"]) @ [*TUMOUR_RAS_MM, 1]
    np.testing.assert_allclose(affine(orientation) @ voxel, [*TUMOUR_RAS_MM, 1], atol=1e-3)
    assert (voxel[:3] > 0).all()
    assert (voxel[:3] < SHAPE).all()


def test_separate_parts_of_a_mask_are_findings_of_their_own_the_largest_first(tmp_path):
    import nibabel

    array = np.zeros((20, 20, 20), np.uint8)
    array[2:4, 2:4, 2:4] = 1
    array[10:14, 10:14, 10:14] = 2
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 2, 1])), tmp_path / "mask.nii.gz")
    large, small = viewable.findings(viewable.Mask("m", "m", tmp_path / "mask.nii.gz"))
    assert (large.label, large.volume_ml) == (2, pytest.approx(64 * 2 / 1000))
    assert (small.label, small.volume_ml) == (1, pytest.approx(8 * 2 / 1000))
    assert array[tuple(int(mm / step) for mm, step in zip(large.center_ras_mm, (1, 1, 2), strict=True))] == 2


def test_a_case_is_served_with_its_mask_and_its_neighbours(client, platform):
    view = client.get("/cases/case_0001/view.json").json()
    assert (view["previous"], view["next"]) == ("case_0000", "case_0002")
    assert [mask["key"] for mask in view["masks"]] == ["reference"]
    image = client.get("/cases/case_0001/image.nii.gz")
    assert image.content == (platform.root / "nifti/imagesTs/case_0001.nii.gz").read_bytes()
    assert image.headers["cache-control"] == "no-store"
    assert gzip.decompress(client.get("/cases/case_0001/masks/reference.nii.gz").content)
    assert "case_0001" in client.get("/cases/case_0001").text


def test_a_case_has_its_small_picture_once_its_page_is_written(client, platform):
    picture = platform.reports / "cases/case_0001_small.png"
    assert client.get("/cases/case_0001/small.png").status_code == 404
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    assert client.get("/cases/case_0001/small.png").content == b"picture"


@pytest.mark.parametrize("address", [
    "/cases/case_9999", "/cases/case_0000/masks/other.nii.gz", "/cases/..%2f..%2fplatform.json/image.nii.gz",
    "/results/..~..~nifti/image.nii.gz", "/results/job~..~..~x/view.json", "/results/.~job/view.json",
    "/results/%00/view.json", "/elsewhere/case_0000", "/static/..%2fviewer.py", "/static/viewer.py",
])  # fmt: skip
def test_what_is_no_item_is_not_found(client, address):
    assert client.get(address).status_code == 404


def test_a_table_that_names_a_file_outside_of_the_data_root_opens_nothing(tmp_path):
    cohort = Cohort(tmp_path / "data")
    cohort.build()
    (tmp_path / "secret.nii.gz").write_bytes(b"secret")
    digests = pl.read_parquet(cohort.layout.nifti_digests)
    digests.with_columns(image=pl.lit("../secret.nii.gz")).write_parquet(cohort.layout.nifti_digests)
    assert (
        TestClient(viewer.application(cohort.layout)).get("/cases/case_0000/image.nii.gz").status_code == 404
    )


def test_a_link_out_of_the_results_opens_nothing(tmp_path):
    write_result(tmp_path / "elsewhere", "plain")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(viewable.NotViewableError):
        viewable.Results(tmp_path / "results").item("job")


def test_pages_run_only_scripts_of_this_server(client):
    for address in ("/", "/cases/case_0000"):
        policy = client.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy


class TestGallery:
    """Filters of the gallery over the platform's tables."""

    def shown(self, client, query):
        page = client.get(f"/?{query}").text
        return [case for case in ("case_0000", "case_0001", "case_0002") if f'href="cases/{case}"' in page]

    def test_without_filters_all_cases_are_shown(self, client):
        assert self.shown(client, "") == ["case_0000", "case_0001", "case_0002"]

    def test_dice_of_an_experiment_selects(self, client):
        assert self.shown(client, "experiment=lung&dice_below=0.5") == ["case_0001"]
        assert self.shown(client, "experiment=lung&dice_from=0.5") == ["case_0000"]

    def test_spacing_selects(self, client):
        assert self.shown(client, "thicker=1000") == []
        assert len(self.shown(client, "thinner=1000")) == 3

    def test_what_is_no_number_or_no_experiment_is_said(self, client):
        assert "needs a number" in client.get("/?dice_below=high").text
        assert "no experiment of this name" in client.get("/?experiment=..%2fx").text

    def test_a_platform_without_cases_has_an_empty_gallery(self, tmp_path):
        assert "0 of 0 cases" in TestClient(viewer.application(Layout(tmp_path))).get("/").text
