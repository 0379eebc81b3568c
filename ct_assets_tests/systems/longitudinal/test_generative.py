"""Autoencoder, gate, latents and flow models: what is promised of them, on a few crops and tiny networks."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from ct_assets.errors import UsageError
from ct_assets.learning import flow
from ct_assets.learning.networks import time_features
from ct_assets.settings.longitudinal import AutoencoderConfig, FlowConfig, LoadingSettings
from ct_assets.settings.training import OptimizerSettings, TrainingStage
from ct_assets.systems.longitudinal import (
    autoencoder_task,
    flow_task,
    latents,
    networks,
    patch_store,
    training,
)
from ct_assets.systems.longitudinal.flow_task import Examples, FlowModule, PairBatches
from ct_assets.systems.longitudinal.latents import Encoder

TINY = FlowConfig(
    channels=(4, 8),
    embedding=8,
    stages=(TrainingStage(epochs=1),),
    optimizer=OptimizerSettings(learning_rate=1e-3),
    sampling=LoadingSettings(batch_size=4),
    steps=2,
)
TINY_AE = AutoencoderConfig(
    channels=(4, 8),
    latent_channels=2,
    stages=(TrainingStage(epochs=1),),
    sampling=LoadingSettings(batch_size=8),
)


def examples(count=6):
    rng = np.random.default_rng(0)
    earlier, later = (rng.standard_normal((count, 1, 8, 8, 8)).astype(np.float32) for _ in range(2))
    days = np.arange(100, 100 + count, dtype=np.float32)
    return Examples(earlier, later, days, np.ones_like(earlier))


class Watching(networks.VelocityField):
    """A field that notes what it is asked with and says nothing moves."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.asked = []

    def forward(self, x, t, condition, days):
        self.asked.append((x.detach().clone(), t.clone(), condition.clone(), days.clone()))
        return self.scale * x


class TestFlow:
    def test_paired_crops_are_never_coupled(self):
        batch = PairBatches(examples(), TINY)[0]
        batch["t"] = torch.zeros(4)
        field = Watching()
        loss = FlowModule(field, TINY).loss(batch)
        # At flow time 0 the field sees the earlier crops in their order; of no motion the loss is the mean square change.
        assert torch.equal(field.asked[0][0], batch["earlier"])
        assert float(loss.detach()) == pytest.approx(
            float(((batch["later"] - batch["earlier"]) ** 2).mean()), rel=1e-5
        )

    def test_noise_is_coupled_within_the_batch(self):
        config = TINY.model_copy(update={"kind": "unconditional"})
        batch = PairBatches(examples(), config)[0]
        loss = FlowModule(Watching(), config).loss(batch)
        places = flow.couple(batch["noise"], batch["later"])
        assert float(loss.detach()) == pytest.approx(
            float(((batch["later"][places] - batch["noise"]) ** 2).mean()), rel=1e-5
        )

    def test_the_interval_reaches_every_evaluation_of_the_sampler(self):
        field = Watching()
        flow_task.predict(field, examples().earlier, [7.0] * 6, TINY)
        assert len(field.asked) == TINY.steps * 2  # Heun asks twice a step
        assert all((days == 7.0).all() for *_, days in field.asked)
        assert {round(float(t[0]), 6) for _, t, _, _ in field.asked} == {0.0, 0.5, 1.0}

    @pytest.mark.parametrize("kind", ["small", "monai"])
    def test_the_interval_changes_the_answer_and_is_trained(self, kind):
        torch.manual_seed(0)
        config = TINY.model_copy(update={"network": kind})
        field = networks.field(config)
        training.require_interval_in_optimizer(field)
        for name, parameter in field.named_parameters():
            if "out" in name or name.startswith("last"):
                nn.init.normal_(parameter, std=0.1)
            if kind == "monai" and "to_out" in name:
                nn.init.normal_(parameter, std=1.0)
        x = torch.randn(1, 1, 8, 8, 8)
        t = torch.full((1,), 0.3)
        short, long = (field(x, t, x, torch.tensor([days])) for days in (60.0, 700.0))
        assert not torch.allclose(short, long)
        (short - long).square().sum().backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0
            for n, p in field.named_parameters()
            if n == "interval.2.weight"
        )

    def test_an_interval_outside_the_optimizer_is_refused(self):
        field = networks.field(TINY)
        field.interval.requires_grad_(False)
        with pytest.raises(UsageError, match="interval"):
            training.require_interval_in_optimizer(field)

    def test_flow_time_has_one_scale(self):
        early, late = time_features.of_flow_time(torch.tensor([0.0, 1.0]), 8)
        assert float((early - late).abs().max()) > 0.5
        assert time_features.scaled_flow_time(torch.tensor([0.5])).tolist() == [500.0]

    def test_intervals_of_a_month_apart_differ_more_than_those_of_a_day(self):
        a, b, c = time_features.of_interval(torch.tensor([200.0, 201.0, 230.0]), 16)
        assert (a - c).norm() > 10 * (a - b).norm() > 0

    def test_a_position_gives_the_same_batch_and_an_epoch_every_pair_once(self):
        batches = PairBatches(examples(8), TINY)
        assert torch.equal(batches[3]["noise"], batches[3]["noise"])
        assert sorted(batches[2]["days"].tolist() + batches[3]["days"].tolist()) == list(range(100, 108))

    def test_the_region_weighs_more_and_is_widened_in_plane_only(self):
        config = TINY.model_copy(update={"region_margin": 1, "region_weight": 5.0})
        weights = flow_task.regions([[3, 3, 3, 4, 4, 4]], [[4, 4, 4, 5, 4, 4]], (8, 8, 8), config)
        assert (weights == 5).sum() == 2 * 4 * 5  # slices 3-4, rows 2-5, columns 2-6


