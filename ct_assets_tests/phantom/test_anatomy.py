"""The invented chest: tissues where anatomy has them, and a tumour of the wanted size."""

import numpy as np
import pytest

from ct_assets.phantom import anatomy, scanner

STAGES = ("I", "II", "IIIa", "IIIb")


def hu_at(chest: anatomy.Chest, *points: tuple[float, float, float]) -> list[float]:
    where = np.array(points, dtype=np.float32) * np.float32(chest.size)
    return [float(value) for value in anatomy.hounsfield(chest, where, voxel_mm=1.0)]


def bare_chest() -> anatomy.Chest:
    return anatomy.Chest(size=1.0, vessels=(), tumours=(), nodes=())


class TestTissues:
    def test_lie_where_anatomy_has_them(self):
        outside, lung, heart, vertebra, trachea, fat = hu_at(
            bare_chest(), (0, -300, 0), (-90, 0, 30), (22, -22, -38), (0, 74, 14), (0, 14, 100), (0, -112, 0)
        )
        assert outside == -1000
        assert -900 < lung < -800
        assert 100 < heart < 200
        assert vertebra > 150
        assert trachea == -1000
        assert -130 < fat < -60

    def test_left_of_the_patient_is_positive_x_so_the_heart_leans_there(self):
        right, left = hu_at(bare_chest(), (-60, -22, -30), (60, -22, -30))
        assert left > 0 > right


class TestTumour:
    def test_has_the_volume_of_its_diameter(self):
        spacing = 2.0
        axis = np.arange(-150, 150, spacing, dtype=np.float32)
        k, j, i = np.meshgrid(axis, axis, axis, indexing="ij")
        points = np.stack([i, j, k], axis=-1)
        for seed in range(5):
            chest = anatomy.Chest.invent("II", np.random.default_rng(seed), diameter_mm=40)
            volume_ml = anatomy.tumour_mask(chest, points).sum() * spacing**3 / 1000
            ball_ml = 4 / 3 * np.pi * 2.0**3
            # Radii vary by 15 % an axis, and lobes add to the core.
            assert 0.6 * ball_ml < volume_ml < 1.9 * ball_ml

    def test_grows_with_the_stage(self):
        volumes = []
        for stage in STAGES:
            found = []
            for seed in range(4):
                rng = np.random.default_rng(seed)
                chest = anatomy.Chest.invent(stage, rng)
                grid, _, mask = scanner.acquire(scanner.small(scanner.SCANNERS[0]), chest, rng)
                found.append(mask.sum() * grid.voxel_volume_ml)
            volumes.append(np.mean(found))
        assert volumes == sorted(volumes)
        assert volumes[-1] > 5 * volumes[0]

    def test_brings_more_nodes_with_the_stage(self):
        nodes = [len(anatomy.Chest.invent(stage, np.random.default_rng(1)).nodes) for stage in STAGES]
        assert nodes == sorted(nodes)
        assert nodes[0] == 0

    @pytest.mark.parametrize("seed", range(6))
    def test_lies_in_a_lung(self, seed):
        chest = anatomy.Chest.invent("I", np.random.default_rng(seed))
        bare = anatomy.Chest(chest.size, (), (), ())
        centre = chest.tumours[0].core.centre_mm
        assert hu_at(bare, centre)[0] < -800


class TestScanner:
    @pytest.mark.parametrize("machine", scanner.SCANNERS, ids=lambda one: one.kernel)
    def test_samples_the_same_patient_in_the_same_place(self, machine):
        chest = anatomy.Chest.invent("IIIa", np.random.default_rng(3))
        grid, hu, mask = scanner.acquire(machine, chest, np.random.default_rng(4))
        k, j, i = (float(np.mean(axis)) for axis in np.nonzero(mask))
        centre = np.array(chest.tumours[0].core.centre_mm) * chest.size
        assert np.linalg.norm(grid.world(np.array([i, j, k])) - centre) < 8
        assert hu[mask].mean() > 0
        assert hu.shape == mask.shape == grid.shape

    def test_noise_follows_the_kernel(self):
        chest = bare_chest()
        noise = []
        for machine in (scanner.SCANNERS[0], scanner.SCANNERS[4]):
            grid, hu, _ = scanner.acquire(machine, chest, np.random.default_rng(0))
            i, j, k = np.rint(grid.index(np.array([-90.0, 0.0, 20.0]))).astype(int)
            noise.append(hu[k - 2 : k + 3, j - 3 : j + 4, i - 3 : i + 4].std())
        assert noise[1] > 2 * noise[0]
