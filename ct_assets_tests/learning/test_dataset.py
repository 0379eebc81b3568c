"""Datasets: balanced patches, the fold's normalisation, and randomness that workers cannot disturb."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader

from ct_assets.imaging.store import DamagedEntryError, Store
from ct_assets.learning.volumes import fold_volumes
from ct_assets.learning.volumes.dataset import CaseDataset, PatchDataset, load_case
from ct_assets.learning.volumes.plan import build_plan
from ct_assets.settings.folds import PlanSettings
from ct_assets_tests.learning.volumes import STAGES, cohort, write_case

SETTINGS = PlanSettings(spacing=(2.0, 2.0, 2.5), crop="none")
PATCH = (16, 16, 16)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    manifest = cohort(folder)
    write_case(folder, "case_0003", seed=3, with_label=False)
    manifest = manifest.with_columns(
        label=pl.when(pl.col("case_id") == "case_0003").then(None).otherwise("label"),
        stage=pl.when(pl.col("case_id") == "case_0004").then(None).otherwise("stage"),
    )
    plan = build_plan(manifest, "0", folder, folder / "store", SETTINGS, 1)
    return fold_volumes.build(manifest, "0", plan, folder, folder / "store", 1), plan, folder / "store"


def patches(world, **options) -> PatchDataset:
    volumes, plan, store = world
    return PatchDataset(volumes, plan, store, patch_size=PATCH, stages=STAGES, **options)


class TestWholeCases:
    def test_the_image_is_normalised_by_the_plan(self, world):
        volumes, plan, store = world
        row = volumes.row(0, named=True)
        item = load_case(row, plan, store, STAGES)
        hu = Store(store).open(row["image_key"]).array().astype(np.float64)
        expected = (
            np.clip(hu, plan.intensity.lower_hu, plan.intensity.upper_hu) - plan.intensity.subtract
        ) / (plan.intensity.divide)
        assert item["image"][0].numpy() == pytest.approx(expected, abs=1e-4)
        assert item["image"].dtype == torch.float32
        assert item["label"].shape == item["image"].shape

    def test_a_missing_mask_or_stage_is_said(self, world):
        volumes, plan, store = world
        items = {row["case_id"]: load_case(row, plan, store, STAGES) for row in volumes.iter_rows(named=True)}
        assert not items["case_0003"]["has_label"]
        assert not items["case_0003"]["label"].any()
        assert (items["case_0004"]["stage"], items["case_0004"]["has_stage"]) == (-1, False)
        assert (items["case_0001"]["stage"], items["case_0001"]["has_stage"]) == (1, True)

    def test_validation_cases_come_in_the_order_of_their_names(self, world):
        volumes, plan, store = world
        cases = CaseDataset(volumes, plan, store, role="validation", stages=STAGES)
        names = [cases[index]["case_id"] for index in range(len(cases))]
        assert names == sorted(names)
        assert len(names) == volumes.filter(pl.col("role") == "validation").height


class TestPatches:
    def test_half_of_the_patches_hold_foreground_around_their_middle(self, world):
        dataset = patches(world, patches_per_case=10)
        with_mask = [dataset[index] for index in range(len(dataset)) if dataset[index]["has_label"]]
        middle = (
            slice(None),
            *(slice(side // 2 - side // 4 - 1, side // 2 + side // 4 + 2) for side in PATCH),
        )
        held = sum(bool(item["label"][middle].any()) for item in with_mask)
        assert held >= len(with_mask) / 2

    def test_all_patches_hold_foreground_where_all_are_asked_to(self, world):
        dataset = patches(world, patches_per_case=6, foreground=1.0)
        items = [dataset[index] for index in range(len(dataset))]
        assert all(item["label"].any() for item in items if item["has_label"])

    def test_a_patch_is_the_box_of_its_volume(self, world):
        volumes, plan, store = world
        item = patches(world)[1]
        row = volumes.filter(pl.col("case_id") == item["case_id"]).row(0, named=True)
        whole = load_case(row, plan, store)["image"]
        k, j, i = item["start_kji"].tolist()
        assert torch.equal(item["image"], whole[:, k : k + 16, j : j + 16, i : i + 16])

    def test_a_patch_larger_than_the_volume_is_padded_with_air(self, world):
        volumes, plan, store = world
        dataset = PatchDataset(volumes, plan, store, patch_size=(64, 64, 64))
        item = dataset[0]
        assert item["image"].shape == (1, 64, 64, 64)
        air = plan.intensity.network_value(-1000)
        assert item["image"].min() == pytest.approx(air)

    def test_only_training_cases_are_drawn(self, world):
        volumes = world[0]
        dataset = patches(world, patches_per_case=2)
        drawn = {dataset[index]["case_id"] for index in range(len(dataset))}
        assert drawn == set(volumes.filter(pl.col("role") == "train")["case_id"])


class TestRandomness:
    def collect(self, dataset, workers, **options):
        loader = DataLoader(dataset, batch_size=None, num_workers=workers, **options)
        return [(item["case_id"], item["start_kji"].tolist(), float(item["image"].sum())) for item in loader]

    def test_workers_change_nothing(self, world):
        dataset = patches(world, patches_per_case=2, seed=5)
        assert self.collect(dataset, 0) == self.collect(dataset, 2)

    def test_epochs_differ_and_come_again(self, world):
        dataset = patches(world, patches_per_case=2, seed=5)
        first = self.collect(dataset, 0)
        dataset.set_epoch(1)
        second = self.collect(dataset, 0)
        dataset.set_epoch(0)
        assert self.collect(dataset, 0) == first != second

    def test_workers_that_live_on_see_the_new_epoch(self, world):
        dataset = patches(world, patches_per_case=2, seed=5)
        loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
        first = [item["start_kji"].tolist() for item in loader]
        dataset.set_epoch(1)
        second = [item["start_kji"].tolist() for item in loader]
        assert first != second

    def test_seeds_differ(self, world):
        assert self.collect(patches(world, seed=1), 0) != self.collect(patches(world, seed=2), 0)


class TestAugmentation:
    @pytest.fixture
    def augmented(self, world):
        from ct_assets.learning.volumes.augment import augmentation

        return augmentation(world[1])

    def dot(self, place=(10, 20, 14)):
        """Return an item with one bright blob, its mask, and a point in its middle."""
        image = torch.zeros(1, 32, 32, 32)
        k, j, i = place
        image[0, k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2] = 50.0
        return {"image": image, "label": (image > 0).to(torch.uint8), "points": torch.tensor([place]).float()}

    @pytest.mark.parametrize("seed", range(12))
    def test_image_mask_and_point_move_together(self, augmented, seed):
        item = augmented(self.dot(), seed)
        weight = (item["image"][0] > 20).float()
        marked = torch.nonzero(item["label"][0]).float().mean(dim=0)
        bright = torch.nonzero(weight).float().mean(dim=0)
        assert marked.numpy() == pytest.approx(item["points"][0].numpy(), abs=0.75)
        assert bright.numpy() == pytest.approx(item["points"][0].numpy(), abs=0.75)

    def test_the_same_seed_gives_the_same_item(self, augmented):
        one, other = augmented(self.dot(), 7), augmented(self.dot(), 7)
        assert torch.equal(one["image"], other["image"])

    def test_what_comes_in_at_the_edge_is_air(self, augmented):
        air = augmented.air
        for seed in range(20):
            item = augmented(
                {"image": torch.full((1, 24, 24, 24), air), "label": torch.zeros(1, 24, 24, 24)}, seed
            )
            assert (item["image"] - air).abs().max() < abs(air) * 0.2 + 0.5

    def test_augmented_patches_do_not_depend_on_workers(self, world, augmented):
        dataset = patches(world, patches_per_case=2, augment=augmented)
        collect = TestRandomness().collect
        assert collect(dataset, 0) == collect(dataset, 2)


def test_a_damaged_entry_is_refused_when_read(world, tmp_path):
    import shutil

    volumes, plan, store = world
    shutil.copytree(store, tmp_path / "store")
    row = volumes.row(0, named=True)
    path = Store(tmp_path / "store").path(row["image_key"])
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedEntryError):
        load_case(row, plan, tmp_path / "store")
