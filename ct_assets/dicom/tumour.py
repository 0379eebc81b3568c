"""Which segment of a mask object is the tumour: by rank of label, interpreted type or code, never by guess.

Belongs here: the rule, over plain values, so that audits and conversion choose alike. Does not: reading SEG
and RTSTRUCT.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ct_assets.settings.audit import TumourSettings

ANATOMICAL_CATEGORIES = frozenset(("SCT:123037004", "SRT:T-D000A", "SCT:85756007", "SRT:T-D0050"))
"""Categories "Anatomical Structure" and "Tissue" (PS3.16 CID 7150): organs, not findings."""

_NOT_A_LETTER_OR_DIGIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What a segment (or ROI) says about itself."""

    number: int
    label: str = ""
    type_code: str = ""
    """`scheme:value` of the segmented property type, or the RT ROI Interpreted Type as it stands."""
    category_code: str = ""
    """`scheme:value` of the segmented property category."""


@dataclass(frozen=True, slots=True)
class TumourChoice:
    """The segment that is the tumour, or why there is none."""

    number: int | None
    rank: int | None
    """The rank that decided; None where the only segment was taken for want of a name."""
    candidates: tuple[int, ...]
    """Segments of the best rank; more than one is ambiguous."""
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def choose(segments: Sequence[SegmentFacts], settings: TumourSettings) -> TumourChoice:
    """Return the tumour among `segments`: the only one of the best rank that occurs.

    A label that names a rank decides before an interpreted type, and that before a code, because one code
    ("Neoplasm") commonly stands for GTV and CTV alike.
    """
    ranks = {segment.number: rank_of(segment, settings) for segment in segments}
    told = {number: rank for number, rank in ranks.items() if rank is not None}
    if told:
        best = min(told.values())
        candidates = tuple(sorted(number for number, rank in told.items() if rank == best))
        if len(candidates) == 1:
            return TumourChoice(candidates[0], best, candidates, (), ())
        return TumourChoice(None, best, candidates, ("tumour_segment_ambiguous",), ())
    only = segments[0] if len(segments) == 1 else None
    if only and settings.single_segment_is_tumour and only.category_code not in ANATOMICAL_CATEGORIES:
        return TumourChoice(only.number, None, (only.number,), (), ("only_segment_taken_for_tumour",))
    return TumourChoice(None, None, (), ("no_tumour_segment",), ())


def rank_of(segment: SegmentFacts, settings: TumourSettings) -> int | None:
    """Return the rank (from 0, the best) that a segment's label, type or code stands for, or None.

    The word that a label names first decides ("PTV minus GTV" is a PTV), of several words at one place the
    longest ("GTV 1" before "GTV"). A label with a word of `settings.never` stands for no rank, whatever its
    code.
    """
    if any(_starts(segment.label, word) for word in settings.never):
        return None
    for text in (segment.label, "" if ":" in segment.type_code else segment.type_code):
        named = [
            (start, -len(word), rank)
            for rank, words in enumerate(settings.ranks)
            for word in words
            for start in _starts(text, word)
        ]
        if named:
            return min(named)[2]
    codes = dict(settings.codes)
    return codes.get(segment.type_code, codes.get(segment.category_code))


@lru_cache(maxsize=65536)
def _starts(text: str, word: str) -> tuple[int, ...]:
    """Return where words of `text` begin with `word`; a number must end where the word's does."""
    plain = f" {_plain(text)} "
    wanted = _plain(word)
    pattern = rf" {re.escape(wanted)}" + (r"(?![0-9])" if wanted[-1:].isdigit() else "")
    return tuple(found.start() for found in re.finditer(pattern, plain))


def _plain(text: str) -> str:
    return _NOT_A_LETTER_OR_DIGIT.sub(" ", text.lower()).strip()
