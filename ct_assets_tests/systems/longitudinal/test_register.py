"""`ct-assets longitudinal register`: the files of the contract, equal bytes, boxes, and images that cannot be used."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Volume
from ct_assets_tests.imaging.bodies import body, grid

SHIFT = np.array([12.0, -8.0, 16.0])
BOXES = "box_id,x0,y0,z0,x1,y1,z1\nnodule,10,10,10,20,22,24\nedge,100,0,0,400,10,10\naway,900,0,0,910,5,5\n"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    matrix = np.eye(4)
    matrix[:3, 3] = -SHIFT
    nifti.write(folder / "fixed.nii.gz", body(grid()))
    nifti.write(folder / "moving.nii.gz", body(grid(), matrix=matrix))
    (folder / "boxes.csv").write_text(BOXES)
    return folder


def command(*arguments):
    return CliRunner().invoke(app, ["longitudinal", "register", *map(str, arguments)])


@pytest.fixture(scope="module")
def output(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    ended = command(
        images / "fixed.nii.gz", images / "moving.nii.gz", folder, "--boxes", images / "boxes.csv"
    )
    assert ended.exit_code == 0, ended.output
    return folder


class TestTheFiles:
    def test_both_matrices_are_named_and_inverse_to_each_other(self, output):
        transform = json.loads((output / "transform.json").read_text())
        forward = np.array(transform["matrix_fixed_to_moving"])
        np.testing.assert_allclose(forward[:3, 3], SHIFT, atol=0.5)
        np.testing.assert_allclose(forward @ transform["matrix_moving_to_fixed"], np.eye(4), atol=1e-9)
        np.testing.assert_allclose(transform["translation_mm"], SHIFT, atol=0.5)
        assert transform["rotation_deg"] < 0.2
        assert transform["kind"] == "rigid"

    def test_the_itk_transform_is_the_same_map(self, output):
        matrix = np.array(json.loads((output / "transform.json").read_text())["matrix_fixed_to_moving"])
        itk = SimpleITK.ReadTransform(str(output / "transform.tfm"))
        np.testing.assert_allclose(
            itk.TransformPoint((1.0, 2.0, 3.0)), (matrix @ [1, 2, 3, 1])[:3], atol=1e-9
        )

    def test_the_registered_image_lies_on_the_fixed_grid_with_air_outside(self, images, output):
        fixed, registered = nib.load(images / "fixed.nii.gz"), nib.load(output / "registered.nii.gz")
        assert registered.shape == fixed.shape
        np.testing.assert_allclose(registered.affine, fixed.affine, atol=1e-5)
        values = np.asarray(registered.dataobj)
        assert (values[-2:] == -1000).all()  # 12 mm at this side lie beyond the moving image
        inner = (slice(8, -8),) * 3
        assert np.abs(values[inner] - np.asarray(fixed.dataobj)[inner].astype(float)).mean() < 20

    def test_boxes_are_carried_into_the_fixed_space_and_none_is_lost(self, output):
        with (output / "boxes.csv").open() as stream:
            rows = {row["box_id"]: row for row in csv.DictReader(stream)}
        low = [float(rows["nodule"][f"{axis}0"]) for axis in "xyz"]
        np.testing.assert_allclose(low, np.array([10, 10, 10]) - SHIFT, atol=0.6)
        assert {name: row["status"] for name, row in rows.items()} == {
            "nodule": "ok",
            "edge": "clipped",
            "away": "outside",
        }

    def test_the_report_says_what_was_seen(self, output):
        report = json.loads((output / "report.json").read_text())
        assert report["status"] == "ok"
        assert report["similarity_after"] > report["similarity_before"]
        assert json.loads((output / "timings.json").read_text())

    def test_a_second_run_writes_the_same_bytes(self, images, output, tmp_path):
        command(images / "fixed.nii.gz", images / "moving.nii.gz", tmp_path, "--boxes", images / "boxes.csv")
        for name in ("transform.json", "transform.tfm", "registered.nii.gz", "boxes.csv", "report.json"):
            assert (tmp_path / name).read_bytes() == (output / name).read_bytes(), name


def test_an_empty_image_is_refused_by_a_reason_and_leaves_no_transform(images, tmp_path):
    nifti.write(tmp_path / "empty.nii.gz", Volume(np.full(grid().shape, -1000, np.int16), grid()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "transform.json").write_text("of an earlier run")
    ended = command(images / "fixed.nii.gz", tmp_path / "empty.nii.gz", tmp_path / "out")
    assert ended.exit_code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["status"], report["reasons"]) == ("refused", ["registration_image_empty"])
    assert not (tmp_path / "out" / "transform.json").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("box_id,x0,y0,z0,x1,y1\n", "z1"),
        ("box_id,x0,y0,z0,x1,y1,z1\na,0,0,0,1,1,nan\n", "line 2: z1"),
        ("box_id,x0,y0,z0,x1,y1,z1\na,0,0,0,1,1,1\na,0,0,0,1,1,1\n", "twice"),
        ("box_id,x0,y0,z0,x1,y1,z1\n\na,0,0,0,0,1,1\n", "line 3: x1"),
        ("box_id,x0,y0,z0,x1,y1,z1\na,0,0,0,1,1,1,9\n", "8 cells"),
    ],
)
def test_a_table_of_boxes_that_cannot_be_used_names_line_and_column(table, says, images, tmp_path):
    (tmp_path / "boxes.csv").write_text(table)
    ended = command(
        images / "fixed.nii.gz", images / "moving.nii.gz", tmp_path, "--boxes", tmp_path / "boxes.csv"
    )
    assert says in str(ended.exception)


def test_a_path_that_is_not_there_is_named(images, tmp_path):
    ended = command(images / "fixed.nii.gz", tmp_path / "nothing.nii.gz", tmp_path / "out")
    assert "nothing.nii.gz: no such file" in str(ended.exception)