class TestTraining:
    def test_a_flow_is_trained_kept_opened_and_predicts(self, cohort, tmp_path):
        fitted = training.train_flow(cohort.patches, tmp_path / "flow", TINY)
        assert fitted.status == "finished"
        model = training.open_flow(tmp_path / "flow")
        crops = patch_store.read(cohort.patches, "test")
        assert model.predict(crops).shape == crops.later.shape
        days = [row["delta_days"] for row in patch_store.read(cohort.patches, "train").rows]
        assert model.interval_days == (min(days), max(days))
        patients = json.loads((tmp_path / "flow/patients.json").read_text())
        assert patients["train"] == sorted(one.pid for one in cohort.patients if one.split == "train")

    def test_an_unconditional_flow_gives_a_paired_one_its_start(self, cohort, tmp_path):
        unconditional = TINY.model_copy(update={"kind": "unconditional"})
        training.train_flow(cohort.patches, tmp_path / "start", unconditional)
        paired = TINY.model_copy(update={"pretrained": "start"})
        training.train_flow(cohort.patches, tmp_path / "flow", paired)
        model = training.open_flow(tmp_path / "start")
        made = flow_task.generate(model.field, torch.randn(2, 1, 12, 12, 12), model.config)
        assert made.shape == (2, 1, 12, 12, 12)

    def test_latents_of_an_autoencoder_below_its_gate_are_refused(self, cohort, tmp_path):
        strict = TINY_AE.model_copy(update={"most_volume_error": 1e-6})
        gate = training.train_autoencoder(cohort.patches, tmp_path / "encoder", strict)
        assert not gate.is_passed
        config = TINY.model_copy(update={"space": "latents"})
        with pytest.raises(UsageError, match="autoencoder_below_gate"):
            training.train_flow(cohort.patches, tmp_path / "flow", config, encoder_dir=tmp_path / "encoder")

    def test_a_flow_of_latents_decodes_and_refuses_another_autoencoder(self, cohort, tmp_path):
        loose = TINY_AE.model_copy(update={"most_volume_error": 1e9, "least_psnr_db": 1e-9})
        assert training.train_autoencoder(cohort.patches, tmp_path / "encoder", loose).is_passed
        config = TINY.model_copy(update={"space": "latents"})
        training.train_flow(cohort.patches, tmp_path / "flow", config, encoder_dir=tmp_path / "encoder")
        crops = patch_store.read(cohort.patches, "test")
        model = training.open_flow(tmp_path / "flow")
        assert model.predict(crops).shape == crops.later.shape
        again = loose.model_copy(update={"seed": 1})
        training.train_autoencoder(cohort.patches, tmp_path / "other", again)
        for path in (tmp_path / "other").iterdir():
            path.replace(tmp_path / "encoder" / path.name) if path.is_file() else None
        with pytest.raises(UsageError, match="latents_stale"):
            training.open_flow(tmp_path / "flow")


