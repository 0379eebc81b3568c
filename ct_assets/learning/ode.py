"""Integration of a velocity field from flow time 0 to 1: Euler, Heun and the classical Runge-Kutta method.

Belongs here: fixed steps over any tensor. Does not: the field (`learning.flow` trains one).
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

Method = Literal["euler", "heun", "rk4"]
Field = Callable[[Tensor, Tensor], Tensor]
"""`field(x, t)`: the velocity at `x` (batch, …) and flow time `t` of shape (batch,)."""

ORDER: dict[Method, int] = {"euler": 1, "heun": 2, "rk4": 4}
"""The global order of convergence, which is also the number of evaluations a step."""


def integrate(field: Field, x0: Tensor, steps: int, method: Method = "heun") -> Tensor:
    """Return `x0` carried by `field` from flow time 0 to 1 in equal steps.

    `field(x, t)` gets `t` of shape (batch,). The error falls with the step to the power of `ORDER[method]`. Raises
    `ValueError` for fewer than one step or an unknown method. Gradients flow as the caller's context says.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    h = 1.0 / steps
    x = x0
    for step in range(steps):
        x = x + h * _slope(field, x, step / steps, h, method)
    return x


def _slope(field: Field, x: Tensor, start: float, h: float, method: Method) -> Tensor:
    def at(y: Tensor, t: float) -> Tensor:
        return field(y, torch.full(y.shape[:1], min(t, 1.0), dtype=y.dtype, device=y.device))

    first = at(x, start)
    if method == "euler":
        return first
    if method == "heun":
        return (first + at(x + h * first, start + h)) / 2
    second = at(x + h / 2 * first, start + h / 2)
    third = at(x + h / 2 * second, start + h / 2)
    fourth = at(x + h * third, start + h)
    return (first + 2 * second + 2 * third + fourth) / 6
