"""Finding one person in bytes: keys as they are written, words in every spelling and encoding.

Belongs here: the search. Does not: what a person's keys and words are (`lifecycle.person`), what happens to a
file in which they are found (`lifecycle.sweep`).

*Keys* point to this person and nobody else: pseudonym, UIDs, case number, digests of originals. *Words* are
identifiers that others may mention: names, numbers, addresses. A row or line with a key is the person's own;
one with a word belongs to somebody else who mentions the person.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import ahocorasick

from ct_assets.deid.proof.leak_scan import INSIDE_WORDS, byte_patterns, is_bounded

Span = tuple[int, int]
MASK = ord("x")


@dataclass(frozen=True)
class Finder:
    """Searches bytes for one person; picklable, the automata are made where they are used."""

    keys: frozenset[str]
    words: frozenset[str] = field(default=frozenset())
    """Folded as `deid.elements.spelling.fold` folds them."""

    def has_key(self, content: bytes) -> bool:
        """Tell whether a key stands in `content`."""
        return next(self.key_spans(content), None) is not None

    def has_word(self, content: bytes) -> bool:
        """Tell whether a word stands in `content`."""
        return next(self.word_spans(content), None) is not None

    def has(self, content: bytes) -> bool:
        """Tell whether a key or a word stands in `content`."""
        return self.has_key(content) or self.has_word(content)

    def key_spans(self, content: bytes) -> Iterator[Span]:
        """Yield where keys stand whole, not inside a longer number or UID."""
        automaton = self._key_automaton
        if automaton is None:
            return
        text = content.decode("latin-1")
        for last, length in automaton.iter(text):
            start, end = last + 1 - length, last + 1
            if _stands_alone(text, start, end):
                yield start, end

    def word_spans(self, content: bytes) -> Iterator[Span]:
        """Yield where words stand, in any of their encodings, whatever their case."""
        automaton = self._word_automaton
        if automaton is None:
            return
        lowered = content.lower().decode("latin-1")
        for last, found in automaton.iter(lowered):
            length, form, step, lead = found
            start, end = last + 1 - length, last + 1
            is_inside = not form.isascii() or (len(form) >= INSIDE_WORDS and " " not in form)
            if is_bounded(lowered, start - step + lead, end + lead, step, form, is_inside=is_inside):
                yield start, end

    def masked(self, content: bytes) -> bytes:
        """Return `content` with every word overwritten by as many letters x."""
        masked = bytearray(content)
        for start, end in self.word_spans(content):
            masked[start:end] = bytes((MASK,)) * (end - start)
        return bytes(masked)

    @cached_property
    def _key_automaton(self) -> ahocorasick.Automaton | None:
        automaton = ahocorasick.Automaton()
        for key in self.keys:
            automaton.add_word(key, len(key))
        return _made(automaton)

    @cached_property
    def _word_automaton(self) -> ahocorasick.Automaton | None:
        automaton = ahocorasick.Automaton()
        for form in self.words:
            for pattern, step, lead in byte_patterns(form):
                automaton.add_word(pattern.decode("latin-1"), (len(pattern), form, step, lead))
        return _made(automaton)

    def __getstate__(self) -> dict[str, Iterable[str]]:
        return {"keys": self.keys, "words": self.words}


def _made(automaton: ahocorasick.Automaton) -> ahocorasick.Automaton | None:
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Tell whether a key is whole: no part of a longer number or UID. Letters may touch it, as in a database."""
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    if text[start].isdigit() and (
        before.isdigit() or (before == "." and text[start - 2 : start - 1].isdigit())
    ):
        return False
    if not text[end - 1].isdigit():
        return True
    goes_on = "." in text[start:end] and after == "." and text[end + 1 : end + 2].isdigit()
    return not (after.isdigit() or goes_on)
