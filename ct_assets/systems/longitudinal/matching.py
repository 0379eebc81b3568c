"""Nodules of two exams matched without labels.

Belongs here: which nodule of an earlier exam is which of a later one, by place and size, and how that agrees with
labels. Does not: labels of a tracking table (`nodules`), bringing places of two exams together (`imaging.registration`).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

State = Literal["matched", "new", "vanished", "split"]

MOST_DISTANCE_MM = 15.0
"""Between the centres after rigid registration: breath moves a nodule near the diaphragm by a centimetre and more."""
MOST_VOLUME_RATIO = 30.0
"""A nodule that doubles every 75 days grows so in a year; beyond it two findings are two nodules."""
SIZE_WEIGHT_MM = 2.0
"""A doubled or halved volume counts like this distance, so that of two near nodules the alike one is taken."""
SPLIT_SHARE = 0.75
"""A further part belongs to a matched nodule if it lies within this share of the earlier nodule's diameter of it."""
LEAST_SPLIT_MM = 5.0


@dataclass(frozen=True)
class Nodule:
    """A nodule of one exam, its centre in LPS millimetres of the earlier exam."""

    nodule_id: str
    centre_lps_mm: tuple[float, float, float]
    volume_mm3: float

    def __post_init__(self) -> None:
        """Raise `ValueError` for a centre that is not finite, or a volume that is not positive."""
        if not all(map(math.isfinite, self.centre_lps_mm)):
            raise ValueError(f"nodule {self.nodule_id}: its centre must be finite")
        if not (math.isfinite(self.volume_mm3) and self.volume_mm3 > 0):
            raise ValueError(f"nodule {self.nodule_id}: its volume must be positive, got {self.volume_mm3}")


@dataclass(frozen=True)
class Match:
    """What became of a nodule."""

    state: State
    """`split`: a further part of an earlier nodule that has a match already."""
    earlier_id: str | None
    later_id: str | None
    distance_mm: float | None
    volume_ratio: float | None
    """Later by earlier; of a nodule that split each part has its own."""


@dataclass(frozen=True)
class MatchingQuality:
    """How links agree with labels; null where there is nothing to divide by."""

    correct: int
    found: int
    labelled: int

    @property
    def precision(self) -> float | None:
        """Share of the links that the labels have."""
        return self.correct / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of the labels' links that were found."""
        return self.correct / self.labelled if self.labelled else None


def match(
    earlier: Sequence[Nodule],
    later: Sequence[Nodule],
    *,
    most_distance_mm: float = MOST_DISTANCE_MM,
    most_volume_ratio: float = MOST_VOLUME_RATIO,
) -> list[Match]:
    """Match the nodules of two exams; every nodule of either is in the result. Limits are inclusive.

    As many as possible are matched one to one, with the least sum of distance and difference of size. The order of the
    nodules does not matter. Raises `ValueError` for an identifier that is there twice.
    """
    earlier, later = (sorted(some, key=lambda one: one.nodule_id) for some in (earlier, later))
    for some in (earlier, later):
        if len({one.nodule_id for one in some}) != len(some):
            raise ValueError("a nodule identifier is there twice in one exam")
    distance, size = _differences(earlier, later)
    is_possible = (distance <= most_distance_mm + 1e-9) & (size <= math.log2(most_volume_ratio) + 1e-9)
    links = _assigned(distance + SIZE_WEIGHT_MM * size, is_possible)
    taken = set(links.values())
    result = [_link("matched", earlier[a], later[b], distance[a, b]) for a, b in links.items()]
    result += [
        Match("vanished", one.nodule_id, None, None, None) for a, one in enumerate(earlier) if a not in links
    ]
    for b, one in enumerate(later):
        if b in taken:
            continue
        reach = [max(LEAST_SPLIT_MM, SPLIT_SHARE * _diameter_mm(whole)) for whole in earlier]
        parents = [a for a in links if is_possible[a, b] and distance[a, b] <= reach[a]]
        if parents:
            parent = min(parents, key=lambda a: (distance[a, b], a))
            result.append(_link("split", earlier[parent], one, distance[parent, b]))
        else:
            result.append(Match("new", None, one.nodule_id, None, None))
    return result


def quality(matches: Collection[Match], labelled: Collection[tuple[str, str]]) -> MatchingQuality:
    """Compare matched and split links with the labels' links (earlier identifier, later identifier)."""
    found = {(one.earlier_id, one.later_id) for one in matches if one.state in ("matched", "split")}
    wanted = set(labelled)
    return MatchingQuality(len(found & wanted), len(found), len(wanted))


def _differences(
    earlier: Sequence[Nodule], later: Sequence[Nodule]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return distances (mm) and differences of size (doublings), (earlier, later)."""
    places = [
        np.array([one.centre_lps_mm for one in some], np.float64).reshape(-1, 3) for some in (earlier, later)
    ]
    sizes = [np.log2([one.volume_mm3 for one in some]) for some in (earlier, later)]
    distance = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
    return distance, np.abs(sizes[0][:, None] - sizes[1][None])


def _assigned(cost: npt.NDArray[np.float64], is_possible: npt.NDArray[np.bool_]) -> dict[int, int]:
    """Return the links of least cost among those of most links."""
    from scipy.optimize import linear_sum_assignment

    if not is_possible.any():
        return {}
    # One impossible link costs more than all possible ones together, so that a possible one is never given up for cost.
    impossible = (float(cost[is_possible].max()) + 1.0) * (min(cost.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(is_possible, cost, impossible))
    return {int(a): int(b) for a, b in zip(rows, columns, strict=True) if is_possible[a, b]}


def _link(state: State, one: Nodule, other: Nodule, distance: float) -> Match:
    return Match(state, one.nodule_id, other.nodule_id, float(distance), other.volume_mm3 / one.volume_mm3)


def _diameter_mm(nodule: Nodule) -> float:
    return (6 * nodule.volume_mm3 / math.pi) ** (1 / 3)
