"""Who is in which fold, what inner validation decides, and windows that change with their targets."""

import numpy as np
import pytest

from ct_assets.imaging.store import Store
from ct_assets.imaging.volume import Volume
from ct_assets.systems.nodules import folds, patches, scans, volumes
from ct_assets.systems.nodules.decisions import decide
from ct_assets.systems.nodules.marks import Evaluated, Mark, Truth
from ct_assets_tests.systems.nodules.test_classical import GRIDS, NODULES, chest
from ct_assets_tests.systems.nodules.test_task import invented

PATIENTS = {f"p{number}": number % 4 != 0 for number in range(20)}


def test_every_patient_is_in_one_fold_and_folds_have_alike_shares_with_nodules():
    placed = folds.assign(PATIENTS, 5, seed=1)
    assert placed.keys() == PATIENTS.keys()
    members = [[one for one, fold in placed.items() if fold == number] for number in range(5)]
    assert {len(own) for own in members} == {4}
    assert {sum(PATIENTS[one] for one in own) for own in members} == {3}
    assert placed == folds.assign(dict(reversed(PATIENTS.items())), 5, seed=1)
    assert placed != folds.assign(PATIENTS, 5, seed=2)
    with pytest.raises(ValueError, match="folds"):
        folds.assign({"a": True}, 2, seed=0)


def test_inner_validation_takes_its_share_of_both_and_leaves_some_to_learn_from():
    inner = folds.inner(PATIENTS, 0.2, seed=0)
    assert sum(PATIENTS[one] for one in inner) == 3
    assert len(inner) == 4
    assert folds.inner({"a": True, "b": True, "c": False}, 0.4, seed=0) in ({"a"}, {"b"})
    with pytest.raises(ValueError, match="two training patients"):
        folds.inner({"a": True, "b": False}, 0.2, seed=0)


def test_the_threshold_is_the_least_score_with_at_most_so_many_false_marks():
    truths = [
        Truth("a", (0, 0, 0), 10.0),
        Truth("b", (0, 0, 0), 10.0),
        Truth("a", (90, 0, 0), -1, is_excluded=True),
    ]
    marks = [
        Mark("a", (1, 0, 0), 0.9), Mark("a", (50, 0, 0), 0.8), Mark("b", (50, 0, 0), 0.7), Mark("b", (0, 1, 0), 0.6),
        Mark("a", (60, 0, 0), 0.5), Mark("a", (90, 0, 0), 0.95),
    ]  # fmt: skip
    data = Evaluated(["a", "b"], truths, marks)
    one = decide(data, false_marks_per_scan=1.0, calibration="none")
    assert 0.5 < one.threshold < 0.6
    assert (one.sensitivity, one.false_marks, one.scans) == (1.0, 1.0, 2)
    half = decide(data, false_marks_per_scan=0.5, calibration="none")
    assert 0.7 < half.threshold < 0.8
    assert (half.sensitivity, half.false_marks) == (0.5, 0.5)
    many = decide(data, false_marks_per_scan=9, calibration="none")
    assert many.threshold == 0.5


def test_a_chest_is_cut_to_its_lungs_and_keeps_its_places():
    prepared = volumes.prepare(chest(GRIDS["oblique"]), 1.5)
    grid = prepared.image.grid
    assert np.allclose(grid.spacing_mm, 1.5)
    assert prepared.image.array.size * grid.voxel_volume_ml < 0.9 * np.prod(GRIDS["oblique"].shape) * 1.25e-3
    for centre in NODULES.values():
        k, j, i = np.rint(grid.index(np.array(centre))[::-1]).astype(int)
        assert prepared.image.array[k, j, i] > -100
        assert prepared.lungs[k, j, i]


def test_a_stored_volume_gives_the_windows_of_one_in_memory(tmp_path):
    case = invented(3, count=2, side=30)
    store = Store(tmp_path)
    rounded = Volume(np.rint(case.image.array).astype(np.int16), case.image.grid)
    store.put("ab01", rounded, {})
    store.put("ab02", case.mask, {})
    stored = patches.NoduleCase(
        case.scan, volumes.StoredImage.open(tmp_path, "ab01"), case.centres_lps, case.diameters_mm,
        volumes.StoredImage.open(tmp_path, "ab02"), case.is_urgent,
    )  # fmt: skip
    held = patches.NoduleCase(
        case.scan, rounded, case.centres_lps, case.diameters_mm, case.mask, case.is_urgent
    )
    for start in ((0, 0, 0), (10, 12, 14), (20, 20, 20)):
        one, other = (patches.window(each, start, (16, 16, 16), augment=5) for each in (stored, held))
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_image_mask_centre_and_size_change_together():
    case = invented(1, count=1, side=40)
    changes = 0
    for seed in range(8):
        cut = patches.window(case, (4, 4, 4), (32, 32, 32), augment=seed)
        plain = patches.window(case, (4, 4, 4), (32, 32, 32))
        if not cut["is_centre"].any():
            continue
        (centre,) = np.argwhere(cut["is_centre"][0])
        exact = centre + cut["offset"][(slice(None), *centre)]
        middle = np.argwhere(cut["mask"][0] > 0).mean(axis=0)
        assert np.linalg.norm(exact - middle) < 0.7
        k, j, i = centre
        assert cut["image"][0, k, j, i] > 0.5
        size = cut["size_mm"][(slice(None), *centre)]
        volume = (cut["mask"] > 0).sum()
        assert np.cbrt(6 / np.pi * volume) == pytest.approx(float(np.cbrt(np.prod(size))), rel=0.12)
        changes += not np.array_equal(cut["mask"], plain["mask"])
    assert changes >= 3


def test_types_follow_texture_and_calcification():
    assert scans.kind_of(5.0, 6.0) == "solid"
    assert scans.kind_of(1.5, 6.0) == "ground_glass"
    assert scans.kind_of(3.0, None) == "part_solid"
    assert scans.kind_of(5.0, 3.0) == "calcified"
    assert scans.kind_of(None, 6.0) is None
