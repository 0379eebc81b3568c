"""The course of the learning rate over one stage of a training: warm-up, then down.

Belongs here: the factor on the peak rate as a pure function of the step, so that resuming needs no state.
"""

import math
from typing import Literal

POLYNOMIAL_POWER = 0.9
"""As nnU-Net has it (Isensee 2021, doi:10.1038/s41592-020-01008-z)."""


def factor(
    step: int,
    steps: int,
    *,
    schedule: Literal["cosine", "polynomial", "constant"],
    warmup_share: float,
    final_share: float,
) -> float:
    """Return the share of the peak rate at `step` (0 … steps - 1).

    The warm-up rises linearly and never starts at zero; the course then falls from 1 to `final_share`, which
    the last step reaches.
    """
    warmup = math.ceil(warmup_share * steps) if steps > 1 else 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - 1 - warmup)
    course = (
        (1 - done) ** POLYNOMIAL_POWER if schedule == "polynomial" else (1 + math.cos(math.pi * done)) / 2
    )
    return final_share + (1 - final_share) * course
