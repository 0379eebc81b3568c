"""Windows by position, decoding of maps, and the nodule task through the shared trainer."""

import numpy as np
import polars as pl
import pytest
import torch
from lightning.fabric import Fabric

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.training.control import Control
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.tracking import Tracker
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets.settings.training import OptimizerSettings, TrainingStage, ValidationSettings
from ct_assets.systems.nodules import network_detector, patches
from ct_assets.systems.nodules.network import CHANNELS, NoduleNetwork
from ct_assets.systems.nodules.patches import NoduleCase, Windows
from ct_assets.systems.nodules.task import NoduleTask


def invented(number, count=1, side=24):
    """A box of lung with solid balls."""
    rng = np.random.default_rng([number, 9])
    grid = Grid.of((side,) * 3, (1.0, 1.0, 1.0), (-7.0, 5.0, 100.0))
    k, j, i = np.indices(grid.shape)
    points = grid.world(np.stack([i, j, k], axis=-1).astype(float))
    centres = grid.world(rng.uniform(6, side - 6, (count, 3)))
    sizes = rng.uniform(5, 9, count)
    away = (
        np.linalg.norm(points[..., None, :] - centres, axis=-1) if count else np.full((*grid.shape, 1), 99.0)
    )
    mask = (away < (sizes / 2 if count else 1)).any(axis=-1)
    hu = np.where(mask, 30.0, -850.0) + rng.normal(0, 30, grid.shape)
    return NoduleCase(
        f"1.2.{number}", Volume(hu.astype(np.float32), grid), centres, np.repeat(sizes[:, None], 3, 1),
        Volume(mask.astype(np.uint8), grid), np.ones(count),
    )  # fmt: skip


class TestWindows:
    def test_a_position_gives_the_same_windows_half_of_them_at_a_nodule(self):
        windows = Windows([invented(0, side=40), invented(1, side=40)], (16, 16, 16), windows=6, seed=3)
        first, again, later = windows[1], windows[1], windows[3]
        assert all(torch.equal(first[name], again[name]) for name in ("image", "heat", "mask"))
        assert not torch.equal(first["image"], later["image"])
        assert (first["heat"][:3].flatten(1).max(dim=1).values == 1).all()
        assert {name: tuple(first[name].shape) for name in CHANNELS} == {
            name: (6, count, 16, 16, 16) for name, count in CHANNELS.items()
        }
        at = first["is_centre"] > 0
        assert (first["triage"][at] == 1).all()
        assert first["triage"][~at].isnan().all()

    def test_a_volume_smaller_than_a_window_is_filled_with_air_and_without_nodules_gives_negatives(self):
        made = Windows([invented(0, count=0, side=12)], (16, 16, 16), windows=2)[0]
        assert made["image"].shape == (2, 1, 16, 16, 16)
        assert not made["image"][:, :, 12:].any()
        assert not made["heat"].any()

    def test_hu_are_clipped_and_nan_is_air(self):
        assert patches.scaled(np.array([-3000, -1000, -300, 400, 3000, np.nan])).tolist() == [
            0,
            0,
            0.5,
            1,
            1,
            0,
        ]


def maps_of(grid, centre_kji, offset=(0.25, 0.0, -0.5), size=(8.0, 8.0, 8.0)):
    maps = {name: torch.full((count, *grid.shape), -9.0) for name, count in CHANNELS.items()}
    k, j, i = centre_kji
    maps["heat"][0, k, j, i] = 2.0
    maps["offset"][:, k, j, i] = torch.tensor(offset)
    maps["size_mm"][:, k, j, i] = torch.tensor(size)
    maps["triage"][0, k, j, i] = 0.0
    return maps


def test_a_peak_becomes_a_mark_at_its_sub_voxel_place():
    grid = Grid.of((20, 22, 24), (0.5, 1.0, 2.0), (-3.0, 4.0, 5.0))
    (mark,) = network_detector.marks(maps_of(grid, (7, 8, 9)), grid, "1.2", network_detector.Decoding())
    assert mark.centre_mm == pytest.approx((-3 + 8.5 * 0.5, 4 + 8 * 1.0, 5 + 7.25 * 2))
    assert mark.diameter_mm == pytest.approx(8)
    assert (mark.score, mark.triage) == (pytest.approx(1 / (1 + np.exp(-2))), pytest.approx(0.5))


class Loop:
    """All that the loop reads of a configuration."""

    def __init__(self, epochs, steps):
        self.seed, self.precision, self.ema_decay = 0, "32-true", None
        self.optimizer = OptimizerSettings(learning_rate=1e-2, schedule="cosine")
        self.stages, self.epochs, self.steps_per_epoch = (TrainingStage(epochs=epochs),), epochs, steps
        self.validation = ValidationSettings.model_construct(
            every_epochs=1, monitor="cpm", keep_best=1, early_stopping=None, patience=20, min_delta=0.0
        )
        self.sampling = type("Loading", (), {"workers": 0})()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodules")
    seed_everything(1)
    cases = [invented(number, count=1 + number % 2) for number in range(2)]
    task = NoduleTask(NoduleNetwork((6, 8, 8, 8)), Windows(cases, (16, 16, 16), windows=2), cases)
    result = Trainer(
        task,
        Loop(epochs=2, steps=30),
        model_dir=folder,
        identity={"task": "nodules"},
        fabric=Fabric(accelerator="cpu", devices=1),
        control=Control(folder),
        state=StateWriter(folder),
        tracker=Tracker(),
    ).fit()
    return task, result, folder, cases


@pytest.mark.slow
def test_the_network_learns_the_nodules_of_its_own_scans_by_heart(trained):
    _, result, folder, cases = trained
    assert result.metrics["cpm"] >= 0.9
    assert result.metrics["centre_error_mm"] < 1.5
    marks = pl.read_parquet(folder / "validation/marks.parquet")
    assert set(marks["series_uid"]) <= {case.scan for case in cases}


@pytest.mark.slow
def test_the_trained_network_is_a_detector_whose_masks_are_measured(trained):
    task, _, _, cases = trained
    network = task.module.network.eval()
    found = network_detector.NetworkDetector(network, (16, 16, 16)).detect(cases[0].image)
    best = found.rows[0].finding
    assert np.linalg.norm(np.subtract(best.centre_lps_mm, cases[0].centres_lps[0])) < 1.5
    assert best.diameters_mm[0] == pytest.approx(cases[0].diameters_mm[0, 0], abs=2.5)
    assert 0 <= best.triage <= 1


def test_without_findings_the_metrics_that_need_one_are_absent():
    case = invented(0, count=0)
    task = NoduleTask(NoduleNetwork((4, 4, 4, 4)), Windows([case], (16, 16, 16), windows=1), [case])
    assert dict(task.summarise([]).metrics) == {"marks_per_scan": 0.0}
