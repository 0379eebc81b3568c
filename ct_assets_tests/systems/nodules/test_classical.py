"""The lung mask and the classical detector, on a small invented chest whatever its grid."""

import numpy as np
import pytest

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import findings, lungs
from ct_assets.systems.nodules.classical import Classical

LUNGS = {"right": (-32.0, 0.0, 0.0), "left": (32.0, 0.0, 0.0)}
RADII = (22.0, 34.0, 40.0)
NODULES = {"right": (-34.0, 5.0, 8.0), "left": (30.0, -10.0, -12.0)}
WALL = (-32.0, 31.0, 0.0)
TURN = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1.0]])
GRIDS = {
    "axial": Grid.of((72, 96, 132), (1.0, 1.0, 1.25), (-65.5, -47.5, -44.5)),
    "flipped": Grid.of((72, 96, 132), (1.0, 1.0, 1.25), (65.5, 47.5, 44.5), np.diag([-1.0, -1.0, -1.0])),
    "oblique": Grid.of((72, 120, 152), (1.0, 1.0, 1.25), tuple(TURN @ [-75.5, -59.5, -44.5]), TURN),
}


def chest(grid, nodule_mm=8.0):
    """Soft tissue in air, two lungs, a nodule in each, a vessel beside one, a nodule at a wall."""
    k, j, i = np.indices(grid.shape)
    points = grid.world(np.stack([i, j, k], axis=-1).astype(float))

    def within(centre, radii):
        return (((points - centre) / radii) ** 2).sum(axis=-1) <= 1

    body = ((points[..., :2] / (62.0, 44.0)) ** 2).sum(axis=-1) <= 1
    hu = np.where(body, 40, -1000).astype(np.int16)
    for centre in LUNGS.values():
        hu[within(centre, RADII)] = -850
    vessel = (np.hypot(points[..., 0] + 22, points[..., 1] + 8) < 2) & within(LUNGS["right"], RADII)
    hu[vessel] = 40
    for centre in (*NODULES.values(), WALL):
        hu[within(centre, nodule_mm / 2)] = 40
    rng = np.random.default_rng(0)
    return Volume((hu + rng.normal(0, 15, hu.shape)).astype(np.int16), grid)


@pytest.fixture(scope="module")
def detected():
    return {name: Classical().detect(chest(grid)) for name, grid in GRIDS.items()}


def test_the_lungs_hold_nodules_at_the_wall_and_know_their_sides():
    volume = chest(GRIDS["axial"])
    found = lungs.segment(volume)
    for side, centre in NODULES.items():
        assert found.side(tuple(volume.grid.index(np.array(centre))[::-1])) == side
    k, j, i = np.rint(volume.grid.index(np.array(WALL) - (0, 1, 0))[::-1]).astype(int)
    assert found.mask[k, j, i]
    assert found.side((0, 0, 0)) is None
    expected = 2 * 4 / 3 * np.pi * np.prod(RADII) / 1000
    assert found.mask.sum() * volume.grid.voxel_volume_ml == pytest.approx(expected, rel=0.12)


def test_without_air_inside_a_body_there_are_no_lungs():
    grid = GRIDS["axial"]
    for hu in (40, -1000):
        volume = Volume(np.full(grid.shape, hu, dtype=np.int16), grid)
        assert lungs.segment(volume) is None
        assert Classical().detect(volume).rows == ()


@pytest.mark.parametrize("name", GRIDS)
def test_the_nodules_are_found_first_and_measured(detected, name):
    result = detected[name]
    kept, _ = findings.select([row.finding for row in result.rows], findings.Filters(), lungs=result.lungs)
    for centre in NODULES.values():
        best = min(kept[:3], key=lambda one: np.linalg.norm(np.subtract(one.centre_lps_mm, centre)))
        assert np.linalg.norm(np.subtract(best.centre_lps_mm, centre)) < 1
        assert best.diameters_mm[0] == pytest.approx(8, abs=1.5)
        assert best.mean_hu > -300


def test_the_same_patient_on_another_grid_gives_the_same_marks(detected):
    places = {
        name: [row.finding.centre_lps_mm for row in result.rows[:2]] for name, result in detected.items()
    }
    for name in ("flipped", "oblique"):
        for place in places["axial"]:
            nearest = min(np.linalg.norm(np.subtract(place, other)) for other in places[name])
            assert nearest < 1


def test_a_detection_gives_its_whole_mask(detected):
    result = detected["axial"]
    row = result.rows[0]
    mask = row.mask(result.volume.grid.shape)
    assert mask.sum() * result.volume.grid.voxel_volume_ml * 1000 == pytest.approx(row.finding.volume_mm3)
    assert mask[tuple(round(value) for value in row.finding.centre_kji)]
