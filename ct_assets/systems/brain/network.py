"""ResNet18 in the form that equals torchvision's, with a head of one logit; ImageNet weights from a local file.

MONAI's network has a stride of 1 in its first convolution unless told otherwise: its tensors then still have
torchvision's 122 names and shapes, published weights load without a word, and every output is wrong. So the
form is checked, not only the names (He 2016, arXiv:1512.03385, for the architecture).
"""

from pathlib import Path

from monai.networks.nets.resnet import ResNet, resnet18
from torch import Tensor, nn

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints
from ct_assets.settings.base import Section
from ct_assets.settings.brain import BrainConfig

TENSORS = 122
"""Tensors of a ResNet18 with its last layer, as torchvision counts them."""
IMAGENET_CLASSES = 1000
FEATURES = 512


class Weights(Section):
    """Which published weights a network began with."""

    file: str
    sha256: str
    tensors: int

    def line(self) -> str:
        """Return one line for people."""
        return f"starts from {self.file}: {self.tensors} tensors, SHA-256 {self.sha256[:12]}"


def build(config: BrainConfig) -> tuple[nn.Module, Weights | None]:
    """Return the network of a configuration, one logit a slice, and the weights it begins with, if any.

    Raises `UsageError` where the weights are not there, not the ones named, or do not fill the network exactly.
    """
    network = backbone()
    loaded = None if config.pretrained is None else load(network, config.pretrained, config.pretrained_sha256)
    head = nn.Sequential(nn.Dropout(config.dropout_p), nn.Linear(FEATURES, 1))
    network.fc = head  # type: ignore[assignment]
    return network, loaded


def backbone(stride: int = 2) -> ResNet:
    """Return a ResNet18 with ImageNet's last layer. Raises `ValueError` for a form that is not torchvision's."""
    network = resnet18(
        spatial_dims=2,
        n_input_channels=3,
        num_classes=IMAGENET_CLASSES,
        conv1_t_size=7,
        conv1_t_stride=stride,
        bias_downsample=False,
        pretrained=False,
    )
    require_torchvision_form(network)
    return network


def require_torchvision_form(network: ResNet) -> None:
    """Raise `ValueError` where a network computes something else than torchvision's ResNet18 would."""
    first = network.conv1
    faults = []
    if tuple(first.stride) != (2, 2):
        faults.append(f"the first convolution has stride {tuple(first.stride)}, not (2, 2)")
    if tuple(first.kernel_size) != (7, 7) or tuple(first.padding) != (3, 3) or first.bias is not None:
        faults.append("the first convolution is not 7 x 7 with padding 3 and without bias")
    if network.no_max_pool:
        faults.append("there is no pooling after it")
    shortcuts = [m for name, m in network.named_modules() if name.endswith("downsample.0")]
    if len(shortcuts) != 3 or any(one.bias is not None for one in shortcuts):
        faults.append("shortcuts are not three convolutions without bias")
    if len(network.state_dict()) != TENSORS:
        faults.append(f"it has {len(network.state_dict())} tensors, not {TENSORS}")
    if faults:
        raise ValueError(f"not torchvision's ResNet18: {'; '.join(faults)}")


def load(network: ResNet, path: Path, sha256: str | None) -> Weights:
    """Fill a network with published weights, every tensor of it. Raises `UsageError` where that is not possible."""
    if not path.is_file():
        raise UsageError(
            f"pretrained: {path}: no such file; put the weights there, or leave `pretrained` out to start from "
            "random ones"
        )
    found = files.sha256_file(path)
    if sha256 is not None and found != sha256:
        raise UsageError(
            f"weights_not_loaded: {path.name}: SHA-256 is {found}, pretrained_sha256 says {sha256}"
        )
    tensors = _read(path)
    wanted = network.state_dict()
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    misshapen = sorted(n for n in set(wanted) & set(tensors) if wanted[n].shape != tensors[n].shape)
    if missing or unknown or misshapen:
        first = (missing + misshapen + unknown)[0]
        raise UsageError(
            f"weights_not_loaded: {path.name}: {len(missing)} tensors missing, {len(unknown)} unknown, "
            f"{len(misshapen)} of another shape (first: {first}); a ResNet18 of {TENSORS} tensors is wanted"
        )
    network.load_state_dict(tensors, strict=True)
    return Weights(file=path.name, sha256=found, tensors=len(tensors))


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return checkpoints.load_weights(path)[0]
    content = checkpoints.load(path)
    inner = content.get("state_dict", content)
    if not isinstance(inner, dict):
        raise UsageError(f"weights_not_loaded: {path.name}: holds no mapping of tensors")
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    # Files written before PyTorch 0.4.1 lack this counter, which counts batches and computes nothing.
    for name in list(tensors):
        if name.endswith("running_var"):
            counter = f"{name.removesuffix('running_var')}num_batches_tracked"
            tensors.setdefault(counter, tensors[name].new_zeros((), dtype=tensors[name].dtype).long())
    return tensors


def frozen_patterns(trained: tuple[str, ...] | None, parts: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    """Return globs of what a stage keeps as it is, where it trains only the parts named; all where null."""
    return () if trained is None else tuple(f"{prefix}{part}.*" for part in parts if part not in trained)
