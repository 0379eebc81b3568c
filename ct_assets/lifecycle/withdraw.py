"""`ct-assets withdraw`: one person taken out of a platform, exactly, repeatably, with the proof.

Belongs here: the order of the work. Whom it is about is written down first, in a restricted file, and erased
last: a killed withdrawal is gone on with, and nothing else runs on the platform until it is finished.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ct_assets import files, progress
from ct_assets.deid.batch.dispositions import file_digest
from ct_assets.errors import SafetyError, UsageError
from ct_assets.identity import withdrawn
from ct_assets.identity.key import SecretKey, check_record
from ct_assets.identity.pseudonyms import pseudonym
from ct_assets.layout import Layout
from ct_assets.lifecycle import affected_models as learners
from ct_assets.lifecycle import deliveries, originals, pages, person, search, sweep
from ct_assets.lifecycle.deliveries import Outcome
from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.mentions import Mention
from ct_assets.lifecycle.originals import Census, Original
from ct_assets.lifecycle.person import Subject
from ct_assets.lifecycle.search import Searched
from ct_assets.lifecycle.sweep import Swept

LEFT_NAME = "withdrawal_left.txt"


@dataclass
class Found:
    """What a withdrawal would take out."""

    subject: Subject
    census: Census
    own: list[Original]
    mentions: list[Mention] = field(default_factory=list)

    def lines(self, layout: Layout) -> list[str]:
        """Return what is there, for people; no identity."""
        subject = self.subject
        released = sum(
            1 for patient in subject.pseudonyms for _ in layout.released.glob(f"*/{patient}/**/*.dcm")
        )
        learned = sorted({f"{name} (training {fold}: {how})" for name, fold, how in subject.learners})
        mentioned = [one for one in self.mentions if one.has_words]
        return [
            f"originals: {len(self.own)} files in {len({one.path.split('/')[0] for one in self.own})} rooms",
            f"mentions in what is others': {len(mentioned)} files, of which "
            f"{sum(one.can_be_masked for one in mentioned)} are overwritten in place and the rest goes",
            f"released: {released} objects in {len(subject.batches)} batches",
            f"UIDs: {len(subject.old_uids)} old, {len(subject.new_uids)} new; "
            f"{subject.shared} identifiers that others bear as well stay",
            f"case: {', '.join(sorted(subject.case_ids)) or 'none'}",
            f"models: {'; '.join(learned) or 'none learned from them'}",
        ]


@dataclass(frozen=True)
class Report:
    """What a withdrawal did."""

    outcome: Outcome
    swept: Swept
    marked: list[str]
    searched: Searched

    def lines(self) -> list[str]:
        """Return what was done, for people."""
        outcome, swept = self.outcome, self.swept
        return [
            f"originals removed: {outcome.removed}; files of nobody that named them: {outcome.mentions_removed}; "
            f"mentions overwritten in {outcome.masked} objects of others and {outcome.renamed} names",
            f"taken out of what was made: {swept.folders} folders, {swept.files} files, {swept.rows} rows, "
            f"{swept.pages} pages, {swept.store_entries} entries of the store, {swept.database_cells} cells",
            *(self.marked or ["no model learned from them"]),
            f"byte search: {self.searched.files} files, {self.searched.bytes / 1e6:.1f} MB: nothing found",
        ]


def look(patient: str, layout: Layout, key: SecretKey, workers: int) -> Found:
    """Find everything that the platform holds of a person; nothing is changed.

    `patient` is a pseudonym or a PatientID. Raises `UsageError` where nobody or more than one is meant.
    """
    check_record(layout.key_record, key)
    census = originals.take_census(layout, workers)
    subject = person.resolve(patient, layout, key, census)
    own = person.own_originals(subject, census, key, layout)
    person.complete(subject, own, census, layout, key)
    found = Found(subject, census, own)
    found.mentions = deliveries.find_mentions(layout, census, own, subject.finder, workers)
    shared = {uid for mention in found.mentions for uid in mention.uids}
    person.leave_shared_uids(subject, shared & (subject.old_uids | subject.new_uids), key)
    _settle(found, layout, key)
    return found


def look_again(layout: Layout, key: SecretKey, workers: int) -> Found:
    """Return what a broken-off withdrawal was about, and what is left of it. Raises `UsageError` for none."""
    if not layout.withdrawal_under_way.exists():
        raise UsageError("no withdrawal was broken off here")
    check_record(layout.key_record, key)
    subject = Subject.load(layout.withdrawal_under_way)
    census = originals.take_census(layout, workers)
    found = Found(subject, census, person.own_originals(subject, census, key, layout))
    found.mentions = deliveries.find_mentions(layout, census, found.own, subject.finder, workers)
    return found


def _settle(found: Found, layout: Layout, key: SecretKey) -> None:
    """Add what follows from the search to the record of the withdrawal."""
    subject = found.subject
    for mention in found.mentions:
        if mention.has_words and not mention.can_be_masked:
            sha256 = files.sha256_file(layout.root / mention.path)
            subject.digests |= {sha256, file_digest(key, sha256)}
    subject.replaced |= deliveries.masked_digests(layout, found.mentions, subject.finder, key)
    subject.learners |= learners.find(subject, layout)
    subject.pages |= set(pages.experiments_with(layout, subject.finder))


def carry_out(
    found: Found,
    layout: Layout,
    key: SecretKey,
    *,
    tracking_uri: str,
    forget_runs: Callable[[Subject, Outcome], None],
    holders: Sequence[Callable[[Finder], int]] = (),
    workers: int,
    now: datetime | None = None,
) -> Report:
    """Take the person out, and prove it by a search of every byte.

    `forget_runs` removes them from the records of runs, which only the graph's own layer may touch; `holders` are of
    packages above this one that hold something of people (`registry.HOLDERS`). Raises
    `SafetyError` where the search still finds something: the withdrawal then counts as broken off.
    """
    subject = found.subject
    subject.save(layout.withdrawal_under_way)
    moment = now or datetime.now(UTC)
    stone = _raise_tombstone(subject, found.census, layout, key, moment)
    marked = learners.mark(subject, layout, stone, tracking_uri, moment)
    sweep.entomb(subject, layout, key)
    outcome = deliveries.remove(layout, found.own, found.mentions, subject.finder)
    for batch in sorted(outcome.empty_batches):
        sweep.remove_batch(layout, batch)
    for forget in holders:
        forget(subject.finder)
    swept = sweep.sweep(subject, layout)
    forget_runs(subject, outcome)
    searched = search.search(layout, subject.finder, workers)
    if searched.found:
        left = layout.withdrawal_under_way.with_name(LEFT_NAME)
        files.write_text(left, "\n".join(searched.found) + "\n", mode=person.JOURNAL_MODE)
        raise SafetyError(
            f"{len(searched.found)} files still hold something of the person; {left} lists them (restricted). Remove "
            "or correct them and run: ct-assets withdraw --continue"
        )
    layout.withdrawal_under_way.with_name(LEFT_NAME).unlink(missing_ok=True)
    layout.withdrawal_under_way.unlink()
    return Report(outcome, swept, marked, searched)


def refuse_in_advance(patient_id: str, layout: Layout, key: SecretKey, now: datetime | None = None) -> None:
    """Write the tombstone of somebody of whom nothing is here yet: nothing of theirs is ever taken in.

    The number counts whatever the issuer, since none is known.
    """
    mark = withdrawn.number_mark(key, patient_id)
    lines = files.read_jsonl(layout.tombstones) if layout.tombstones.exists() else []
    if any(mark in line.get("numbers", ()) for line in lines):
        return
    moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    line = {"persons": [], "studies": [], "numbers": [mark], "withdrawn_at": moment}
    files.write_jsonl(layout.tombstones, [*lines, line])


def has_withdrawn(patient: str, layout: Layout, key: SecretKey) -> bool:
    """Tell whether a pseudonym or PatientID is of somebody who has withdrawn already."""
    gone = withdrawn.load(layout.tombstones, key)
    return withdrawn.tombstone(key, patient) in gone.persons or gone.holds(patient)


def _raise_tombstone(
    subject: Subject, census: Census, layout: Layout, key: SecretKey, moment: datetime
) -> str:
    """Write the person's tombstone, once, and return it.

    The number without an issuer counts as the person's too, unless somebody else goes by it: senders leave
    the issuer out.
    """
    others = set(person.known_people(layout, key, census)) - subject.pseudonyms
    names = set(subject.pseudonyms)
    names |= {pseudonym(key, raw, issuer) for raw, issuer in subject.identities}
    names |= {pseudonym(key, raw, "") for raw, _ in subject.identities} - others
    stones = sorted(withdrawn.tombstone(key, name) for name in names)
    first = withdrawn.tombstone(key, min(subject.pseudonyms))
    lines = files.read_jsonl(layout.tombstones) if layout.tombstones.exists() else []
    if not any(first in line["persons"] for line in lines):
        line = {
            "persons": stones,
            "studies": sorted(withdrawn.study_mark(key, uid) for uid in subject.studies),
            "withdrawn_at": moment.isoformat(timespec="seconds"),
        }
        files.write_jsonl(layout.tombstones, [*lines, line])
    return first


def say(lines: list[str]) -> None:
    """Print lines for people."""
    for line in lines:
        progress.say(line)
