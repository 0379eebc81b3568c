"""Balanced batches as a function of their position, the loss, the probabilities."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ct_assets.systems.brain import images
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.task import (
    BalancedBatches,
    BrainModule,
    class_weights,
    predict_logits,
    probabilities,
)
from ct_assets_tests.systems.brain.factories import config


@pytest.fixture
def prepared(tmp_path):
    store = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "store.npy", store)
    return Prepared(tmp_path / "store.npy", {f"ID_{n}": n for n in range(40)})


def batches(prepared, labels, **options):
    arguments = {"batch_size": 8, "seed": 1} | options
    names = [f"ID_{n}" for n in range(len(labels))]
    return BalancedBatches(prepared, names, labels, config(), **arguments)


class TestBalance:
    def test_both_classes_are_drawn_equally_often_however_rare_one_is(self, prepared):
        labels = [1] * 2 + [0] * 38
        made = batches(prepared, labels)
        shown = [labels[index] for epoch in range(100) for index in made.draws(epoch)]
        # 4000 fair draws: a deviation of 0.0079, five of them
        assert np.mean(shown) == pytest.approx(0.5, abs=0.04)

    def test_weights_are_one_over_how_often_a_class_occurs(self):
        assert class_weights([0, 0, 0, 1]).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])

    def test_an_epoch_draws_as_many_as_there_are_and_each_epoch_anew(self, prepared):
        made = batches(prepared, [0, 1] * 10)
        assert len(made.draws(0)) == 20
        assert made.draws(0) != made.draws(1)


class TestPositions:
    def test_the_same_position_is_the_same_batch_whatever_was_drawn_before(self, prepared):
        made, other = batches(prepared, [0, 1] * 12), batches(prepared, [0, 1] * 12)
        later = made[5]
        random.seed(99)
        np.random.seed(99)
        torch.manual_seed(99)
        assert torch.equal(other[5]["image"], later["image"])
        assert torch.equal(other[5]["label"], later["label"])

    def test_another_seed_is_another_course(self, prepared):
        assert batches(prepared, [0, 1] * 12).draws(0) != batches(prepared, [0, 1] * 12, seed=2).draws(0)

    @pytest.mark.slow
    def test_loader_processes_change_nothing(self, prepared):
        made = batches(prepared, [0, 1] * 12)
        loaded = DataLoader(
            made, batch_size=None, sampler=range(6), num_workers=2, multiprocessing_context="forkserver"
        )
        for position, batch in enumerate(loaded):
            assert torch.equal(batch["image"], made[position]["image"])


class TestTinyFolds:
    @pytest.mark.parametrize(
        ("slices", "size", "count", "shown"), [(20, 8, 2, 8), (7, 8, 1, 7), (8, 8, 1, 8), (2, 64, 1, 2)]
    )
    def test_the_incomplete_batch_is_dropped_unless_it_is_the_only_one(
        self, prepared, slices, size, count, shown
    ):
        made = batches(prepared, [0, 1] * (slices // 2) + [0] * (slices % 2), batch_size=size)
        assert len(made) == count
        assert made[0]["image"].shape == (shown, 3, 16, 16)


class TestInput:
    def test_one_channel_is_repeated_and_normalised_as_imagenet_was(self):
        image = np.full((1, 2, 2), 0.5, np.float32)
        expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
        assert np.allclose(images.network_input(image)[:, 0, 0], expected, atol=1e-6)

    def test_three_channels_stay_three(self):
        assert images.network_input(np.zeros((3, 4, 4), np.float32)).shape == (3, 4, 4)


class Constant(nn.Module):
    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor([[logit]]))

    def forward(self, x):
        return self.logit.expand(len(x), 1)


class TestLoss:
    batch = {"image": torch.zeros(2, 3, 4, 4), "label": torch.tensor([0.0, 1.0])}

    def test_it_is_binary_cross_entropy_with_logits(self):
        loss, _ = BrainModule(Constant(2.0), config())(self.batch)
        p = 1 / (1 + np.exp(-2.0))
        assert float(loss.detach()) == pytest.approx(-(np.log(1 - p) + np.log(p)) / 2, rel=1e-5)

    def test_smoothed_labels_are_half_the_smoothing_away_from_certain(self):
        loss, _ = BrainModule(Constant(2.0), config(label_smoothing=0.1))(self.batch)
        p = 1 / (1 + np.exp(-2.0))
        each = [-(t * np.log(p) + (1 - t) * np.log(1 - p)) for t in (0.05, 0.95)]
        assert float(loss.detach()) == pytest.approx(np.mean(each), rel=1e-5)


def test_logits_come_in_the_order_of_the_names_and_leave_the_mode_in_eval(prepared):
    class Mean(Constant):
        def forward(self, x):
            return x.mean(dim=(1, 2, 3))[:, None] * self.logit

    model = Mean(1.0).train()
    names = ["ID_7", "ID_3", "ID_9"]
    got = predict_logits(model, prepared, names)
    expected = [images.network_input(prepared.read(name)).mean() for name in names]
    assert np.allclose(got, expected, atol=1e-5)
    assert not model.training


def test_probabilities_of_far_logits_are_numbers():
    assert probabilities(np.array([-1e4, 0.0, 1e4])).tolist() == pytest.approx([0, 0.5, 1])
