"""Pre-trained weights: published layouts made here, the honest list, the refusals."""

import pickle

import pytest
import torch

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.networks import dual_head
from ct_assets.learning.training import checkpoints, weights
from ct_assets.learning.volumes.plan import Crop, Intensity, Plan, Resampling
from ct_assets.settings.training import (
    PretrainedSettings,
    SamplingSettings,
    SwinUnetrSettings,
    TrainingConfig,
)

TINY = SwinUnetrSettings(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), norm="group")


def plan(spacing=(1.5, 1.5, 2.0), low=-1000.0, high=1000.0):
    return Plan(
        fold="0",
        training_patients=1,
        training_cases=1,
        training_patients_digest="",
        training_content_digest="",
        target_spacing_mm=spacing,
        intensity=Intensity(
            scheme="unit_range", lower_hu=low, upper_hu=high, subtract=low, divide=high - low
        ),
        crop=Crop(mode="none", margin_mm=0),
        resampling=Resampling(image_order=1, outside_hu=-1000),
        patch_size=(32, 32, 32),
        median_shape=(32, 32, 32),
        statistics={},
        settings={},
    ).sealed()


def network(seed=0, settings=TINY):
    torch.manual_seed(seed)
    config = TrainingConfig(network=settings, sampling=SamplingSettings(windows_per_patient=2))
    return dual_head.build(config, classes=3, spacing_mm=(1.5, 1.5, 2.0), patch_size=(32, 32, 32))


def load(path, into=None, for_plan=None, **settings):
    config = TrainingConfig(network=TINY, pretrained=PretrainedSettings(path=path, **settings))
    return weights.load(network(1) if into is None else into, config, for_plan or plan())


def encoder(source):
    prefix = "backbone.swinViT."
    return {n.removeprefix(prefix): v for n, v in source.state_dict().items() if n.startswith(prefix)}


def as_ssl(source):
    named = {}
    for name, value in encoder(source).items():
        theirs = name.replace("linear1", "fc1").replace("linear2", "fc2")
        named[f"module.{theirs}"] = value
    return {"state_dict": named, "epoch": 3}


def as_dae(source):
    named = {"encoder.mask_token": torch.zeros(1), "encoder.norm.weight": torch.zeros(4)}
    for name, value in encoder(source).items():
        if name.startswith("layers"):
            level, number, rest = name.split(".", 2)
            name = f"{level}.{number}.0.{rest}"
        named[f"encoder.{name}"] = value
    return {"model": named}


class TestPublishedLayouts:
    def test_both_encoder_layouts_fill_every_tensor_of_the_encoder(self, tmp_path):
        source = network(0)
        for layout, content in (("swin_ssl", as_ssl(source)), ("swin_dae", as_dae(source))):
            path = tmp_path / f"{layout}.pt"
            torch.save(content, path)
            target = network(1)
            report = load(path, target)
            assert report.layout == layout
            assert report.share == 1.0
            for name, value in encoder(source).items():
                assert torch.equal(encoder(target)[name], value), name
            assert all(not name.startswith("backbone.swinViT.") for name in report.not_in_file)
            assert "backbone.decoder1.conv_block.conv1.conv.weight" in report.not_in_file

    def test_a_whole_btcv_checkpoint_fills_all_but_its_own_head(self, tmp_path):
        source = network(0)
        content = {
            f"module.{name.removeprefix('backbone.')}": value
            for name, value in source.state_dict().items()
            if name.startswith("backbone.")
        }
        content["module.out.conv.conv.weight"] = torch.zeros(14, 12, 1, 1, 1)
        content["module.out.conv.conv.bias"] = torch.zeros(14)
        torch.save({"state_dict": content}, tmp_path / "btcv.pt")
        report = load(tmp_path / "btcv.pt", for_plan=plan(low=-175.0, high=250.0))
        assert report.layout == "swin_unetr"
        assert report.other_shape == ("backbone.out.conv.conv.bias", "backbone.out.conv.conv.weight")
        assert report.share > 0.999

    def test_our_own_weights_come_back_whole_with_their_sha256(self, tmp_path):
        path = tmp_path / "own.safetensors"
        sha256 = checkpoints.save_weights(path, network(0).state_dict(), weights.input_convention(plan()))
        report = load(path, sha256=sha256)
        assert report.share == 1.0
        assert report.sha256 == sha256 == files.sha256_file(path)
        assert report.not_in_file == report.other_shape == report.not_in_network == ()

    def test_a_checkpoint_of_an_earlier_training_gives_its_network(self, tmp_path):
        content = {f"network.{name}": value for name, value in network(0).state_dict().items()}
        checkpoints.save(tmp_path / "last.ckpt", {"module": {**content, "loss.log_variance": torch.zeros(2)}})
        report = load(tmp_path / "last.ckpt")
        assert (report.layout, report.share) == ("own", 1.0)
        assert report.not_in_network == ("loss.log_variance",)


class TestRefusals:
    def test_a_file_that_fills_next_to_nothing_is_an_error_not_a_random_start(self, tmp_path):
        ours = {f"trunk.{name}": value for name, value in encoder(network()).items()}
        torch.save({"state_dict": {f"swinViT.{n}": v for n, v in ours.items()}}, tmp_path / "odd.pt")
        before = {name: value.clone() for name, value in network(1).state_dict().items()}
        target = network(1)
        with pytest.raises(UsageError, match=r"weights_not_loaded.*0\.0 %"):
            load(tmp_path / "odd.pt", target, for_plan=plan(low=-175.0, high=250.0))
        assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())

    def test_unknown_names_are_refused_with_the_first_of_them(self, tmp_path):
        torch.save({"state_dict": {"stem.weight": torch.zeros(3)}}, tmp_path / "odd.pt")
        with pytest.raises(UsageError, match=r"no known layout.*stem\.weight"):
            load(tmp_path / "odd.pt")

    def test_one_channel_is_never_broadcast_into_two(self, tmp_path):
        content = as_ssl(network(0))
        name = "module.patch_embed.proj.weight"
        content["state_dict"][name] = torch.cat([content["state_dict"][name]] * 2, dim=1)
        torch.save(content, tmp_path / "two.pt")
        report = load(tmp_path / "two.pt")
        assert report.other_shape == ("backbone.swinViT.patch_embed.proj.weight",)
        assert report.share < 1.0

    def test_a_pickled_object_is_not_run(self, tmp_path):
        marker = tmp_path / "ran"
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil(str(marker)), protocol=2))
        torch.save({"state_dict": _Evil(str(marker))}, tmp_path / "evil2.pt")
        for name in ("evil.pt", "evil2.pt"):
            with pytest.raises(UsageError):
                load(tmp_path / name)
        assert not marker.exists()

    def test_another_file_than_the_one_named_is_refused(self, tmp_path):
        torch.save(as_ssl(network(0)), tmp_path / "ssl.pt")
        with pytest.raises(UsageError, match="SHA-256"):
            load(tmp_path / "ssl.pt", sha256="0" * 64)

    def test_another_spacing_or_intensity_than_the_weights_saw_is_refused_unless_accepted(self, tmp_path):
        torch.save(as_ssl(network(0)), tmp_path / "ssl.pt")
        other = plan(spacing=(1.0, 1.0, 1.0), low=-175.0, high=250.0)
        with pytest.raises(UsageError, match=r"weights_convention.*spacing.*HU"):
            load(tmp_path / "ssl.pt", for_plan=other)
        report = load(tmp_path / "ssl.pt", for_plan=other, accept_other_convention=True)
        assert len(report.convention_differences) == 2


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
