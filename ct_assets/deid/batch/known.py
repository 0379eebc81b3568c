"""What is known of each patient of a batch.

Belongs here: whose objects a known value belongs to. Does not: reading values (`gather`), their forms
(`elements.derive`).
"""

from collections import defaultdict
from collections.abc import Iterable

from ct_assets.deid.batch.dispositions import Planned
from ct_assets.deid.elements.identifiers import Identifiers
from ct_assets.identity.pseudonyms import normalise_patient_id

Value = tuple[str, str, str, str]
"""Kind (`name`, `patient_id`, `id`, `birth_date`, `date`, `note`), value, raw patient ID, issuer."""


def of_batch(values: Iterable[Value], planned: Iterable[Planned]) -> Identifiers:
    """Return the identifiers of a batch by patient.

    One patient is whoever shares a patient number or a study: an object that names no issuer, or has a mistyped
    number, still tells of the patient of its study. What belongs to no patient of the batch (a row of the clinic's
    table, somebody who has withdrawn) is known under "".
    """
    people: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    for one in planned:
        if one.patient:
            number = normalise_patient_id(one.facts.patient_id)
            people[number].add(one.patient)
            places[number].add(one.facts.study or f"number {number}")
    group_of = _groups(places)
    owners: dict[str, set[str]] = defaultdict(set)
    for number, pseudonyms in people.items():
        owners[group_of[number]] |= pseudonyms
    identifiers = Identifiers()
    for kind, value, patient_id, _ in sorted(values):
        number = normalise_patient_id(patient_id)
        identifiers.add(kind, value, min(owners[group_of[number]]) if number in group_of else "")
    for pseudonyms in owners.values():
        identifiers.join(pseudonyms)
    return identifiers


def _groups(places: dict[str, set[str]]) -> dict[str, str]:
    """Return for each patient number the smallest number that it is connected with by shared studies."""
    numbers_of: dict[str, set[str]] = defaultdict(set)
    for number, studies in places.items():
        for study in studies:
            numbers_of[study].add(number)
    group_of: dict[str, str] = {}
    for first in sorted(places):
        if first in group_of:
            continue
        waiting = [first]
        while waiting:
            number = waiting.pop()
            if number not in group_of:
                group_of[number] = first
                waiting += [other for study in places[number] for other in numbers_of[study]]
    return group_of
