"""Features of flow time and of an interval in days, for networks that depend on them.

Belongs here: one scale for training and sampling, so that no caller scales a time. Does not: networks.
"""

import math

import torch
from torch import Tensor

FLOW_TIME_SCALE = 1000.0
"""Flow time runs from 0 to 1; sinusoids are made for 0 … 1000, over which 0 … 1 would be nearly constant."""
LONGEST_PERIOD = 10_000.0
INTERVAL_PERIODS_DAYS = (120.0, 12_000.0)
"""Periods of an interval's sinusoids: shorter ones would tell days apart that no exam date does."""


def of_flow_time(t: Tensor, width: int) -> Tensor:
    """Return features (batch, width) of flow time (batch,) from 0 to 1."""
    half = width // 2
    frequencies = torch.exp(-math.log(LONGEST_PERIOD) * torch.arange(half, device=t.device) / half)
    return _waves(scaled_flow_time(t)[:, None] * frequencies)


def scaled_flow_time(t: Tensor) -> Tensor:
    """Return flow time on the scale that timestep embeddings expect."""
    return t.float() * FLOW_TIME_SCALE


def of_interval(days: Tensor, width: int) -> Tensor:
    """Return features (batch, width) of an interval in days (batch,)."""
    shortest, longest = INTERVAL_PERIODS_DAYS
    steps = torch.linspace(0, 1, width // 2, device=days.device)
    periods = shortest * (longest / shortest) ** steps
    return _waves(2 * math.pi * days.float()[:, None] / periods)


def _waves(angles: Tensor) -> Tensor:
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
