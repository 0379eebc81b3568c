"""Likeness of images and of sets of images: PSNR, SSIM, Fréchet distance, MMD.

Belongs here: measures over arrays and feature tables. Does not: the encoder that makes features; its name and
digest belong into a report beside these figures.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage

Floats = npt.NDArray[np.float64]

SSIM_SIGMA, SSIM_K1, SSIM_K2 = 1.5, 0.01, 0.03
"""Gaussian window and constants of Wang 2004 (IEEE TIP 13:600)."""
SSIM_REACH = 3.5
"""The window ends at so many deviations: 11 voxels a side."""


def psnr(first: npt.ArrayLike, second: npt.ArrayLike, data_range: float) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    a, b = _pair(first, second)
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    data_range: float,
    where: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Return the mean structural similarity (Wang 2004) in any number of dimensions, over all voxels or `where`."""
    a, b = _pair(first, second)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a**2
    variance_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    likeness = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return float(likeness.mean() if where is None else likeness[where].mean())


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the Fréchet distance of two feature tables (rows, features), each taken as a Gaussian.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson and Landau 1982; covariances over n - 1. Raises `ValueError`
    where a table has fewer than two rows.
    """
    a, b = _tables(first, second)
    cov_a, cov_b = (np.atleast_2d(np.cov(table, rowvar=False)) for table in (a, b))
    # tr (C1 C2)^(1/2) by the eigenvalues of the similar symmetric matrix C1^(1/2) C2 C1^(1/2): never complex.
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    away = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(away + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def mmd2(first: npt.ArrayLike, second: npt.ArrayLike, bandwidth: float | None = None) -> float:
    """Return the unbiased squared maximum mean discrepancy under an RBF kernel exp(-d^2 / (2 bandwidth^2)).

    Gretton 2012 (JMLR 13:723), lemma 6; may be slightly negative where the sets are alike. By default the bandwidth
    is the median distance of the pooled rows. Raises `ValueError` where a table has fewer than two rows.
    """
    a, b = _tables(first, second)
    pooled = np.concatenate([a, b])
    squared = ((pooled[:, None] - pooled[None]) ** 2).sum(-1)
    if bandwidth is None:
        bandwidth = float(np.sqrt(np.median(squared[np.triu_indices(len(pooled), 1)]))) or 1.0
    kernel = np.exp(-squared / (2 * bandwidth**2))
    n, m = len(a), len(b)
    within_a = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_b = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel[:n, n:].mean())


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"images of one shape are compared, got {a.shape} and {b.shape}")
    return a, b


def _tables(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Floats, Floats]:
    a, b = (np.asarray(table, dtype=np.float64) for table in (first, second))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError("two tables (rows, features) with the same features and at least two rows each")
    return a, b


def _blurred(image: Floats) -> Floats:
    return np.asarray(ndimage.gaussian_filter(image, SSIM_SIGMA, truncate=SSIM_REACH))
