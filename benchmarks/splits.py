"""Balance and constancy of folds beside scikit-learn's StratifiedGroupKFold: `python benchmarks/splits.py`.

Made cohorts of 50 to 5,000 patients, five stages, six sites, one to three scans each; ours has them at once and in ten
steps. Deviation: largest difference between a class's share in a fold and in all folds, percentage points, mean and
largest over seeds. Moved: training patients whose fold changes when the cohort grows by a tenth.
"""

import time
import warnings
from datetime import UTC, datetime

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from ct_assets.cohort import splits
from ct_assets.settings.folds import SplitSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOLDS = 5
SEEDS = range(5)


def people(count: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    stages, sites = ["I", "II", "IIIa", "IIIb", "IV"], list("ABCDEF")
    return pl.DataFrame(
        {
            "patient_id": [f"{seed}-{number}" for number in range(count)],
            "stage": random.choice(stages, count, p=[0.3, 0.1, 0.25, 0.2, 0.15]).tolist(),
            "site": random.choice(sites, count, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05]).tolist(),
            "scans": random.integers(1, 4, count),
        }
    )


def ours(patients: pl.DataFrame, steps: int) -> pl.DataFrame:
    ledger = None
    for step in range(1, steps + 1):
        ledger = splits.extend(
            ledger, patients[: patients.height * step // steps], SplitSettings(test_share=0), NOW
        )
    assert ledger is not None
    return patients.join(ledger.select("patient_id", "fold"), on="patient_id", maintain_order="left")


def theirs(patients: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    classes = patients.select(pl.concat_str(by, separator="/"))["stage"].to_numpy()
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = np.zeros(patients.height, dtype=np.int64)
    for number, (_, chosen) in enumerate(splitter.split(classes, classes, patients["patient_id"].to_numpy())):
        folds[chosen] = number
    return patients.with_columns(fold=pl.Series(folds))


def deviation(placed: pl.DataFrame, column: str) -> float:
    worst = 0.0
    for value in placed[column].unique():
        whole = (placed[column] == value).mean()
        for fold in range(FOLDS):
            part = placed.filter(pl.col("fold") == fold)[column]
            worst = max(worst, abs((part == value).mean() - whole))
    return 100 * worst


def scan_range(placed: pl.DataFrame) -> float:
    scans = placed.group_by("fold").agg(pl.col("scans").sum())["scans"]
    return 100 * (scans.max() - scans.min()) / scans.mean()


def moved(place, count: int, seed: int) -> float:
    whole = people(count, seed)
    before, after = place(whole[: count * 10 // 11]), place(whole)
    both = before.select("patient_id", "fold").join(
        after.select("patient_id", pl.col("fold").alias("now")), "patient_id"
    )
    return 100 * (both["fold"] != both["now"]).mean()


METHODS = {
    "ledger, at once": lambda table: ours(table, 1),
    "ledger, in ten steps": lambda table: ours(table, 10),
    "StratifiedGroupKFold, stage": lambda table: theirs(table, ("stage",)),
    "StratifiedGroupKFold, stage x site": lambda table: theirs(table, ("stage", "site")),
}


def main() -> None:
    warnings.filterwarnings("ignore", message="The least populated class")  # cells of stage x site are small
    print(
        f"{'patients':>8}  {'method':36} {'stage pp':>12} {'site pp':>12} {'scans %':>12} {'moved %':>8} {'s':>6}"
    )
    for count in (50, 150, 500, 1500, 5000):
        seeds = SEEDS if count <= 500 else range(2)
        for name, place in METHODS.items():
            started = time.perf_counter()
            found = [place(people(count, seed)) for seed in seeds]
            seconds = (time.perf_counter() - started) / len(found)
            columns = [
                [measure(one) for one in found]
                for measure in (
                    lambda one: deviation(one, "stage"),
                    lambda one: deviation(one, "site"),
                    scan_range,
                )
            ]
            shown = " ".join(f"{np.mean(column):5.1f} {max(column):5.1f} " for column in columns)
            change = moved(place, count, 0) if "Stratified" in name else _moved_by_ledger(count)
            print(f"{count:8d}  {name:36} {shown} {change:8.1f} {seconds:6.2f}")


def _moved_by_ledger(count: int) -> float:
    whole = people(count, 0)
    settings = SplitSettings(test_share=0)
    before = splits.extend(None, whole[: count * 10 // 11], settings, NOW)
    after = splits.extend(before, whole, settings, NOW)
    return 100 * (after[: before.height]["fold"] != before["fold"]).mean()


if __name__ == "__main__":
    main()