class TestLatents:
    def encoder(self, seed=0):
        torch.manual_seed(seed)
        return Encoder(networks.autoencoder(TINY_AE), f"sha{seed}", "triage", True)

    def test_latents_have_unit_deviation_and_come_back(self, cohort, tmp_path):
        crops, encoder = patch_store.read(cohort.patches, "train"), self.encoder()
        coded = latents.encode(encoder, crops)
        assert float(np.concatenate([coded.earlier, coded.later]).std()) == pytest.approx(1, rel=1e-4)
        latents.write(tmp_path / "train.safetensors", coded, encoder, crops)
        read = latents.read(tmp_path / "train.safetensors", encoder, crops)
        assert read.scale == coded.scale
        np.testing.assert_array_equal(read.later, coded.later)
        direct = autoencoder_task.reconstruct(encoder.network, crops.scaled("triage")[1][:, None])
        np.testing.assert_allclose(latents.decode(encoder, read.later, read.scale), direct, atol=1e-4)

    def test_latents_of_another_encoder_or_of_other_crops_are_refused_by_name(self, cohort, tmp_path):
        crops, encoder = patch_store.read(cohort.patches, "train"), self.encoder()
        latents.write(tmp_path / "l.safetensors", latents.encode(encoder, crops), encoder, crops)
        with pytest.raises(
            UsageError, match=r"latents_stale: .*l\.safetensors: encoder_sha256 is sha0.* sha1"
        ):
            latents.read(tmp_path / "l.safetensors", self.encoder(1), crops)
        with pytest.raises(UsageError, match=r"latents_stale.*(crops|pairs)"):
            latents.read(tmp_path / "l.safetensors", encoder, patch_store.read(cohort.patches, "test"))


class Identity(nn.Module):
    """An autoencoder that keeps everything, but for a factor on what is above lung."""

    def __init__(self, factor):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.factor = factor

    def moments(self, x):
        return x, torch.zeros_like(x)

    def decode(self, z):
        lung = 2 * (-860 + 1000) / 1400 - 1
        return lung + (z - lung) * self.factor


class TestGate:
    def test_a_perfect_autoencoder_passes_and_one_that_thins_nodules_does_not(self, cohort):
        crops = patch_store.read(cohort.patches, "test")
        gates = [
            autoencoder_task.gate(Identity(factor), crops.earlier, crops.rows, (2.0, 2.0, 2.0), TINY_AE)
            for factor in (1.0, 0.7)
        ]
        assert gates[0].is_passed
        assert gates[0].median_volume_error < 0.02
        assert not gates[1].is_passed
        assert gates[1].median_volume_error == pytest.approx(0.3, abs=0.05)

    def test_monais_autoencoder_has_the_same_interface(self):
        network = networks.autoencoder(TINY_AE.model_copy(update={"network": "monai"}))
        crops = np.zeros((2, 1, 8, 8, 8), np.float32)
        assert autoencoder_task.encode(network, crops).shape == (2, 2, 4, 4, 4)
        assert autoencoder_task.reconstruct(network, crops).shape == crops.shape


def test_configurations_refuse_unknown_keys_and_are_identified_by_content():
    with pytest.raises(ValueError, match="chanels"):
        FlowConfig.model_validate({"chanels": (4,)})
    assert TINY.digest != TINY.model_copy(update={"steps": 3}).digest
    assert math.isclose(FlowConfig().optimizer.final_share * FlowConfig().optimizer.learning_rate, 2e-5)
