"""How often the intervals of reports hold the true value, from 2 to 100 patients, by simulation.

Draws cohorts whose true figure is known, computes the interval as reports do, and prints a table (also as CSV with
`--csv FILE`). Run: python benchmarks/coverage.py [--repeats 2000]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import norm

from ct_assets.learning.evaluation import bootstrap, classification, intervals

PATIENTS = (2, 3, 5, 8, 10, 14, 20, 30, 50, 100)
LEVEL = 0.95
Draw = Callable[[np.random.Generator, int], tuple[intervals.Estimate, float]]


def names(count: int) -> list[str]:
    """Return as many patients."""
    return [f"p{number}" for number in range(count)]


def share(true: float) -> Draw:
    """Return one yes or no a patient."""
    return lambda rng, n: (
        intervals.bounded_mean(rng.random(n) < true, names(n), confidence=LEVEL),
        true,
    )


def lesions(true: float) -> Draw:
    """Return one to four lesions a patient, all missed or all found."""

    def draw(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
        count = rng.integers(1, 5, n)
        missed = count * (rng.random(n) < true)
        return intervals.bounded_ratio(missed, count, names(n), confidence=LEVEL), true

    return draw


def score(a: float, b: float, zeros: float = 0.0) -> Draw:
    """Return a Dice of a beta distribution, some of which are 0."""

    def draw(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
        values = rng.beta(a, b, n) * (rng.random(n) >= zeros)
        return intervals.bounded_mean(values, names(n), confidence=LEVEL), a / (a + b) * (1 - zeros)

    return draw


def distance(kind: str) -> Draw:
    """Return a quantity in mm or ml."""

    def draw(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
        values, true = {
            "normal": lambda: (rng.normal(5, 1, n), 5.0),
            "exponential": lambda: (rng.exponential(1, n), 1.0),
            "lognormal": lambda: (rng.lognormal(0, 0.7, n), float(np.exp(0.245))),
        }[kind]()
        return intervals.mean(values, names(n), confidence=LEVEL), true

    return draw


def difference(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
    """Return the Dice of two equal models, paired."""
    first, second = rng.beta(4, 2, (2, n))
    found = intervals.difference_of_means(first, second, names(n), confidence=LEVEL)
    return intervals.Estimate(found.difference, found.low, found.high, n, found.method), 0.0


def area(true: float, positive_share: float) -> Draw:
    """Return the AUROC of normal scores."""

    def draw(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
        is_class = np.arange(n) < max(1, round(positive_share * n))
        values = rng.normal(size=n) + np.sqrt(2) * norm.ppf(true) * is_class
        return intervals.auroc(is_class, values, names(n), confidence=LEVEL), true

    return draw


def binary_area(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
    """Return the AUROC of a score of two values: sensitivity 0.9, specificity 0.6, area 0.75."""
    is_class = np.arange(n) < n // 2
    values = np.where(is_class, rng.random(n) < 0.9, rng.random(n) < 0.4).astype(float)
    return intervals.auroc(is_class, values, names(n), confidence=LEVEL), 0.75


def recall(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
    """Return the balanced accuracy of three classes with recalls 0.9, 0.7 and 0.5."""
    parts = []
    for true, size in zip((0.9, 0.7, 0.5), (n - 2 * (n // 3), n // 3, n // 3), strict=True):
        parts.append(intervals.bounded_mean(rng.random(size) < true, names(size), confidence=LEVEL))
    return intervals.mean_of_separate(parts), 0.7


def kappa(rng: np.random.Generator, n: int) -> tuple[intervals.Estimate, float]:
    """Return the quadratic kappa of three equal classes, called right in 70 %, else the neighbour: 0.775 by hand."""
    truth = rng.integers(0, 3, n)
    wrong = np.where(truth == 1, rng.choice([0, 2], n), 1)
    called = np.where(rng.random(n) < 0.7, truth, wrong)
    p = np.eye(3)[called]
    found = bootstrap.estimate(
        lambda w: classification.quadratic_kappa(truth, p, w), names(n), samples=400, confidence=LEVEL
    )
    return found, TRUE_KAPPA


# Cost 1 in 30 % of patients; called classes have shares 0.3333, 0.3333 and 0.3333 of 0.7 and half moves in and out:
# called 0: (0.7 + 0.15) / 3, called 1: (0.7 + 0.6) / 3, called 2 as 0. Expected cost = sum of (i - j)^2 over thirds.
_CALLED = (0.85 / 3, 1.3 / 3, 0.85 / 3)
TRUE_KAPPA = 1 - 0.3 / sum(_CALLED[j] / 3 * (i - j) ** 2 for i in range(3) for j in range(3))

FIGURES: dict[str, Draw] = {
    "share 0.01": share(0.01),
    "share 0.1": share(0.1),
    "share 0.5": share(0.5),
    "share 0.9": share(0.9),
    "lesions missed 0.2": lesions(0.2),
    "Dice, beta(8, 2)": score(8, 2),
    "Dice, beta(8, 2), 10 % zero": score(8, 2, 0.1),
    "Dice, normal-like beta(30, 30)": score(30, 30),
    "mm, normal": distance("normal"),
    "mm, lognormal 0.7": distance("lognormal"),
    "mm, exponential": distance("exponential"),
    "difference of Dice": difference,
    "AUROC 0.5": area(0.5, 0.5),
    "AUROC 0.8": area(0.8, 0.5),
    "AUROC 0.95": area(0.95, 0.5),
    "AUROC 0.8, 20 % positive": area(0.8, 0.2),
    "AUROC 0.75, two values": binary_area,
    "balanced accuracy": recall,
    "quadratic kappa": kappa,
}


def coverage(draw: Draw, patients: int, repeats: int) -> tuple[float, float, float]:
    """Return how often intervals hold the truth among those given, how often given, and their mean width."""
    rng = np.random.default_rng([patients, repeats])
    held = given = 0
    width = 0.0
    for _ in range(repeats):
        found, true = draw(rng, patients)
        if found.low is None or found.high is None:
            continue
        given += 1
        held += found.low - 1e-12 <= true <= found.high + 1e-12
        width += found.high - found.low
    return held / max(given, 1), given / repeats, width / max(given, 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    print("| coverage of 95 % intervals, in % |" + "".join(f" {n} |" for n in PATIENTS))
    print("|---|" + "---|" * len(PATIENTS))
    lines = ["figure,patients,coverage,given,width"]
    for name, draw in FIGURES.items():
        cells = []
        for patients in PATIENTS:
            held, given, width = coverage(draw, patients, options.repeats)
            cells.append(f"{100 * held:.1f}" if given > 0.05 else "–")
            lines.append(f'"{name}",{patients},{held:.4f},{given:.4f},{width:.4f}')
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if options.csv:
        options.csv.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
