"""Flow matching: probability paths between two samples, mini-batch coupling, and the loss of a velocity field.

Belongs here: what holds for any data (points, patches, latents). Does not: networks, integration of a trained field
(`learning.ode`), what a system conditions on.

Sources: Lipman et al. 2023 (arXiv 2210.02747), Tong et al. 2024 (arXiv 2302.00482).
"""

import torch
from torch import Tensor


def path(
    x0: Tensor, x1: Tensor, t: Tensor, sigma: float = 0.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return a point of the straight path and the velocity there: `(xt, ut)`, each of the shape of `x0`.

    `xt = (1 - t) x0 + t x1 + sigma * noise` and `ut = x1 - x0` (conditional flow matching with independent
    coupling, Tong et al. 2024, section 3.2.2). `t` has shape (batch,), 0 at `x0` and 1 at `x1`; a scalar holds for
    the whole batch. `generator` makes the noise repeatable; with `sigma` 0 none is drawn.

    Raises `ValueError` where the shapes differ, `t` does not fit the batch or `sigma` is negative.
    """
    if x0.shape != x1.shape:
        raise ValueError(f"x0 and x1 must have one shape, got {tuple(x0.shape)} and {tuple(x1.shape)}")
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}")
    share = over_batch(t, x0)
    xt = (1 - share) * x0 + share * x1
    if sigma > 0:
        noise = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        xt = xt + sigma * noise
    return xt, x1 - x0


def over_batch(t: Tensor, x: Tensor) -> Tensor:
    """Return `t` of shape (batch,) or () so that it multiplies `x` (batch, …) sample by sample."""
    if t.ndim == 0:
        return t.to(x.dtype)
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must have shape ({x.shape[0]},), got {tuple(t.shape)}")
    return t.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def couple(x0: Tensor, x1: Tensor) -> Tensor:
    """Return the index tensor `p` of the optimal pairing: `x0[i]` goes with `x1[p[i]]`.

    The sum of squared distances is the least of all pairings (exact assignment; mini-batch optimal transport of
    Tong et al. 2024). For unconditional training only: a pairing that ignores a condition biases what is learned
    under it. Raises `ValueError` where the batches differ in shape or hold values that are not finite.
    """
    from scipy.optimize import linear_sum_assignment

    if x0.shape != x1.shape:
        raise ValueError(f"x0 and x1 must have one shape, got {tuple(x0.shape)} and {tuple(x1.shape)}")
    if len(x0) == 0:
        return torch.empty(0, dtype=torch.long, device=x0.device)
    a, b = (x.detach().reshape(len(x), -1).double().cpu() for x in (x0, x1))
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("x0 and x1 must be finite")
    centre = b.mean(0)
    a, b = a - centre, b - centre
    # The squares of single points add the same to every pairing, so the inner products alone decide.
    _, columns = linear_sum_assignment((-(a @ b.T)).numpy())
    return torch.as_tensor(columns, dtype=torch.long, device=x0.device)


def velocity_loss(predicted: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error of a velocity field; with `weight` (broadcast) the weighted mean.

    The weighted mean is `sum(w e) / sum(w)`, so that it does not depend on the size of the region.
    """
    error = (predicted - wanted) ** 2
    if weight is None:
        return error.mean()
    weight = weight.expand_as(error)
    return (weight * error).sum() / weight.sum().clamp_min(torch.finfo(error.dtype).tiny)
