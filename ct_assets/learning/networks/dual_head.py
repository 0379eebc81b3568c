"""The networks: a body that draws the mask and gives features, and the dual head around it.

Belongs here: architectures as `configs/train/*.yaml` name them. Does not: losses, how windows are drawn, or
weights from files. Tensors are (windows, channels, k, j, i); a bag is the windows of one patient.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetUpBlock
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.errors import UsageError
from ct_assets.learning.networks.stage_head import StageHead
from ct_assets.settings.training import SwinUnetrSettings, TrainingConfig, UNetSettings

TUMOUR_PRIOR = 0.02
"""Share of tumour voxels that an untrained mask head expects (Lin 2017, arXiv:1708.02002, section 4.1)."""
SWIN_MULTIPLE = 32
"""A Swin-UNETR halves its input five times."""


@dataclass(frozen=True)
class BodyOutput:
    """What a body makes of windows."""

    mask_logits: Tensor
    """(windows, labels, k, j, i)."""
    coarse_logits: tuple[Tensor, ...]
    """The same at coarser levels, finest first; empty without deep supervision."""
    features: Tensor
    """(windows, features): the bottleneck averaged over space."""


class SwinUnetrBody(SwinUNETR):
    """MONAI's Swin-UNETR, tensor names included, that also gives its bottleneck and coarser masks."""

    def __init__(
        self, settings: SwinUnetrSettings, *, channels: int, labels: int, deep_supervision: bool
    ) -> None:
        super().__init__(
            in_channels=channels,
            out_channels=labels,
            depths=settings.depths,
            num_heads=settings.num_heads,
            feature_size=settings.feature_size,
            window_size=settings.window_size,
            norm_name=_norm(settings.norm),
            drop_rate=settings.dropout,
            dropout_path_rate=settings.drop_path,
            use_checkpoint=settings.gradient_checkpointing,
            use_v2=settings.use_v2,
        )
        size = settings.feature_size
        self.features = 16 * size
        self.deep_heads = nn.ModuleList(
            [nn.Conv3d(width, labels, 1) for width in (size, 2 * size)] if deep_supervision else []
        )
        _expect_little(self.out.conv.conv, *self.deep_heads)

    def forward(self, x_in: Tensor) -> BodyOutput:
        """Run windows (windows, channels, k, j, i), sides multiples of 32, through the network."""
        hidden = self.swinViT(x_in, self.normalize)
        skip0 = self.encoder1(x_in)
        skip1 = self.encoder2(hidden[0])
        skip2 = self.encoder3(hidden[1])
        skip3 = self.encoder4(hidden[2])
        bottom = self.encoder10(hidden[4])
        level3 = self.decoder5(bottom, hidden[3])
        level2 = self.decoder4(level3, skip3)
        level1 = self.decoder3(level2, skip2)
        level0 = self.decoder2(level1, skip1)
        logits = self.out(self.decoder1(level0, skip0))
        coarse = tuple(head(level) for head, level in zip(self.deep_heads, (level0, level1), strict=False))
        return BodyOutput(logits, coarse, hidden[4].mean(dim=(2, 3, 4)))


class UNetBody(nn.Module):
    """A U-Net of two convolutions a level with strided convolutions down and transposed ones up."""

    def __init__(self, settings: UNetSettings, *, channels: int, labels: int, deep_supervision: bool) -> None:
        super().__init__()
        widths = settings.channels
        norm = _norm(settings.norm)
        dropout = settings.dropout or None
        self.down = nn.ModuleList(
            UnetBasicBlock(3, before, width, 3, 1 if level == 0 else 2, norm, dropout=dropout)
            for level, (before, width) in enumerate(zip((channels, *widths[:-1]), widths, strict=True))
        )
        self.up = nn.ModuleList(
            UnetUpBlock(3, widths[level + 1], widths[level], 3, 2, 2, norm, dropout=dropout)
            for level in reversed(range(len(widths) - 1))
        )
        self.out = nn.Conv3d(widths[0], labels, 1)
        coarse_widths = widths[1:-1][:2] if deep_supervision else ()
        self.deep_heads = nn.ModuleList(nn.Conv3d(width, labels, 1) for width in coarse_widths)
        self.features = widths[-1]
        _expect_little(self.out, *self.deep_heads)

    def forward(self, windows: Tensor) -> BodyOutput:
        """Run windows (windows, channels, k, j, i) through the network."""
        skips = []
        level = windows
        for block in self.down:
            level = block(level)
            skips.append(level)
        bottom = level
        decoded = []
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            level = block(level, skip)
            decoded.append(level)
        finest_first = decoded[::-1]
        coarse = tuple(head(level) for head, level in zip(self.deep_heads, finest_first[1:], strict=False))
        return BodyOutput(self.out(finest_first[0]), coarse, bottom.mean(dim=(2, 3, 4)))


@dataclass(frozen=True)
class DualOutput:
    """What the dual-head network makes of bags of windows."""

    mask_logits: Tensor
    """(bags * windows, labels, k, j, i)."""
    coarse_logits: tuple[Tensor, ...]
    stage_log_probabilities: Tensor | None
    """(bags, classes); None without a stage head."""


