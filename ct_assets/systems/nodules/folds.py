"""Folds of scans by patient, and the inner validation patients of a fold.

Belongs here: who is in which part; a function of identifiers and seed alone. Does not: LUNA16's given subsets (`luna16`).
"""

from collections.abc import Collection, Mapping
from hashlib import sha256


def assign(has_nodules: Mapping[str, bool], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each patient; patients with and without nodules are spread evenly.

    Raises `ValueError` where there are fewer patients than folds.
    """
    if len(has_nodules) < folds:
        raise ValueError(f"{folds} folds need at least as many patients, got {len(has_nodules)}")
    order = [
        *_shuffled([one for one, has in has_nodules.items() if has], seed),
        *_shuffled([one for one, has in has_nodules.items() if not has], seed),
    ]
    return {patient: place % folds for place, patient in enumerate(order)}


def inner(has_nodules: Mapping[str, bool], share: float, seed: int) -> set[str]:
    """Return the training patients that validate: a share of those with and of those without nodules.

    At least one with nodules, and one remains to learn from. Raises `ValueError` with fewer than two patients with
    nodules.
    """
    chosen: set[str] = set()
    for has in (True, False):
        members = _shuffled([one for one, value in has_nodules.items() if value is has], seed + 1)
        if has and len(members) < 2:
            raise ValueError("inner validation needs two training patients with nodules")
        count = min(max(round(share * len(members)), int(has)), max(len(members) - 1, 0))
        chosen |= set(members[:count])
    return chosen


def _shuffled(patients: Collection[str], seed: int) -> list[str]:
    return sorted(patients, key=lambda patient: (sha256(f"{seed}|{patient}".encode()).digest(), patient))
