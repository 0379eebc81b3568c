"""Whom a withdrawal is about: every name, number, UID and digest under which the platform knows one person.

Belongs here: finding that out, from the crosswalk, the originals, the released headers and the tables, and
keeping it until the withdrawal is finished. Does not: removing anything.

What another person shares is not this person's: a surname that somebody else bears too, a UID that somebody
else's objects name as well. It stays, and is counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import polars as pl

from ct_assets import files
from ct_assets.deid.batch.dispositions import file_digest
from ct_assets.deid.elements import derive
from ct_assets.deid.elements.derive import Sure
from ct_assets.deid.elements.identifiers import Identifiers
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id, pseudonym
from ct_assets.identity.uids import new_uid
from ct_assets.layout import Layout
from ct_assets.lifecycle import originals
from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.originals import Census, Original, Source

JOURNAL_MODE = 0o600
SEARCHED_KINDS = ("name", "patient_id", "id")
"""A birth date is no identifier by itself: others were born that day."""


@dataclass
class Subject:
    """One person, as the platform knows them."""

    pseudonyms: set[str] = field(default_factory=set)
    identities: set[tuple[str, str]] = field(default_factory=set)
    """PatientID and issuer, in every spelling that came."""
    words: set[str] = field(default_factory=set)
    """Folded identifiers that nobody else bears."""
    old_uids: set[str] = field(default_factory=set)
    new_uids: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    """Old StudyInstanceUIDs."""
    case_ids: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    """SHA-256 of originals, and the keyed digests that name them in public audits."""
    batches: set[str] = field(default_factory=set)
    """Batches that held anything of theirs."""
    store_keys: set[str] = field(default_factory=set)
    pages: set[tuple[str, str]] = field(default_factory=set)
    """Kind and experiment of pages that show them."""
    learners: set[tuple[str, str, str]] = field(default_factory=set)
    """Experiment, fold and `learned` or `may have learned`."""
    replaced: dict[str, str] = field(default_factory=dict)
    """Digests of others' objects in which a mention is overwritten, old to new."""
    shared: int = 0
    """Identifiers and UIDs that others bear as well, and that therefore stay."""

    @property
    def finder(self) -> Finder:
        """The search for this person."""
        keys = self.pseudonyms | self.old_uids | self.new_uids | self.case_ids | self.digests
        return Finder(frozenset(keys), frozenset(self.words))

    def save(self, path: Path) -> None:
        """Keep what is known until the withdrawal is finished; only the owner can read it."""
        content = {
            name.name: sorted(value) if isinstance(value := getattr(self, name.name), set) else value
            for name in fields(self)
        }
        files.write_json(path, content, mode=JOURNAL_MODE)

    @classmethod
    def load(cls, path: Path) -> "Subject":
        """Read what `save` wrote."""
        content = files.read_json(path)
        subject = cls()
        for name, value in content.items():
            is_set = isinstance(getattr(subject, name), set)
            members = {tuple(one) if isinstance(one, list) else one for one in value} if is_set else value
            setattr(subject, name, members)
        return subject


def resolve(patient: str, layout: Layout, key: SecretKey, census: Census) -> Subject:
    """Return the person whom `patient` names: a pseudonym, or a PatientID as the hospital writes it.

    Raises `UsageError` where nobody is meant, or several people whom issuers tell apart.
    """
    people = known_people(layout, key, census)
    if patient in people:
        return Subject(pseudonyms={patient}, identities=people[patient])
    wanted = normalise_patient_id(patient)
    found = {
        known: identities
        for known, identities in people.items()
        if wanted and any(normalise_patient_id(raw) == wanted for raw, _ in identities)
    }
    if not found:
        raise UsageError("nobody of that number or pseudonym is in this platform")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} people have that number, told apart by the issuer; give the pseudonym of the one "
            f"who is meant: {', '.join(sorted(found))}"
        )
    [(known, identities)] = found.items()
    return Subject(pseudonyms={known}, identities=identities)


