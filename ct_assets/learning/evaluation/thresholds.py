"""Binary decisions at every threshold, and the one rule by which a threshold is chosen.

Belongs here: counts and rates at thresholds, the choice among them. Does not: what is frozen of a choice
(`calibration.operating_point`). A case is called positive where its score is at least the threshold.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

ROUNDING = 1e-9
"""Smaller differences of shares are rounding of floating-point sums."""


def threshold_table(
    is_positive: npt.ArrayLike, scores: npt.ArrayLike, thresholds: Sequence[float] | None = None
) -> pl.DataFrame:
    """Return a row for each threshold, by default for each distinct score, highest first.

    Columns: `threshold`, counts `tp fp tn fn`, and `sensitivity specificity ppv npv f1 youden` (null where nothing is
    divided by). By default the first row calls nobody, so that the ROC curve (1 - specificity, sensitivity) begins at
    (0, 0). Raises `ValueError` for unequal lengths or scores that are not finite.
    """
    truth, score = np.asarray(is_positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1 or not np.isfinite(score).all():
        raise ValueError("one finite score a case is needed")
    rows = (
        np.concatenate([[np.inf], np.unique(score)[::-1]])
        if thresholds is None
        else np.asarray(thresholds, dtype=np.float64)
    )
    tp, fp = (
        part.size - np.searchsorted(np.sort(part), rows, side="left")
        for part in (score[truth], score[~truth])
    )
    counts = pl.DataFrame(
        {
            "threshold": rows,
            "tp": tp,
            "fp": fp,
            "tn": int((~truth).sum()) - fp,
            "fn": int(truth.sum()) - tp,
        }
    )
    tp_, fp_, tn_, fn_ = (pl.col(name) for name in ("tp", "fp", "tn", "fn"))
    return counts.with_columns(
        sensitivity=_share(tp_, tp_ + fn_),
        specificity=_share(tn_, tn_ + fp_),
        ppv=_share(tp_, tp_ + fp_),
        npv=_share(tn_, tn_ + fn_),
        f1=_share(2 * tp_, 2 * tp_ + fp_ + fn_),
    ).with_columns(youden=pl.col("sensitivity") + pl.col("specificity") - 1)


def best_row(
    table: pl.DataFrame,
    *,
    target_sensitivity: float | None,
    f1: str = "f1",
    ppv: str = "ppv",
    sensitivity: str = "sensitivity",
) -> int | None:
    """Return the place of the row whose threshold is taken; None where no row reaches the target.

    Without a target the row of largest F1; with one the row of largest PPV among those whose sensitivity is at least
    the target. Of equals the one with more sensitivity, then the lower threshold: a missed lesion is worse than a false
    alarm. The columns may be means over folds.
    """
    merit = f1 if target_sensitivity is None else ppv
    places = [
        place
        for place, value in enumerate(table[sensitivity])
        if target_sensitivity is None or reaches(value, 1, target_sensitivity)
    ]
    merits, shares, thresholds = (table[name].to_list() for name in (merit, sensitivity, "threshold"))

    def key(place: int) -> tuple[float, float, float]:
        # Rounded, so that means of equal shares are equal whatever the order they were added in.
        return round(merits[place] or 0.0, 9), round(shares[place] or 0.0, 9), -thresholds[place]

    return max(places, key=key) if places else None


def reaches(hits: float, total: float, target: float) -> bool:
    """Tell whether hits / total is at least the target, where 0.7 of ten is seven.

    A share and a target are compared to within what floating-point sums may lose, so that means of exact shares count.
    """
    return hits >= target * total - ROUNDING * max(1.0, total)


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole)
