"""The phantom with nodules, and its four readers through `nodules lidc` end to end."""

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ct_assets.phantom import headers, nodule_readers, nodules, objects, people, scanner
from ct_assets.systems.nodules import lidc_folder, outlines

COARSE = replace(scanner.SCANNERS[0], matrix=176, step_mm=3.0, thickness_mm=3.0, slices=50, blur_mm=0.6)


@pytest.fixture(scope="module")
def cases():
    return [nodules.Case.invent(seed) for seed in range(14)]


def test_cases_follow_the_seed_and_hold_what_they_should(cases):
    assert nodules.Case.invent(3) == cases[3]
    counts = [len(case.nodules) for case in cases]
    assert 1 <= counts.count(0) <= 7
    assert max(counts) <= 6
    all_of_them = [nodule for case in cases for nodule in case.nodules]
    assert {nodule.kind for nodule in all_of_them} == set(nodules.TYPES)
    places = Counter(nodule.place for nodule in all_of_them)
    assert set(places) == {"free", "wall", "fissure", "vessel"}
    assert 0.15 < places["wall"] / len(all_of_them) < 0.5
    assert all(3.99 < nodule.diameter_mm < 20.01 for nodule in all_of_them)
    assert all(2 <= dot.diameter_mm <= 3 for case in cases for dot in case.dots)


def test_a_nodule_lies_where_it_was_planted_on_an_oblique_grid_from_head_to_feet():
    case = nodules.Case.invent(5, count=4)
    machine = replace(COARSE, matrix=120, head_first=False, oblique_deg=12.0, noise_hu=0.0)
    grid, hu, labels = nodules.scan(case, machine, np.random.default_rng(0))
    for number, nodule in enumerate(case.nodules):
        voxels = np.argwhere(labels == number + 1)
        assert np.linalg.norm(grid.world(voxels[:, ::-1].mean(axis=0)) - nodule.centre_mm) < 1.5
        if nodule.diameter_mm > 8:
            volume = len(voxels) * grid.voxel_volume_ml * 1000
            assert volume == pytest.approx(np.pi / 6 * nodule.diameter_mm**3, rel=0.25)
        if nodule.kind in ("solid", "calcified") and nodule.diameter_mm > 8:
            assert hu[labels == number + 1].mean() > -250


def test_fine_protocols_have_the_spacings_of_chest_ct():
    drawn = [
        nodules.fine(machine, np.random.default_rng(seed))
        for seed, machine in enumerate(scanner.SCANNERS * 3)
    ]
    spacing = np.array([machine.grid().spacing_mm for machine in drawn])
    assert ((spacing[:, :2] > 0.59) & (spacing[:, :2] < 0.91)).all()
    assert ((spacing[:, 2] >= 1.0) & (spacing[:, 2] <= 2.5)).all()
    assert {machine.head_first for machine in drawn} == {True, False}
    assert any(machine.oblique_deg for machine in drawn)


def test_the_ring_around_a_disc_encloses_exactly_the_disc():
    j, i = np.indices((30, 34))
    for a, b, x, y in (
        (0.4, 0.4, 15, 14),
        (1.5, 1, 15, 14),
        (9, 3, 15.3, 14.6),
        (3.2, 8.8, 16.5, 15),
        (12, 11, 16, 15),
    ):
        mask = ((i - x) / a) ** 2 + ((j - y) / b) ** 2 <= 1
        inside, _ = outlines.pixels(nodule_readers.ring(mask).astype(np.int64), 34)
        assert np.array_equal(inside, np.flatnonzero(mask))


def _read(tmp_path, machine, jitter, seed=5):
    case = nodules.Case.invent(seed, count=4)
    rng = np.random.default_rng(seed)
    grid = machine.grid()
    hu = np.zeros(grid.shape, dtype=np.int16)
    person = people.invent(1, rng)
    study = headers.study_header(person, "20240110", "101112", "n")
    slices = objects.ct_slices(study, headers.ct_header(person, machine, "n", "T"), machine, grid, hu, "n")
    for number, one in enumerate(slices):
        objects.save(one, tmp_path / "images" / f"{number}.dcm")
    text = nodule_readers.message(
        case, grid, slices[0].SeriesInstanceUID, [one.SOPInstanceUID for one in slices], rng, jitter=jitter
    )
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml/1.xml").write_text(text)
    read = lidc_folder.run(tmp_path / "xml", tmp_path / "out", tmp_path / "images", workers=1)
    assert [(file.disposition, file.reasons) for file in read] == [("read", [])]
    tables = {
        name: pl.read_parquet(tmp_path / f"out/{name}.parquet") for name in ("scans", "marks", "nodules")
    }
    return case, grid, tables


@pytest.mark.parametrize("is_oblique", [False, True])
def test_readers_who_agree_give_the_planted_nodules_back(tmp_path, is_oblique):
    machine = replace(COARSE, oblique_deg=10.0, head_first=False) if is_oblique else COARSE
    case, grid, tables = _read(tmp_path, machine, jitter=0.0)
    assert tables["scans"]["sessions"].to_list() == [4]
    found = tables["nodules"]
    assert len(found) == len(case.nodules)
    assert found["readers"].to_list() == [4] * len(found)
    k, j, i = np.indices(grid.shape)
    points = grid.world(np.stack([i, j, k], axis=-1).astype(float))
    for nodule in case.nodules:
        mask = nodule.contains(points)
        centre = points[mask].mean(axis=0)
        away = np.linalg.norm(found.select("x_mm", "y_mm", "z_mm").to_numpy() - centre, axis=1)
        assert away.min() < 0.01
        row = found.row(int(away.argmin()), named=True)
        assert row["consensus_voxels"] == mask.sum()
        assert row["texture"] == nodule_readers.TEXTURE[nodule.kind]
    kinds = Counter(tables["marks"]["kind"].to_list())
    assert kinds["nodule_lt3"] == 4 * len(case.dots)


def test_readers_who_differ_give_nodules_near_the_planted_ones(tmp_path):
    case, _, tables = _read(tmp_path, COARSE, jitter=1.0)
    found = tables["nodules"].filter("in_reference")
    centres = found.select("x_mm", "y_mm", "z_mm").to_numpy()
    assert len(found) >= 3
    for nodule in case.nodules:
        near = np.linalg.norm(centres - nodule.centre_mm, axis=1)
        if near.min() < 3:
            assert found["diameter_mm"][int(near.argmin())] == pytest.approx(nodule.diameter_mm, rel=0.25)
    assert sum(
        np.linalg.norm(centres - nodule.centre_mm, axis=1).min() < 3 for nodule in case.nodules
    ) == len(found)