def known_people(layout: Layout, key: SecretKey, census: Census) -> dict[str, set[tuple[str, str]]]:
    """Return every person by pseudonym, with the identities that crosswalk and originals give."""
    people: dict[str, set[tuple[str, str]]] = {}
    for path in sorted((layout.root / "audits/uid").glob("*/patient_map.parquet")):
        for row in pl.read_parquet(path).iter_rows(named=True):
            people.setdefault(row["new_patient_id"], set()).add((row["old_patient_id"], row["issuer"]))
    for raw, issuer in {one.person for one in census.files}:
        if normalise_patient_id(raw):
            people.setdefault(pseudonym(key, raw, issuer), set()).add((raw, issuer))
    for folder in layout.released.glob("*/*"):
        people.setdefault(folder.name, set())
    return people


def own_originals(subject: Subject, census: Census, key: SecretKey, layout: Layout) -> list[Original]:
    """Return the person's originals: by number and issuer, by study, and by what was made of each.

    An object without a number, or without the issuer that the others name, is known by its study: a study is
    of one patient (PS3.3 A.1.2).
    """
    others = set(known_people(layout, key, census)) - subject.pseudonyms
    made = _sha256_of_released(subject, layout)
    ids = {normalise_patient_id(raw) for raw, _ in subject.identities} - {""}

    def is_own(one: Original) -> bool:
        named = normalise_patient_id(one.patient_id)
        if named and pseudonym(key, one.patient_id, one.issuer) in subject.pseudonyms:
            return True
        if one.sha256 in made or one.sha256 in subject.digests:
            return True
        if not one.study or one.study not in subject.studies:
            return False
        return not named or named in ids or pseudonym(key, one.patient_id, one.issuer) not in others

    own = [one for one in census.files if is_own(one)]
    studies = {one.study for one in own if one.study}
    if studies - subject.studies:
        subject.studies |= studies
        own = [one for one in census.files if is_own(one)]
    return own


def complete(
    subject: Subject, own: Sequence[Original], census: Census, layout: Layout, key: SecretKey
) -> None:
    """Add to `subject` everything that follows from its originals, its released objects and the tables."""
    subject.identities |= {one.person for one in own if normalise_patient_id(one.patient_id)}
    subject.digests |= {one.sha256 for one in own} | {file_digest(key, one.sha256) for one in own}
    usable = [one.path for one in own if one.code is None]
    subject.old_uids |= originals.uids_of(layout, usable)
    subject.new_uids |= released_uids(subject, layout)
    for path in sorted((layout.root / "audits/uid").glob("*/uid_map.parquet")):
        table = pl.read_parquet(path, columns=["old_uid", "new_uid"])
        own_rows = table.filter(
            pl.col("old_uid").is_in(list(subject.old_uids)) | pl.col("new_uid").is_in(list(subject.new_uids))
        )
        subject.old_uids |= set(own_rows["old_uid"])
        subject.new_uids |= set(own_rows["new_uid"])
    subject.new_uids |= {new_uid(key, uid) for uid in subject.old_uids}
    _take_words(subject, own, census, layout)
    _take_tables(subject, layout)


def leave_shared_uids(subject: Subject, shared: Iterable[str], key: SecretKey) -> None:
    """Take UIDs out that other people's objects bear or name as well, with what they became."""
    kept = set(shared)
    kept |= {old for old in subject.old_uids if new_uid(key, old) in kept}
    kept |= {new_uid(key, old) for old in kept}
    subject.shared += len(kept & subject.old_uids)
    subject.old_uids -= kept
    subject.new_uids -= kept
    subject.studies -= kept


def released_uids(subject: Subject, layout: Layout) -> set[str]:
    """Return the UIDs in the person's released objects."""
    below = [
        path.relative_to(layout.root).as_posix()
        for patient in sorted(subject.pseudonyms)
        for path in sorted(layout.released.glob(f"*/{patient}/**/*.dcm"))
    ]
    return originals.uids_of(layout, below)


def _sha256_of_released(subject: Subject, layout: Layout) -> set[str]:
    """Return the digests of originals that became this person's objects, as the crosswalk has it."""
    found: set[str] = set()
    for path in (layout.root / "audits/uid").glob("*/files.parquet"):
        released = {
            object_.stem
            for patient in subject.pseudonyms
            for object_ in layout.deid_batch(path.parent.name).glob(f"{patient}/**/*.dcm")
        }
        if released:
            table = pl.read_parquet(path, columns=["sha256", "new_sop_instance_uid"])
            found |= set(
                table.filter(pl.col("new_sop_instance_uid").is_in(list(released)))["sha256"].drop_nulls()
            )
    return found


