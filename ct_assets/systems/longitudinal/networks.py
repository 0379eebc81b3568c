"""Networks of longitudinal nodules: a velocity field and an autoencoder, small ones for CPUs and MONAI's.

Belongs here: what goes in and out, and how settings become a network. Does not: losses and training (`flow_task`,
`autoencoder_task`).
"""

from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.learning.networks import time_features
from ct_assets.settings.longitudinal import AutoencoderConfig, FlowConfig

GROUPS = 4


class VelocityField(nn.Module):
    """A velocity field: `forward(x, t, condition, days)`.

    `x` and `condition` have shape (batch, channels, slices, rows, columns), `t` (0 … 1) and `days` shape (batch,).
    Without a condition `condition` is zero and `days` is 0.
    """


class SmallField(VelocityField):
    """A U-Net of one residual block a level, modulated by flow time and interval (FiLM, Perez 2018, arXiv:1709.07871)."""

    def __init__(self, channels: tuple[int, ...], embedding: int, data_channels: int = 1) -> None:
        super().__init__()
        self.embedding = embedding
        self.time = _perceptron(embedding, embedding)
        self.interval = _perceptron(embedding, embedding)
        self.first = nn.Conv3d(2 * data_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        before = channels[0]
        for width in channels:
            self.down.append(FilmBlock(before, width, embedding))
            before = width
        for width, skip in zip(reversed(channels[:-1]), reversed(channels[:-1]), strict=True):
            self.up.append(FilmBlock(before + skip, width, embedding))
            before = width
        self.last = nn.Conv3d(before, data_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, days: Tensor) -> Tensor:
        """Return the velocity, of the shape of `x`."""
        context = self.time(time_features.of_flow_time(t, self.embedding)) + self.interval(
            time_features.of_interval(days, self.embedding)
        )
        y = self.first(torch.cat([x, condition], dim=1))
        skips = []
        for level, block in enumerate(self.down):
            if level:
                y = functional.avg_pool3d(y, 2)
            y = block(y, context)
            skips.append(y)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            y = functional.interpolate(y, size=skip.shape[2:], mode="nearest")
            y = block(torch.cat([y, skip], dim=1), context)
        return cast(Tensor, self.last(functional.silu(y)))


class FilmBlock(nn.Module):
    """Two convolutions with a shortcut; between them scale and shift by the context."""

    def __init__(self, into: int, out: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(into), into)
        self.one = nn.Conv3d(into, out, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * out)
        self.other_norm = nn.GroupNorm(_groups(out), out)
        self.two = nn.Conv3d(out, out, 3, padding=1)
        self.short = nn.Conv3d(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.one(functional.silu(self.norm(x)))
        scale, shift = self.film(context)[:, :, None, None, None].chunk(2, dim=1)
        y = self.two(functional.silu(self.other_norm(y) * (1 + scale) + shift))
        return cast(Tensor, y + self.short(x))


class MonaiField(VelocityField):
    """MONAI's `DiffusionModelUNet`; the interval reaches it by cross-attention."""

    def __init__(self, channels: tuple[int, ...], embedding: int, data_channels: int = 1) -> None:
        super().__init__()
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        self.embedding = embedding
        self.interval = _perceptron(embedding, embedding)
        self.network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2 * data_channels,
            out_channels=data_channels,
            channels=channels,
            attention_levels=tuple(level == len(channels) - 1 for level in range(len(channels))),
            num_res_blocks=1,
            norm_num_groups=_groups(min(channels)),
            num_head_channels=min(channels),
            with_conditioning=True,
            cross_attention_dim=embedding,
        )

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, days: Tensor) -> Tensor:
        """Return the velocity, of the shape of `x`."""
        context = self.interval(time_features.of_interval(days, self.embedding))[:, None]
        return cast(
            Tensor,
            self.network(
                torch.cat([x, condition], dim=1), time_features.scaled_flow_time(t), context=context
            ),
        )


class Autoencoder(Protocol):
    """What encodes crops (batch, 1, slices, rows, columns) scaled to -1 … 1."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents."""

    def decode(self, z: Tensor) -> Tensor:
        """Return crops."""


class SmallAutoencoder(nn.Module):
    """Strided convolutions down and nearest-neighbour upsampling; the latents' deviation is fixed."""

    def __init__(self, channels: tuple[int, ...], latent_channels: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        down: list[nn.Module] = [nn.Conv3d(1, channels[0], 3, padding=1), nn.SiLU()]
        up: list[nn.Module] = []
        for before, width in pairwise(channels):
            down += [
                nn.Conv3d(before, width, 4, stride=2, padding=1), nn.GroupNorm(_groups(width), width), nn.SiLU()
            ]  # fmt: skip
            up = [
                nn.Upsample(scale_factor=2), nn.Conv3d(width, before, 3, padding=1),
                nn.GroupNorm(_groups(before), before), nn.SiLU(), *up,
            ]  # fmt: skip
        self.encoder = nn.Sequential(*down, nn.Conv3d(channels[-1], latent_channels, 3, padding=1))
        self.decoder = nn.Sequential(
            nn.Conv3d(latent_channels, channels[-1], 3, padding=1), nn.SiLU(), *up,
            nn.Conv3d(channels[0], 1, 3, padding=1),
        )  # fmt: skip

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents."""
        mean = self.encoder(x)
        return mean, torch.full_like(mean, self.noise)

    def decode(self, z: Tensor) -> Tensor:
        """Return crops."""
        return cast(Tensor, self.decoder(z))


class MonaiAutoencoder(nn.Module):
    """MONAI's `AutoencoderKL`."""

    def __init__(self, channels: tuple[int, ...], latent_channels: int) -> None:
        super().__init__()
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        self.network = AutoencoderKL(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=channels,
            latent_channels=latent_channels,
            num_res_blocks=(1,) * len(channels),
            attention_levels=(False,) * len(channels),
            norm_num_groups=_groups(min(channels)),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents."""
        mean, deviation = self.network.encode(x)
        return mean, deviation

    def decode(self, z: Tensor) -> Tensor:
        """Return crops."""
        return self.network.decode(z)


def field(config: FlowConfig, data_channels: int = 1) -> VelocityField:
    """Return the velocity field of a configuration."""
    kind = SmallField if config.network == "small" else MonaiField
    return kind(config.channels, config.embedding, data_channels)


def autoencoder(config: AutoencoderConfig) -> SmallAutoencoder | MonaiAutoencoder:
    """Return the autoencoder of a configuration."""
    if config.network == "small":
        return SmallAutoencoder(config.channels, config.latent_channels, config.latent_noise)
    return MonaiAutoencoder(config.channels, config.latent_channels)


def _perceptron(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(into, out), nn.SiLU(), nn.Linear(out, out))


def _groups(channels: int) -> int:
    return next(groups for groups in range(min(GROUPS, channels), 0, -1) if channels % groups == 0)
