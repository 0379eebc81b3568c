"""Making the corpus: all cases of one seed into a folder, with the answer key beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct_assets_tests.deid.corpus import answers, cases_files, cases_header, cases_pixels, cases_text
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People
from ct_assets_tests.deid.corpus.things import Thing

CASES: tuple[Callable[[People, Uids], list[Thing]], ...] = (
    cases_header.sequences_that_no_table_lists,
    cases_header.file_meta,
    cases_header.uids_of_all_kinds,
    cases_header.dates,
    cases_header.one_id_many_ways,
    cases_header.very_old,
    cases_header.types_and_dummies,
    cases_header.private_blocks,
    cases_header.private_sequences,
    cases_header.old_groups,
    cases_text.names_in_text,
    cases_text.character_sets,
    cases_text.ordinary_words,
    cases_text.claims_to_be_clean,
    cases_pixels.text_in_pixels,
    cases_pixels.many_frames_and_colours,
    cases_pixels.untouched_pixels,
    cases_pixels.heads,
    cases_files.duplicates,
    cases_files.broken_files,
    cases_files.encodings,
    cases_files.structure_sets,
)

COMMON_WORDS = frozenset({"Stone", "Hand"})
"""Names that everybody writes: no leak where they turn up in somebody else's text."""


@dataclass(frozen=True)
class Corpus:
    """Where the corpus lies."""

    folder: Path

    @property
    def input(self) -> Path:
        """What is given to de-identification."""
        return self.folder / "input"

    @property
    def answers(self) -> Path:
        """Inserted values and their fate."""
        return self.folder / "answers.csv"

    @property
    def tokens(self) -> Path:
        """`patient, kind, token`: what may not occur anywhere in released output."""
        return self.folder / "leak_tokens.csv"

    @property
    def files(self) -> Path:
        """`path, case, expected, pixels`: what becomes of each file."""
        return self.folder / "expected_files.csv"


def make(folder: Path, *, seed: int = 1) -> Corpus:
    """Make the corpus of one seed below `folder`; the same seed gives the same bytes."""
    corpus = Corpus(folder)
    people, uids = People(seed), Uids(seed)
    things = [thing for case in CASES for thing in case(people, uids)]
    for thing in things:
        thing.write(corpus.input)
    answers.write(
        corpus.answers,
        (row for thing in things if thing.raw is None or thing.marks for row in thing.answers()),
    )
    answers.write_rows(
        corpus.files,
        [{"path": t.path, "case": t.case, "expected": t.expected, "pixels": t.pixels} for t in things],
    )
    tokens = {
        (thing.person.key, kind, token): None
        for thing in things
        if thing.person
        for kind, token in thing.person.secrets().items()
        if len(token) > 3 and token not in COMMON_WORDS
    }
    answers.write_rows(
        corpus.tokens, [{"patient": patient, "kind": kind, "token": token} for patient, kind, token in tokens]
    )
    return corpus
