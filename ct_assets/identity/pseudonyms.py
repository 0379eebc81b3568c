"""Who is who: normalised patient identity, its pseudonym and its date shift.

Belongs here: what makes two PatientIDs one person, and the keyed values that follow from it. Pure functions
of the identity and the key: order, batch and worker number cannot matter.
"""

import unicodedata

from ct_assets.identity.key import SecretKey

PSEUDONYM_PREFIX = "P"
PSEUDONYM_LETTERS = 20
"""80 bits: two of a million patients share a pseudonym with a chance below 1 in 10^12."""

_ALPHABET = str.maketrans("0123456789abcdef", "BCDFGHJKLMNPQRST")
"""Four bits a letter. Consonants only: no pseudonym ever contains a name or a number of someone else, which
keeps the leak scan free of false alarms."""

MIN_SHIFT_DAYS, MAX_SHIFT_DAYS = 30, 1825
"""Shifts go into the past by one month to five years: never zero, never a date in the future, and far
enough that a known event in the neighbourhood does not give the day away."""


def normalise_patient_id(raw: str | None) -> str:
    """Return the PatientID (0010,0020) by which persons are compared: trimmed, case folded, NFKC.

    Padding (spaces, NUL) carries no meaning in LO (PS3.5 6.2); systems differ in letter case. Inner
    characters, leading zeros among them, stay.
    """
    return unicodedata.normalize("NFKC", raw or "").strip(" \t\r\n\0").casefold()


def pseudonym(key: SecretKey, raw_patient_id: str, issuer: str | None) -> str:
    """Return the new PatientID of a person: a short code that says nothing without the key.

    `issuer` is IssuerOfPatientID (0010,0021); the same number of another issuer is another person.
    """
    mark = key.digest("pseudonym", *_identity(raw_patient_id, issuer)).hex()
    return PSEUDONYM_PREFIX + mark[:PSEUDONYM_LETTERS].translate(_ALPHABET)


def shift_days(key: SecretKey, raw_patient_id: str, issuer: str | None) -> int:
    """Return the whole days by which every date of a person moves; negative, never zero."""
    span = MAX_SHIFT_DAYS - MIN_SHIFT_DAYS + 1
    return -(MIN_SHIFT_DAYS + key.number("date shift", *_identity(raw_patient_id, issuer)) % span)


def _identity(raw_patient_id: str, issuer: str | None) -> tuple[str, str]:
    return normalise_patient_id(issuer), normalise_patient_id(raw_patient_id)
