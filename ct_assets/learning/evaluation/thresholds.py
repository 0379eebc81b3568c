"""Binary decisions at every threshold: the table that operating points are chosen from.

Belongs here: counts and rates at thresholds. Does not: choosing one (`calibration.operating_point`).
"""

import numpy as np
import numpy.typing as npt
import polars as pl


def threshold_table(is_positive: npt.ArrayLike, scores: npt.ArrayLike) -> pl.DataFrame:
    """Return a row for each distinct score, highest first: who scores at least it is called positive.

    Columns: `threshold`, counts `tp fp tn fn`, and `sensitivity specificity ppv npv f1 youden` (null where nothing is
    divided by). The first row calls nobody, so that the ROC curve (1 - specificity, sensitivity) begins at (0, 0).
    Raises `ValueError` for unequal lengths or scores that are not finite.
    """
    truth, score = np.asarray(is_positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1 or not np.isfinite(score).all():
        raise ValueError("one finite score a case is needed")
    thresholds = np.concatenate([[np.inf], np.unique(score)[::-1]])
    called = score[None] >= thresholds[:, None]
    tp, fp = (called & truth).sum(1), (called & ~truth).sum(1)
    counts = pl.DataFrame(
        {
            "threshold": thresholds,
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


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole)
