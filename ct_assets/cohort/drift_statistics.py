"""Statistics of drift: how far two groups lie apart, how closely two labels go together, how likely by chance.

Belongs here: pure functions over arrays. Does not: which groups and factors are compared (`cohort.drift`).

Chance is always judged by relabelling (permutation), which needs no assumption and holds for a dozen patients
as for a thousand. Many tests are held together by the step-down max-T method of Westfall and Young
(Resampling-Based Multiple Testing, 1993, algorithm 4.1): the chance that any of them raises a false alarm stays
at the stated rate, whatever their dependence.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def relabellings(labels: Ints, count: int, seed: int) -> Ints:
    """Return (count + 1, n): the labels as they are, then `count` random orders of them."""
    random = np.random.default_rng(seed)
    return np.concatenate([labels[None], random.permuted(np.tile(labels, (count, 1)), axis=1)])


def ks(values: Floats, is_first: Ints) -> Floats:
    """Return the Kolmogorov-Smirnov distance of each labelling; `is_first` is (labellings, n) of 0 and 1."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    first = np.cumsum(is_first[:, order], axis=1)[:, ends]
    other = (ends + 1)[None, :] - first
    firsts, others = np.maximum(first[:, -1:], 1), np.maximum(other[:, -1:], 1)
    return np.abs(first / firsts - other / others).max(axis=1)


def wasserstein(first: Floats, other: Floats) -> float:
    """Return the 1-Wasserstein distance in units of the pooled deviation (0 where all values are equal)."""
    from scipy.stats import wasserstein_distance

    spread = float(np.concatenate([first, other]).std())
    return float(wasserstein_distance(first, other)) / spread if spread else 0.0


def psi(first: Floats, other: Floats, bins: int = 10) -> float:
    """Return the population stability index over quantile bins of both; half a count is added to each bin."""
    cuts = np.unique(np.quantile(np.concatenate([first, other]), np.linspace(0, 1, bins + 1)[1:-1]))
    return psi_of_counts(
        np.bincount(np.searchsorted(cuts, first, side="right"), minlength=len(cuts) + 1),
        np.bincount(np.searchsorted(cuts, other, side="right"), minlength=len(cuts) + 1),
    )


def psi_of_counts(first: Ints, other: Ints) -> float:
    """Return the population stability index of two rows of counts; half a count is added to each."""
    a, b = (first + 0.5) / (first + 0.5).sum(), (other + 0.5) / (other + 0.5).sum()
    return float(((a - b) * np.log(a / b)).sum())


def chi_square(codes: Ints, labels: Ints) -> Floats:
    """Return Pearson's chi-square between `codes` (n) and each labelling (labellings, n)."""
    kinds = np.eye(int(codes.max()) + 1)[codes]
    size = len(codes)
    share = kinds.sum(axis=0)
    total = np.zeros(len(labels))
    for label in range(int(labels.max()) + 1):
        is_label = (labels == label).astype(np.float64)
        seen = is_label @ kinds
        expected = is_label.sum(axis=1, keepdims=True) * share[None] / size
        total += np.divide((seen - expected) ** 2, expected, out=np.zeros_like(seen), where=expected > 0).sum(
            axis=1
        )
    return total


def cramers_v(codes: Ints, labels: Ints) -> float:
    """Return Cramér's V, corrected for bias (Bergsma, J. Korean Stat. Soc. 42, 2013); 0 to 1."""
    size = len(codes)
    rows, columns = len(np.unique(codes)), len(np.unique(labels))
    if size < 2 or min(rows, columns) < 2:
        return 0.0
    phi2 = float(chi_square(codes, labels[None])[0]) / size
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (size - 1))
    rows_corrected = rows - (rows - 1) ** 2 / (size - 1)
    columns_corrected = columns - (columns - 1) ** 2 / (size - 1)
    least = min(rows_corrected, columns_corrected) - 1
    return float(min(1.0, np.sqrt(phi2 / least))) if least > 0 else 0.0


