"""`ct-assets convert`: a folder of DICOM to volumes, label maps and a line for every object."""

import json
import os

import nibabel as nib
import numpy as np
import pytest

from ct_assets import files, parallel, reasons
from ct_assets.dicom import splitting
from ct_assets.errors import UsageError
from ct_assets.imaging import convert_tree
from ct_assets.imaging.convert_tree import convert
from ct_assets.settings import Settings
from ct_assets_tests.imaging.ct_factory import ct_series, seg_of, structure_set

SHAPE = (6, 9, 11)


def mask(rows=slice(2, 6)):
    drawn = np.zeros(SHAPE, dtype=bool)
    drawn[1:4, rows, 3:8] = True
    return drawn


@pytest.fixture
def tree(tmp_path):
    """One good series with three masks, a localizer, a gapped series, a stray file."""
    good = ct_series(shape=SHAPE, name="good")
    good.save(tmp_path / "in/a")
    gapped = ct_series(shape=(9, 9, 11), name="gapped", patient="P2")
    gapped_seg = seg_of(gapped, {1: np.ones((9, 9, 11), bool)}, kind="LABELMAP")
    del gapped.slices[4]
    gapped.save(tmp_path / "in/b")
    localizer = ct_series(shape=(1, 9, 30), name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    localizer.save(tmp_path / "in/c")
    seg_of(good, {1: mask()}).save_as(tmp_path / "in/one.dcm")
    seg_of(good, {1: mask(), 2: mask(slice(4, 8))}).save_as(tmp_path / "in/two.dcm")
    gapped_seg.save_as(tmp_path / "in/gapped.dcm")
    lost = structure_set(ct_series(name="never delivered", patient="P1"), {"GTV": []}, name="lost")
    lost.save_as(tmp_path / "in/lost.dcm", enforce_file_format=True)
    (tmp_path / "in/readme.txt").write_text("no DICOM")
    return tmp_path / "in", good


def run(folder, output, workers=1):
    convert(folder, output, Settings(), workers=workers)
    return files.read_jsonl(output / "conversion.jsonl")


def test_every_object_has_one_line_with_its_outcome(tree, tmp_path):
    lines = run(tree[0], tmp_path / "out")
    outcomes = sorted((line["kind"], line["status"], *line["reasons"]) for line in lines)
    assert outcomes == [
        ("ct", "converted"),
        ("ct", "refused", "missing_slices"),
        ("file", "refused", "no_dicom_file"),
        ("localizer", "refused", "localizer"),
        ("rtstruct", "refused", "mask_references_missing_series"),
        ("seg", "converted"),
        ("seg", "converted"),
        ("seg", "refused", "referenced_series_refused"),
    ]
    for line in lines:
        for code in (*line["reasons"], *line["warnings"]):
            reasons.reason(code)


def test_the_line_of_a_series_says_what_its_file_holds(tree, tmp_path):
    folder, good = tree
    (line,) = [x for x in run(folder, tmp_path / "out") if (x["kind"], x["status"]) == ("ct", "converted")]
    image = nib.load(tmp_path / "out" / line["path"])
    assert line["path"] == f"{good.slices[0].SeriesInstanceUID}/image.nii.gz"
    assert tuple(line["shape"]) == image.shape
    np.testing.assert_allclose(line["affine"], image.affine, atol=1e-4)
    np.testing.assert_allclose(line["spacing"], image.header.get_zooms(), atol=1e-5)
    assert line["slices_used"] == [ds.SOPInstanceUID for ds in good.slices]
    assert line["slices_left_out"] == []


def test_labels_lie_on_exactly_the_images_grid(tree, tmp_path):
    folder, good = tree
    out = tmp_path / "out"
    lines = run(folder, out)
    image = nib.load(out / good.slices[0].SeriesInstanceUID / "image.nii.gz")
    for line in lines:
        for path in line.get("paths", []):
            label = nib.load(out / path)
            assert label.shape == image.shape
            np.testing.assert_array_equal(label.affine, image.affine)


def test_overlapping_segments_get_a_file_each_and_others_share_one(tree, tmp_path):
    folder, good = tree
    out = tmp_path / "out"
    run(folder, out)
    series = out / good.slices[0].SeriesInstanceUID
    names = sorted((path.name for path in series.glob("label_*")), key=lambda name: (name.count("_"), name))
    assert [name.count("_") for name in names] == [1, 2, 2]
    alone = np.asanyarray(nib.load(series / names[0]).dataobj)
    np.testing.assert_array_equal(alone.transpose(2, 1, 0), mask())
    second = np.asanyarray(nib.load(series / names[2]).dataobj)
    assert names[2].endswith("_2.nii.gz")
    np.testing.assert_array_equal(second.transpose(2, 1, 0), 2 * mask(slice(4, 8)).astype(int))


def test_segments_keep_names_codes_and_volumes(tree, tmp_path):
    folder, good = tree
    out = tmp_path / "out"
    run(folder, out)
    told = json.loads((out / good.slices[0].SeriesInstanceUID / "segments.json").read_text())
    assert len(told) == 2
    segments = max((record["segments"] for record in told.values()), key=len)
    assert [(s["number"], s["label"], s["type"]["meaning"]) for s in segments] == [
        (1, "GTV-1", "Neoplasm"),
        (2, "GTV-2", "Neoplasm"),
    ]
    assert segments[0]["voxels"] == 3 * 4 * 5
    assert segments[0]["volume_ml"] == pytest.approx(60 * 0.7 * 0.9 * 2.5 / 1000, rel=1e-3)


def test_two_runs_and_any_number_of_workers_give_the_same_bytes(tree, tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        run(tree[0], tmp_path / name, workers)
    first, second = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("a", "b")
    )
    assert first == second


def test_a_series_that_is_gone_leaves_no_folder_behind(tree, tmp_path):
    folder, good = tree
    run(folder, tmp_path / "out")
    for path in (folder / "a").iterdir():
        path.unlink()
    run(folder, tmp_path / "out")
    assert not (tmp_path / "out" / good.slices[0].SeriesInstanceUID).exists()


def test_no_folder_and_an_empty_folder_are_refused_with_a_line(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no file"):
        run(tmp_path / "empty", tmp_path / "out")


@pytest.mark.real
@pytest.mark.slow
class TestRealCohort:
    def test_images_and_masks_equal_the_independent_ones(self, real_data, tmp_path):
        for week in ("2024-03-week1", "2024-03-week2"):
            self.check_week(real_data, tmp_path / week, week)

    def check_week(self, real_data, out, week):
        lines = run(real_data / "lung_cohort/drops" / week, out)
        patients = {x["uid"]: x["patient_id"] for x in lines if x["kind"] == "ct"}
        for line in lines:
            patient = (patients.get(line.get("series_id")) or "").strip()
            truth = real_data / "masks_truth" / f"{patient}_mask.nii.gz"
            if line["status"] != "converted" or line["kind"] == "ct" or not truth.exists():
                continue
            image = nib.load(out / line["series_id"] / "image.nii.gz")
            expected = nib.load(real_data / "masks_truth" / f"{patient}_image.nii.gz")
            np.testing.assert_array_equal(np.asanyarray(image.dataobj), np.asanyarray(expected.dataobj))
            np.testing.assert_allclose(image.affine, expected.affine, atol=1e-3)
            drawn = np.asanyarray(nib.load(out / line["path"]).dataobj) > 0
            given = np.asanyarray(nib.load(truth).dataobj) > 0
            dice = 2 * (drawn & given).sum() / (drawn.sum() + given.sum())
            assert dice == 1.0 if line["kind"] == "seg" else dice >= 0.95


class TestWhatNobodyForesaw:
    """One object that breaks something is one line; the others are converted."""

    def test_an_error_without_a_code_is_a_line_of_its_series(self, tree, tmp_path, monkeypatch):
        ct_series(shape=SHAPE, name="second", patient="P3").save(tree[0] / "d")
        right = convert_tree.load_series

        def wrong(series, *rest):
            if series.patient_id == "P1":
                raise ZeroDivisionError("the text could carry values")
            return right(series, *rest)

        monkeypatch.setattr(convert_tree, "load_series", wrong)
        lines = run(tree[0], tmp_path / "out")
        told = {line["patient_id"]: line for line in lines if line["kind"] == "ct"}
        assert (told["P1"]["status"], told["P1"]["reasons"]) == ("refused", ["unexpected_failure"])
        assert told["P1"]["failure"] == "ZeroDivisionError"
        assert told["P3"]["status"] == "converted"
        assert "the text" not in (tmp_path / "out/conversion.jsonl").read_text()
        assert [line["reasons"] for line in lines if line["kind"] == "seg"] == [
            ["referenced_series_refused"]
        ] * 3

    def test_an_error_in_a_mask_leaves_its_image(self, tree, tmp_path, monkeypatch):
        def wrong(*_):
            raise KeyError

        monkeypatch.setattr(convert_tree, "load_mask", wrong)
        lines = run(tree[0], tmp_path / "out")
        assert [line["reasons"] for line in lines if line["kind"] == "seg"] == [
            ["unexpected_failure"],
            ["unexpected_failure"],
            ["referenced_series_refused"],
        ]
        assert sum(line["status"] == "converted" for line in lines) == 1

    def test_headers_that_break_the_measuring_refuse_their_series(self, tree, tmp_path, monkeypatch):
        ct_series(shape=SHAPE, name="second", patient="P3").save(tree[0] / "d")
        right = splitting.split

        def wrong(slices, settings):
            if len(slices) == 8:  # the gapped series
                raise ValueError
            return right(slices, settings)

        monkeypatch.setattr(splitting, "split", wrong)
        told = [
            (line["status"], *line["reasons"])
            for line in run(tree[0], tmp_path / "out")
            if line["kind"] == "ct"
        ]
        assert sorted(told) == [("converted",), ("converted",), ("refused", "unexpected_failure")]


def fall_over_at_three(number):
    if number == 3:
        os._exit(9)  # what a decoder's segmentation fault does
    return number * 10


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_an_item_that_takes_its_process_down_takes_no_other_with_it(workers):
    found = parallel.map_surviving(fall_over_at_three, range(7), instead=lambda _: -1, workers=workers)
    assert list(found) == [0, 10, 20, -1, 40, 50, 60]
