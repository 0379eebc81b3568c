"""The stage head: from the windows of a patient to probabilities of stages.

The stage belongs to the patient, not to a window: windows are pooled before anything is classified.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ct_assets.settings.training import StageHeadSettings

VOLUME_CENTRE, VOLUME_SCALE = 3.0, 1.5
"""log(1 + ml) of usual tumours: 20 ml is the middle, 4 and 90 ml one deviation away."""


class StageHead(nn.Module):
    """Pools window features of a patient and gives log-probabilities of the classes.

    The tumour volume is that of the window which holds most of it: windows overlap, and adding them up would
    count a tumour twice.
    """

    def __init__(self, settings: StageHeadSettings, *, features: int, classes: int) -> None:
        super().__init__()
        self.uses_volume = settings.use_tumour_volume
        self.window = nn.Sequential(
            nn.Linear(features, settings.hidden), nn.GELU(), nn.LayerNorm(settings.hidden)
        )
        self.pool = GatedAttention(settings.hidden) if settings.pooling == "attention" else MeanPool()
        self.dropout = nn.Dropout(settings.dropout)
        self.out: NominalOutput | OrdinalOutput
        width = settings.hidden + int(settings.use_tumour_volume)
        self.out = (OrdinalOutput if settings.kind == "ordinal" else NominalOutput)(width, classes)

    def forward(self, bags: Tensor, tumour_ml: Tensor) -> Tensor:
        """Turn features (bags, windows, features) into log-probabilities (bags, classes), in float32.

        `tumour_ml` (bags, windows) is the tumour volume that the mask head sees in each window.
        """
        pooled = self.dropout(self.pool(self.window(bags.float())))
        if self.uses_volume:
            volume = (torch.log1p(tumour_ml.float().amax(dim=1)) - VOLUME_CENTRE) / VOLUME_SCALE
            pooled = torch.cat([pooled, volume[:, None]], dim=1)
        return self.out(pooled)


class MeanPool(nn.Module):
    """The mean over windows."""

    def forward(self, bags: Tensor) -> Tensor:
        """Turn (bags, windows, hidden) into (bags, hidden)."""
        return bags.mean(dim=1)


class GatedAttention(nn.Module):
    """Gated attention over windows (Ilse 2018, arXiv:1802.04712, equation 9)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, bags: Tensor) -> Tensor:
        """Turn (bags, windows, hidden) into (bags, hidden)."""
        scores = self.score(torch.tanh(self.value(bags)) * torch.sigmoid(self.gate(bags)))
        return (scores.softmax(dim=1) * bags).sum(dim=1)


class NominalOutput(nn.Module):
    """Classes without order."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn (bags, hidden) into log-probabilities (bags, classes)."""
        return functional.log_softmax(self.linear(pooled), dim=1)


class OrdinalOutput(nn.Module):
    """Classes in order: proportional odds, P(class > c) = sigmoid(score - threshold_c).

    Thresholds grow by construction (McCullagh 1980), so that every class has a probability.
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, 1)
        self.first_threshold = nn.Parameter(torch.tensor([-(classes - 2) / 2.0]))
        self.raw_steps = nn.Parameter(torch.full((classes - 2,), 0.5413))  # softplus of it is 1

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn (bags, hidden) into log-probabilities (bags, classes)."""
        steps = functional.softplus(self.raw_steps)
        thresholds = torch.cat([self.first_threshold, self.first_threshold + steps.cumsum(0)])
        margins = self.score(pooled) - thresholds
        above = functional.logsigmoid(margins)
        below = functional.logsigmoid(-margins)
        first, last = below[:, :1], above[:, -1:]
        # P(c) = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), for margins a > b
        between = above[:, :-1] + below[:, 1:] + torch.log1p(-torch.exp(-steps))
        return torch.cat([first, between, last], dim=1)