def _take_words(
    subject: Subject, files_of_theirs: Sequence[Original], census: Census, layout: Layout
) -> None:
    """Add the words that mean this person: number and whole name in any case, other identifiers if nobody
    else bears them. A value of somebody else that holds number or whole name is a mention, and bears nothing.
    """
    sources = {one.source for one in files_of_theirs}
    usable = [one for one in files_of_theirs if one.code is None]
    claimed = _numbers(subject, census, sources) | _whole_names(usable, census, sources, layout)
    own, others = Identifiers(), Identifiers()
    for source, values in census.values.items():
        is_own = source in sources
        for kind, value in values:
            if kind in SEARCHED_KINDS and (is_own or not claimed & _forms(kind, value)):
                (own if is_own else others).add(kind, value, "")
    theirs = own.strong("")
    unique = theirs - others.strong("") - set(others.forms[""])
    subject.shared += len(theirs - unique - claimed)
    subject.words |= unique | claimed


def _numbers(subject: Subject, census: Census, sources: set[Source]) -> set[str]:
    """Return the person's numbers, folded, as far as nobody else goes by them."""
    theirs = {form for raw, _ in subject.identities for form in _of_number(raw, Sure.STRONG)}
    elsewhere = {patient_id for patient_id, _, _ in census.values.keys() - sources}
    return theirs - {form for patient_id in elsewhere for form in _of_number(patient_id)}


def _whole_names(
    usable: Sequence[Original], census: Census, sources: set[Source], layout: Layout
) -> set[str]:
    """Return the person's whole names, folded, as far as no namesake is a patient here."""
    theirs = {
        form
        for name in originals.names_in(layout, (one.path for one in usable))
        for form, sure in derive.forms("name", name)
        if " " in form and sure & Sure.STRONG
    }
    suspects = {
        source
        for source, values in census.values.items()
        if source not in sources
        and any(kind == "name" and theirs & _forms("name", value) for kind, value in values)
    }
    for one in census.files:
        if one.code is None and one.source in suspects:
            for name in originals.names_in(layout, (one.path,)):
                theirs -= _forms("name", name)
    return theirs


def _forms(kind: str, value: str) -> set[str]:
    return {form for form, _ in derive.forms(kind, value)}


def _of_number(patient_id: str, at_least: Sure = Sure.OWN) -> set[str]:
    """Return the forms of a whole PatientID; its parts can be others' too."""
    wholes = {spelling.replace(" ", "") for spelling in derive.spellings(patient_id)}
    return {
        form
        for form, sure in derive.forms("patient_id", patient_id)
        if form.replace(" ", "") in wholes and sure & at_least == at_least
    }


def spellings_of_numbers(subject: Subject) -> frozenset[str]:
    """Return the person's PatientIDs, folded: a cell that holds nothing else is about this person."""
    return frozenset(form for raw, _ in subject.identities for form in _of_number(raw))


def _take_tables(subject: Subject, layout: Layout) -> None:
    patients = list(subject.pseudonyms)
    if layout.case_numbers.exists():
        numbers = pl.read_parquet(layout.case_numbers, columns=["patient_id", "case_id"])
        subject.case_ids |= set(numbers.filter(pl.col("patient_id").is_in(patients))["case_id"])
    for path in _volume_tables(layout):
        table = pl.read_parquet(path)
        own = table.filter(pl.col("patient_id").is_in(patients))
        subject.store_keys |= set(own["image_key"]) | set(own["label_key"].drop_nulls())
    for path in (layout.root / "audits/deid").glob("*/deid_audit.jsonl"):
        batch = path.parent.name
        if any((layout.deid_batch(batch) / patient).is_dir() for patient in patients):
            subject.batches.add(batch)
    for path in (layout.root / "audits/uid").glob("*/patient_map.parquet"):
        if not pl.read_parquet(path).filter(pl.col("new_patient_id").is_in(patients)).is_empty():
            subject.batches.add(path.parent.name)


def _volume_tables(layout: Layout) -> list[Path]:
    root = layout.root
    return sorted(
        [
            *layout.folds.glob("*/volumes.parquet"),
            *(root / "derived").glob("*/folds/*/volumes.parquet"),
            *(root / "final").glob("*/manifest.parquet"),
        ]
    )