class DualHeadNetwork(nn.Module):
    """A body with its mask head, and a stage head over the windows of a patient."""

    def __init__(
        self,
        backbone: SwinUnetrBody | UNetBody,
        stage_head: StageHead | None,
        *,
        voxel_ml: float,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.stage_head = stage_head
        self.voxel_ml = voxel_ml
        self.memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, bags: Tensor) -> DualOutput:
        """Run bags (bags, windows, channels, k, j, i) through body and heads."""
        count, windows = bags.shape[:2]
        output = self.run_body(bags.flatten(0, 1))
        log_probabilities = None
        if self.stage_head is not None:
            # without gradient: stage by size (the T of TNM) must not teach the mask head to draw larger
            volume = self.tumour_ml(output.mask_logits.detach())
            bag = (count, windows)
            log_probabilities = self.stage_head(output.features.unflatten(0, bag), volume.unflatten(0, bag))
        return DualOutput(output.mask_logits, output.coarse_logits, log_probabilities)

    def run_body(self, windows: Tensor) -> BodyOutput:
        """Run windows (windows, channels, k, j, i) through the body, in the memory format it likes."""
        return self.backbone(windows.contiguous(memory_format=self.memory_format))

    def tumour_ml(self, mask_logits: Tensor) -> Tensor:
        """Return the expected tumour volume of each window in millilitres, (windows,)."""
        return mask_logits.float().sigmoid().sum(dim=(1, 2, 3, 4)) * self.voxel_ml


def build(
    config: TrainingConfig,
    *,
    classes: int,
    spacing_mm: Sequence[float],
    patch_size: Sequence[int],
    channels: int = 1,
    labels: int = 1,
) -> DualHeadNetwork:
    """Build the network of a configuration; `patch_size` (k, j, i) is held against what it can take.

    Raises `UsageError` where the patch does not fit the network.
    """
    check_patch_size(config.network, patch_size, training_windows=config.sampling.windows_per_patient)
    arguments = {"channels": channels, "labels": labels, "deep_supervision": config.losses.deep_supervision}
    body: SwinUnetrBody | UNetBody
    if isinstance(config.network, SwinUnetrSettings):
        body = SwinUnetrBody(config.network, **arguments)  # type: ignore[arg-type]
    else:
        body = UNetBody(config.network, **arguments)  # type: ignore[arg-type]
    head = None
    if config.stage_head is not None and classes >= 2:
        head = StageHead(config.stage_head, features=body.features, classes=classes)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    return DualHeadNetwork(body, head, voxel_ml=voxel_ml, channels_last=config.channels_last)


def patch_multiple(network: SwinUnetrSettings | UNetSettings) -> int:
    """Return what every side of a window must be a multiple of."""
    if isinstance(network, SwinUnetrSettings):
        return SWIN_MULTIPLE
    return 2 ** (len(network.channels) - 1)


def fitting_patch_size(
    network: SwinUnetrSettings | UNetSettings, patch_size: Sequence[int]
) -> tuple[int, ...]:
    """Return the patch with every side rounded up to what the network can take."""
    multiple = patch_multiple(network)
    return tuple(multiple * math.ceil(side / multiple) for side in patch_size)


def check_patch_size(
    network: SwinUnetrSettings | UNetSettings, patch_size: Sequence[int], *, training_windows: int
) -> None:
    """Refuse a window that the network cannot take, with the sizes that it can.

    Instance normalisation has nothing to normalise where the bottleneck is one voxel; batch normalisation
    needs two values a channel.
    """
    multiple = patch_multiple(network)
    if any(side % multiple for side in patch_size):
        fitting = fitting_patch_size(network, patch_size)
        raise UsageError(
            f"sampling.patch_size {tuple(patch_size)}: every side must be a multiple of {multiple} for this "
            f"network; {fitting} would do"
        )
    voxels = math.prod(side // multiple for side in patch_size)
    if voxels == 1 and (network.norm == "instance" or (network.norm == "batch" and training_windows == 1)):
        raise UsageError(
            f"sampling.patch_size {tuple(patch_size)}: the network's bottleneck would be one voxel, which "
            f"{network.norm} normalisation cannot take; double one side or set network.norm to group"
        )


def _expect_little(*heads: nn.Module) -> None:
    """Let mask heads start at the share of tumour voxels instead of at one half."""
    for head in heads:
        assert isinstance(head, nn.Conv3d)
        assert head.bias is not None
        nn.init.constant_(head.bias, math.log(TUMOUR_PRIOR / (1 - TUMOUR_PRIOR)))


def _norm(name: str) -> tuple[str, dict[str, object]]:
    if name == "group":
        return "group", {"num_groups": 4, "affine": True}
    return name, {"affine": True}


def resized(logits: Tensor, shape: Sequence[int]) -> Tensor:
    """Return logits trilinearly resized to `shape` (k, j, i)."""
    return functional.interpolate(logits, size=tuple(shape), mode="trilinear", align_corners=False)
