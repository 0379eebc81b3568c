"""A small encoder of tokens, so that the path from file to features can be tried without any weights.

Belongs here: the network. It is no model of anything: its weights come from a seed.
"""

import torch
from torch import nn

from ct_assets.systems.neuro.tokens import FEATURES, PATCH, coordinates, size_of, tokenize

POSITIONS = 64
"""Coordinates beyond share the last position: 1024 mm along a row, 256 mm along the slices."""


class TinyEncoder(nn.Module):
    """One linear layer and one attention layer over tokens; the mean of the foreground is the feature."""

    def __init__(self, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Linear(FEATURES, width)
            self.positions = nn.ModuleList(nn.Embedding(POSITIONS, width) for _ in PATCH)
            self.attend = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)

    def forward(
        self, img: torch.Tensor, coords: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, width) features of a volume or of tokens.

        `img` is a volume (1, D, H, W), or tokens (B, N, 1024) with `coords` (B, N, 3) and `mask` (B, N), true
        where a token counts, as `pad` gives them.
        """
        if coords is None:
            coords = coordinates(size_of(img))[None].to(img.device)
            img = tokenize(img)[None]
        hidden = self.embed(img)
        for axis, table in enumerate(self.positions):
            hidden = hidden + table(coords[..., axis].clamp(0, POSITIONS - 1))
        counted = torch.ones(img.shape[:2], dtype=torch.bool, device=img.device) if mask is None else mask
        hidden = self.attend(hidden, src_key_padding_mask=~counted)
        weight = counted.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
