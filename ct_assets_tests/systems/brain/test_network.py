"""ResNet18 in torchvision's form: names, outputs, weights from a file."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from ct_assets.errors import UsageError
from ct_assets.systems.brain import network
from ct_assets_tests.systems.brain.factories import config


def torchvision_names():
    """The names of torchvision's ResNet18, written down from its published structure."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["conv1.weight", *(f"bn1.{one}" for one in norm)]
    for layer in range(1, 5):
        for block in range(2):
            for number in (1, 2):
                names.append(f"layer{layer}.{block}.conv{number}.weight")
                names += [f"layer{layer}.{block}.bn{number}.{one}" for one in norm]
            if layer > 1 and block == 0:
                names.append(f"layer{layer}.0.downsample.0.weight")
                names += [f"layer{layer}.0.downsample.1.{one}" for one in norm]
    return {*names, "fc.weight", "fc.bias"}


def reference_forward(tensors, x):
    """ResNet18 (He 2016, table 1) in plain functions: 7x7/2, pool/2, four stages of two basic blocks, mean, linear."""

    def norm(x, name):
        weight, bias, mean, var = (
            tensors[f"{name}.{one}"] for one in ("weight", "bias", "running_mean", "running_var")
        )
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)

    x = functional.conv2d(x, tensors["conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(functional.relu(norm(x, "bn1")), 3, stride=2, padding=1)
    for layer in range(1, 5):
        for block in range(2):
            name = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            y = functional.conv2d(x, tensors[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = functional.conv2d(
                functional.relu(norm(y, f"{name}.bn1")), tensors[f"{name}.conv2.weight"], padding=1
            )
            y = norm(y, f"{name}.bn2")
            if stride == 2:
                x = norm(
                    functional.conv2d(x, tensors[f"{name}.downsample.0.weight"], stride=2),
                    f"{name}.downsample.1",
                )
            x = functional.relu(x + y)
    return functional.linear(x.mean(dim=(2, 3)), tensors["fc.weight"], tensors["fc.bias"])


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    made = network.backbone()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made.eval()


class TestForm:
    def test_it_has_torchvisions_122_names(self, backbone):
        assert set(backbone.state_dict()) == torchvision_names()
        assert len(backbone.state_dict()) == 122

    def test_its_outputs_equal_a_reference_forward_to_the_last_bit(self, backbone):
        x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            difference = (backbone(x) - reference_forward(backbone.state_dict(), x)).abs().max()
        assert float(difference) == 0.0

    def test_a_stride_of_one_has_the_same_names_and_is_refused(self):
        with pytest.raises(ValueError, match=r"stride \(1, 1\), not \(2, 2\)"):
            network.backbone(stride=1)

    def test_the_head_is_dropout_and_one_logit(self):
        made, weights = network.build(config(dropout_p=0.3))
        assert weights is None
        assert isinstance(made.fc[0], nn.Dropout)
        assert made.fc[0].p == 0.3
        assert (made.fc[1].in_features, made.fc[1].out_features) == (512, 1)


class TestWeights:
    def file(self, folder, tensors, name="weights.pth"):
        torch.save(tensors, folder / name)
        return folder / name, hashlib.sha256((folder / name).read_bytes()).hexdigest()

    def test_every_tensor_is_loaded_and_the_file_is_named_by_its_digest(self, backbone, tmp_path):
        path, sha256 = self.file(tmp_path, backbone.state_dict())
        made, told = network.build(config(pretrained=path, pretrained_sha256=sha256))
        assert (told.sha256, told.tensors) == (sha256, 122)
        for name, value in backbone.state_dict().items():
            if not name.startswith("fc."):
                assert torch.equal(made.state_dict()[name], value), name

    def test_safetensors_do_as_well(self, backbone, tmp_path):
        save_file({n: v.contiguous() for n, v in backbone.state_dict().items()}, tmp_path / "w.safetensors")
        made, _ = network.build(config(pretrained=tmp_path / "w.safetensors"))
        assert torch.equal(made.conv1.weight, backbone.conv1.weight)

    def test_another_file_than_the_one_named_is_refused(self, backbone, tmp_path):
        path, _ = self.file(tmp_path, backbone.state_dict())
        with pytest.raises(UsageError, match=r"SHA-256 is .*, pretrained_sha256 says 000"):
            network.build(config(pretrained=path, pretrained_sha256="0" * 64))

    @pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
    def test_weights_that_do_not_fill_it_exactly_are_refused(self, backbone, tmp_path, change):
        tensors = dict(backbone.state_dict())
        if change == "missing":
            tensors.pop("layer3.0.conv1.weight")
        elif change == "unknown":
            tensors["layer5.weight"] = torch.zeros(1)
        else:
            tensors["conv1.weight"] = torch.zeros(64, 1, 7, 7)
        path, _ = self.file(tmp_path, tensors)
        with pytest.raises(UsageError, match=r"weights_not_loaded.*122 tensors is wanted"):
            network.build(config(pretrained=path))

    def test_pickled_objects_are_never_run(self, tmp_path):
        torch.save(nn.Linear(1, 1), tmp_path / "bad.pth")
        with pytest.raises(UsageError, match="pickled objects, which are never run"):
            network.build(config(pretrained=tmp_path / "bad.pth"))

    def test_a_file_that_is_not_there_says_how_to_do_without(self, tmp_path):
        with pytest.raises(
            UsageError, match="no such file; put the weights there, or leave `pretrained` out"
        ):
            network.build(config(pretrained=tmp_path / "absent.pth"))

    def test_false_means_random_weights(self):
        assert config(pretrained=False).pretrained is None