def mutual_information(codes: Ints, labels: Ints) -> float:
    """Return mutual information in nats, less its bias under independence (Miller, 1955), at least 0."""
    size = len(codes)
    table = np.zeros((int(codes.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (codes, labels), 1)
    joint = table / size
    apart = joint.sum(axis=1, keepdims=True) @ joint.sum(axis=0, keepdims=True)
    there = joint > 0
    found = float((joint[there] * np.log(joint[there] / apart[there])).sum())
    rows, columns = (table.sum(axis=1) > 0).sum(), (table.sum(axis=0) > 0).sum()
    return max(0.0, found - float((rows - 1) * (columns - 1)) / (2 * size))


def kruskal_wallis(values: Floats, labels: Ints) -> Floats:
    """Return the Kruskal-Wallis statistic (without the correction for ties) of each labelling."""
    from scipy.stats import rankdata

    ranks = rankdata(values)
    size = len(values)
    total = np.zeros(len(labels))
    for label in range(int(labels.max()) + 1):
        is_label = (labels == label).astype(np.float64)
        count = is_label.sum(axis=1)
        mean = np.divide(is_label @ ranks, count, out=np.zeros(len(labels)), where=count > 0)
        total += count * (mean - (size + 1) / 2) ** 2
    return 12 * total / (size * (size + 1))


def mmd2(features: Floats, is_first: Ints) -> Floats:
    """Return the squared maximum mean discrepancy of each labelling (Gretton et al., JMLR 13, 2012, biased).

    Gaussian kernel over standardised features, with the median distance as its width.
    """
    scale = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(scale > 0, scale, 1)
    square = ((standard[:, None] - standard[None]) ** 2).sum(axis=2)
    width = np.median(square[square > 0]) if (square > 0).any() else 1.0
    kernel = np.exp(-square / width)
    first = is_first.astype(np.float64)
    other = 1 - first
    firsts, others = first.sum(axis=1), other.sum(axis=1)
    within = ((first @ kernel) * first).sum(axis=1) / firsts**2
    beyond = ((other @ kernel) * other).sum(axis=1) / others**2
    between = ((first @ kernel) * other).sum(axis=1) / (firsts * others)
    return within + beyond - 2 * between


def auc(scores: Floats, is_positive: Ints) -> Floats:
    """Return the area under the ROC curve, row by row; ties count half. 0.5 where a row has one class only."""
    from scipy.stats import rankdata

    ranks = rankdata(np.round(scores, 9), axis=1)
    positives = is_positive.sum(axis=1)
    negatives = is_positive.shape[1] - positives
    above = (ranks * is_positive).sum(axis=1) - positives * (positives + 1) / 2
    pairs = positives * negatives
    return np.divide(above, pairs, out=np.full(len(scores), 0.5), where=pairs > 0)


def surprise_chi_square(found: Floats, freedom: int) -> Floats:
    """Return -ln p of chi-square statistics by their asymptotic law: a scale that tests of any kind share."""
    from scipy.stats import chi2

    return -chi2.logsf(found, max(1, freedom))


def surprise_ks(found: Floats, first: int, other: int) -> Floats:
    """Return -ln p of Kolmogorov-Smirnov distances by their asymptotic law (leading term)."""
    return 2 * found**2 * first * other / max(1, first + other)


def surprise_normal(found: Floats) -> Floats:
    """Return -ln p of statistics as if they were normal with the mean and deviation of their labellings."""
    from scipy.stats import norm

    spread = float(found.std())
    return -norm.logsf((found - found.mean()) / (spread if spread else 1.0))


def by_chance(surprises: Floats) -> Floats:
    """Return the p-value of labelling 0 in each test; `surprises` is (tests, labellings), large is extreme."""
    rounded = np.round(surprises, 9)
    return (rounded >= rounded[:, :1]).mean(axis=1)


def step_down(surprises: Floats) -> Floats:
    """Return the p-values of labelling 0 adjusted for all tests, by step-down max-T.

    The asymptotic p-values only bring the tests to one scale; how extreme the largest of them is, is judged
    against the relabellings.
    """
    rounded = np.round(surprises, 9)
    order = np.argsort(-rounded[:, 0], kind="stable")
    largest = np.maximum.accumulate(rounded[order][::-1], axis=0)[::-1]
    adjusted = np.empty(len(order))
    reached = 0.0
    for place, test in enumerate(order):
        reached = max(reached, float((largest[place] >= rounded[test, 0]).mean()))
        adjusted[test] = reached
    return adjusted
