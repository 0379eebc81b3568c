"""Who has taken back consent: tombstones without identity, and how a later delivery of theirs is known.

Belongs here: the record of tombstones and the question whether an object belongs to somebody in it. Does
not: removing what the platform holds of a person (`ct_assets.lifecycle.withdraw`).

A tombstone is a keyed digest in a domain of its own, of the pseudonym and of each study's UID. Without the
key nothing can be learnt from it, with the key only a guess can be tested. A study is of one patient (PS3.3
A.1.2), so that an object that comes again under another number, or under none, is known by its study.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id, pseudonym
from ct_assets.identity.uids import bare_uid

RECORD_NAME = "tombstones.jsonl"
CODE = "withdrawn"
"""The reason code of a file that is refused because its person has withdrawn."""
_HEX_DIGITS = 32


@dataclass(frozen=True)
class Withdrawn:
    """Everybody who has withdrawn from a platform, as far as a key can tell; picklable for workers."""

    key: SecretKey | None = None
    persons: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    """Of people who objected before anything of theirs came: the number alone, whatever the issuer."""

    def __bool__(self) -> bool:
        return bool(self.persons or self.studies or self.numbers)

    def holds(self, patient_id: str, issuer: str = "", study_uid: str = "") -> bool:
        """Tell whether an object of this PatientID, issuer and StudyInstanceUID is of somebody withdrawn."""
        if not self or self.key is None:
            return False
        known = normalise_patient_id(patient_id)
        if known and tombstone(self.key, pseudonym(self.key, patient_id, issuer)) in self.persons:
            return True
        if self.numbers and known and number_mark(self.key, patient_id) in self.numbers:
            return True
        study = bare_uid(study_uid)
        return bool(study) and study_mark(self.key, study) in self.studies


def load(record: Path, key: SecretKey | None) -> Withdrawn:
    """Read the record of tombstones.

    Raises `UsageError` where somebody has withdrawn and there is no key: nobody could then tell whom to
    refuse.
    """
    if not record.exists():
        return Withdrawn()
    lines = files.read_jsonl(record)
    if lines and key is None:
        raise UsageError(
            "patients have withdrawn from this platform, and without the key nobody can tell whether they are "
            "in a delivery: set CT_ASSETS_DEID_KEY or name the key file"
        )
    return Withdrawn(
        key,
        frozenset(mark for line in lines for mark in line["persons"]),
        frozenset(mark for line in lines for mark in line["studies"]),
        frozenset(mark for line in lines for mark in line.get("numbers", ())),
    )


def tombstone(key: SecretKey, pseudonym_of_person: str) -> str:
    """Return what remains of a withdrawn person in ledgers."""
    return f"withdrawn-{key.digest('withdrawal', pseudonym_of_person).hex()[:_HEX_DIGITS]}"


def tombstone_of(key: SecretKey) -> Callable[[str], str]:
    """Return `tombstone` under one key, as ledgers take it."""
    return lambda pseudonym_of_person: tombstone(key, pseudonym_of_person)


def study_mark(key: SecretKey, study_uid: str) -> str:
    """Return the digest under which a withdrawn person's study is known again."""
    return key.digest("withdrawal study", bare_uid(study_uid)).hex()[:_HEX_DIGITS]


def number_mark(key: SecretKey, patient_id: str) -> str:
    """Return the digest under which a number is refused whatever its issuer."""
    return key.digest("withdrawal number", normalise_patient_id(patient_id)).hex()[:_HEX_DIGITS]
