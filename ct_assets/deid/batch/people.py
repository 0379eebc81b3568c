"""Who is who: numbers that stand for several people, and people that come under several numbers.

Belongs here: what the objects of a batch say of persons together (PatientID, issuer, name, birth date, study). Does
not: pseudonyms (`identity.pseudonyms`), what one file says (`gather`).

Two people are told apart only where that is plain: their names share no word and their birth dates differ. What would
mix people is held by a reason; what only would part one person is released with a warning.
"""

from collections import defaultdict
from collections.abc import Iterable

from ct_assets.deid.batch.gather import FileFacts
from ct_assets.deid.elements.spelling import fold
from ct_assets.identity.pseudonyms import normalise_patient_id

SEVERAL_PEOPLE, MIXED_STUDY, ISSUERS_OF_STUDY = (
    "several_people_one_id",
    "several_people_in_study",
    "several_issuers_in_study",
)
PLACEHOLDER, ISSUERS_OF_ID, IDS_OF_STUDY = (
    "placeholder_patient_id",
    "id_under_several_issuers",
    "ids_differ_in_study",
)
_PLACEHOLDERS = frozenset(
    (
        "anonymized", "anonymised", "anonymous", "anonym", "anon", "deidentified", "unknown", "unbekannt", "none", "null",
        "na", "nan", "test", "dummy", "patient", "patientid", "id", "noid", "nopatientid", "removed", "redacted", "xxx",
        "xxxx", "xxxxx", "x", "default", "phantom", "qa", "notavailable", "notapplicable", "undefined", "missing",
        "temp", "emergency", "trauma",
    )
)  # fmt: skip


def reasons(facts: Iterable[FileFacts]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return why files are held, and of what is warned, by path."""
    usable = [one for one in facts if one.code is None and normalise_patient_id(one.patient_id)]
    held: dict[str, set[str]] = defaultdict(set)
    warned: dict[str, set[str]] = defaultdict(set)
    by_person, by_number, by_study = (defaultdict[object, list[FileFacts]](list) for _ in range(3))
    for one in usable:
        number, issuer = normalise_patient_id(one.patient_id), normalise_patient_id(one.issuer)
        by_person[number, issuer].append(one)
        by_number[number].append(one)
        if one.study:
            by_study[one.study].append(one)
        if _is_placeholder(number):
            warned[one.path].add(PLACEHOLDER)
    for group in by_person.values():
        if _are_several(group):
            _note(held, group, SEVERAL_PEOPLE)
    for group in by_number.values():
        if len({normalise_patient_id(one.issuer) for one in group} - {""}) > 1 and not _are_several(group):
            _note(warned, group, ISSUERS_OF_ID)
    for group in by_study.values():
        _look_at_study(group, held, warned)
    return held, warned


def _look_at_study(group: list[FileFacts], held: dict[str, set[str]], warned: dict[str, set[str]]) -> None:
    issuers: dict[str, set[str]] = defaultdict(set)
    for one in group:
        issuers[normalise_patient_id(one.patient_id)].add(normalise_patient_id(one.issuer))
    if any(len(named - {""}) > 1 for named in issuers.values()):
        _note(held, group, ISSUERS_OF_STUDY)
    if len(issuers) > 1:
        if _are_several(group):
            _note(held, group, MIXED_STUDY)
        else:
            _note(warned, group, IDS_OF_STUDY)


def _note(notes: dict[str, set[str]], group: Iterable[FileFacts], code: str) -> None:
    for one in group:
        notes[one.path].add(code)


def _are_several(group: list[FileFacts]) -> bool:
    """Whether two of the files name plainly different people."""
    people = {
        (frozenset(fold(one.name).split()), one.birth_date)
        for one in group
        if one.birth_date and fold(one.name)
    }
    listed = sorted(people, key=lambda person: (sorted(person[0]), person[1]))[:200]
    return any(
        first[1] != second[1] and not first[0] & second[0]
        for place, first in enumerate(listed)
        for second in listed[place + 1 :]
    )


def _is_placeholder(number: str) -> bool:
    bare = "".join(fold(number).split())
    return bare.rstrip("0123456789") in _PLACEHOLDERS or (
        bare.isdigit() and len(set(bare)) == 1 and len(bare) > 2
    )
