"""The model that sees headers only: can scanner, kernel or slice thickness alone tell the stage?

Belongs here: headers as numbers, and a linear model whose cross-validated predictions are themselves linear in
the labels, so that thousands of relabelled fits cost one matrix product. The same model tells one part of a split
from another (adversarial validation). Does not: images; nothing here ever sees a voxel.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.cohort.drift_statistics import auc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS = 5
"""Folds of the model's own cross-validation."""
REPEATS = 4
"""Random divisions into those folds; predictions are averaged over them."""
RIDGE = 1.0
"""Penalty on standardised columns, in units of the number of patients: a column alone is halved."""
NUMERIC_BINS = 4
"""A number also enters as which of so many quantile bins it is in, so that it may act in any shape."""
LABELLINGS_AT_ONCE = 64


@dataclass(frozen=True)
class Factor:
    """One header or image factor over the patients: numbers, or codes of categories."""

    name: str
    values: Floats
    """Numbers, NaN where missing; or codes 0, 1, …"""
    categories: tuple[str, ...] | None
    """Names of the codes; None for numbers."""

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers rather than codes."""
        return self.categories is None

    @property
    def codes(self) -> Ints:
        """Return codes 0, 1, …: the categories, or quantile bins of numbers, with missing as the last."""
        if not self.is_numeric:
            return self.values.astype(np.int64)
        there = ~np.isnan(self.values)
        inner = np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1]
        cuts = np.unique(np.quantile(self.values[there], inner)) if there.any() else np.zeros(0)
        codes = np.searchsorted(cuts, self.values, side="left")
        codes[~there] = len(cuts) + 1
        return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def features(factors: list[Factor]) -> Floats:
    """Return the factors as standardised columns: each category or bin as 0 or 1, and the ranks of numbers."""
    from scipy.stats import rankdata

    columns = []
    for factor in factors:
        codes = factor.codes
        columns += [codes == code for code in range(int(codes.max()) + 1)]
        if factor.is_numeric:
            there = ~np.isnan(factor.values)
            ranks = np.full(len(codes), (there.sum() + 1) / 2)
            ranks[there] = rankdata(factor.values[there])
            columns.append(ranks)
    table = np.stack(columns, axis=1).astype(np.float64)
    spread = table.std(axis=0)
    return (table[:, spread > 0] - table[:, spread > 0].mean(axis=0)) / spread[spread > 0]


def held_out(table: Floats, seed: int) -> Floats:
    """Return the matrix that turns labels into held-out ridge predictions, each patient's without its own label."""
    size = len(table)
    random = np.random.default_rng(seed)
    operator = np.zeros((size, size))
    for _ in range(REPEATS):
        part = random.permutation(np.arange(size) % min(PARTS, size))
        for number in range(int(part.max()) + 1):
            fitted, asked = np.flatnonzero(part != number), np.flatnonzero(part == number)
            mean = table[fitted].mean(axis=0)
            inputs = table[fitted] - mean
            penalty = RIDGE * len(fitted)
            if table.shape[1] < len(fitted):
                squares = inputs.T @ inputs + penalty * np.eye(table.shape[1])
                into = (table[asked] - mean) @ np.linalg.solve(squares, inputs.T)
            else:  # the same in as many equations as patients
                squares = inputs @ inputs.T + penalty * np.eye(len(fitted))
                into = (table[asked] - mean) @ inputs.T @ np.linalg.inv(squares)
            average = np.full((len(fitted), len(fitted)), 1 / len(fitted))
            operator[np.ix_(asked, fitted)] += into @ (np.eye(len(fitted)) - average) + average[:1]
    return operator / REPEATS


def scores(table: Floats, labellings: Ints, seed: int) -> Floats:
    """Return the held-out AUC of each labelling: one class against the rest, averaged over classes present."""
    operator = held_out(table, seed)
    classes = int(labellings.max()) + 1
    found = np.zeros(len(labellings))
    for start in range(0, len(labellings), LABELLINGS_AT_ONCE):
        some = labellings[start : start + LABELLINGS_AT_ONCE]
        for label in range(classes if classes > 2 else 1):
            is_label = (some == label).astype(np.int64)
            found[start : start + len(some)] += auc(is_label @ operator.T, is_label)
    return found / (classes if classes > 2 else 1)
