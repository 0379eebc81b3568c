"""What any model has to beat: rules that need no training, or no image.

Belongs here: prevalence, the stage model that sees headers only, and a threshold inside the lungs. They stand
in every report beside the model.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.cohort.header_stage_model import Factor, features
from ct_assets.imaging import crop, resample
from ct_assets.imaging.volume import Grid, Volume

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

COARSE_MM = (4.0, 4.0, 4.0)
"""The threshold rule works at this spacing."""
LUNG_HU = crop.LUNG_HU
SOFT_TISSUE_HU = -250
"""Half-way between aerated lung and soft tissue, with some partial volume."""
CLOSING_MM = 12.0
"""Gaps in the lungs up to twice this are closed, so that a tumour at the wall lies inside."""
OPENING_MM = 4.0
"""Parts thinner than twice this are vessels."""
LEAST_LUNG_SHARE = 0.05
"""Parts of air inside the body smaller than this share of the largest are no lungs."""
MOST_FACTOR_VALUES = 10
"""Text factors with more values than this tell patients apart, not scanners."""


def prevalence(training_stages: Sequence[str | None], stages: Sequence[str]) -> Floats:
    """Return the class frequencies among training patients as everybody's probabilities (one count added)."""
    counts = np.array([1.0 + sum(stage == known for known in training_stages) for stage in stages])
    return counts / counts.sum()


def headers_only(
    headers: pl.DataFrame, truth: Sequence[str | None], folds: Sequence[str], stages: Sequence[str]
) -> Floats | None:
    """Return out-of-fold stage probabilities (rows, classes) from header columns alone, or None without any.

    `headers` holds the factor columns in the order of `truth` and `folds`. A ridge-penalised multinomial
    model on the same columns that the drift report uses; each fold's patients by a model of the others.
    """
    from sklearn.linear_model import LogisticRegression

    factors = [factor for name in headers.columns if (factor := _factor(headers[name])) is not None]
    if not factors:
        return None
    table = features(factors)
    if table.shape[1] == 0:
        return None
    known = np.array([stage in stages for stage in truth])
    labels = np.array([stages.index(stage) if stage in stages else -1 for stage in truth])
    where = np.asarray(folds)
    probabilities = np.zeros((len(labels), len(stages)))
    for fold in sorted(set(folds)):
        asked, fitted = where == fold, (where != fold) & known
        flat = prevalence([stage for stage, used in zip(truth, fitted, strict=True) if used], stages)
        probabilities[asked] = flat
        if len(set(labels[fitted])) < 2:
            continue
        # scaled by the number of columns: with more columns than patients the penalty must grow
        model = LogisticRegression(C=1.0 / table.shape[1], max_iter=500).fit(table[fitted], labels[fitted])
        probabilities[asked] = 0.0
        probabilities[np.ix_(asked, model.classes_)] = model.predict_proba(table[asked])
    return probabilities


def _factor(column: pl.Series) -> Factor | None:
    if column.n_unique() < 2:
        return None
    if column.dtype.is_numeric():
        return Factor(column.name, column.cast(pl.Float64).fill_null(float("nan")).to_numpy(), None)
    texts = [str(value) for value in column]
    names = tuple(sorted(set(texts)))
    if len(names) > MOST_FACTOR_VALUES:
        return None
    return Factor(column.name, np.array([names.index(text) for text in texts], dtype=float), names)


def threshold_in_lung(image: Volume) -> Mask:
    """Return the thickest solid part inside the lungs, on the image's grid: air, closed, thresholded, opened.

    `image` is in HU. Found on 4 mm voxels and brought back.
    """
    turned = resample.oriented(image)
    coarse = resample.resample(turned, COARSE_MM, 1)
    found = _solid_in_lung(coarse)
    back = resample.labels_onto(Volume(found.astype(np.uint8), coarse.grid), image.grid)
    return np.asarray(back.array, dtype=bool)


def _solid_in_lung(coarse: Volume) -> Mask:
    from scipy import ndimage

    hu = np.asarray(coarse.array, dtype=np.float32)
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in hu > crop.BODY_HU])
    numbered, count = ndimage.label((hu < LUNG_HU) & body)
    if not count:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    lungs = np.isin(numbered, np.flatnonzero(sizes >= LEAST_LUNG_SHARE * sizes.max()))
    # Each lung is closed for itself: together they would take in what lies between them.
    hull = np.zeros(hu.shape, dtype=bool)
    for part in np.unique(numbered[lungs]):
        lung = np.stack(
            [ndimage.binary_fill_holes(plane) for plane in _closed(numbered == part, coarse.grid)]
        )
        hull |= lung
    parts, count = ndimage.label(_opened(hull & (hu > SOFT_TISSUE_HU), coarse.grid))
    if not count:
        return np.zeros(hu.shape, dtype=bool)
    depth = ndimage.distance_transform_edt(parts > 0, sampling=coarse.grid.spacing_mm[::-1])
    thickest = ndimage.maximum(depth, parts, np.arange(1, count + 1))
    return parts == 1 + int(np.argmax(thickest))


def _closed(mask: Mask, grid: Grid) -> Mask:
    """Return the morphological closing by a ball, by distances."""
    from scipy import ndimage

    margin = [int(np.ceil(CLOSING_MM / step)) + 1 for step in grid.spacing_mm[::-1]]
    padded = np.pad(mask, [(m, m) for m in margin])
    near = ndimage.distance_transform_edt(~padded, sampling=grid.spacing_mm[::-1]) <= CLOSING_MM
    kept = ndimage.distance_transform_edt(near, sampling=grid.spacing_mm[::-1]) > CLOSING_MM
    return kept[tuple(slice(m, -m) for m in margin)]


def _opened(mask: Mask, grid: Grid) -> Mask:
    """Return the morphological opening by a ball, by distances."""
    from scipy import ndimage

    steps = grid.spacing_mm[::-1]
    core = ndimage.distance_transform_edt(mask, sampling=steps) > OPENING_MM
    if not core.any():
        return mask
    return mask & (ndimage.distance_transform_edt(~core, sampling=steps) <= OPENING_MM)
