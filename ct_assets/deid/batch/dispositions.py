"""Who is who and what may go on: persons, duplicates and refusals, decided from the whole batch at once.

Belongs here: everything that is decided between the two passes. A pure function of the facts of all files,
so that order and workers cannot matter. Does not: what needs the pixels (`burned_in`).
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from ct_assets.deid.batch import people
from ct_assets.deid.batch.gather import FileFacts
from ct_assets.deid.elements import table
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id, pseudonym, shift_days
from ct_assets.identity.uids import bare_uid, is_own, new_uid
from ct_assets.settings.deid import DeidProfile

RELEASED, QUARANTINED, REJECTED = "released", "quarantined", "rejected"

STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."


@dataclass(slots=True)
class Planned:
    """One file, its new names, and what is decided about it before the pixels are looked at."""

    facts: FileFacts
    file_digest: str
    """Keyed digest of the file's SHA-256: names a file in public audits; "" as long as there is no SHA-256."""
    disposition: str = RELEASED
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What is said of the object though it is released."""
    patient: str = ""
    shift_days: int = 0
    study: str = ""
    series: str = ""
    instance: str = ""
    set_aside: frozenset[str] = frozenset()
    """Reasons that a person set aside after looking (`review`)."""

    @property
    def order(self) -> tuple[str, ...]:
        """Where the file comes in every output: by its new names, never by where it lay."""
        return (self.patient, self.study, self.series, self.instance, self.file_digest, self.disposition)


def plan(facts: list[FileFacts], profile: DeidProfile, key: SecretKey) -> list[Planned]:
    """Return every file with its disposition so far, in the order of the outputs."""
    issuers = _issuers_of_studies(facts)
    planned = [_named(one, issuers, profile, key) for one in facts]
    held, warned = people.reasons(facts)
    for one in planned:
        _refuse(one, profile, key, sorted(held.get(one.facts.path, ())))
        one.warnings = tuple(sorted(warned.get(one.facts.path, ())))
    _settle_duplicates([one for one in planned if one.disposition != REJECTED and one.facts.sop_instance])
    return sorted(planned, key=lambda one: (one.order, one.facts.path))


def _named(
    facts: FileFacts, issuers: dict[tuple[str, str], set[str]], profile: DeidProfile, key: SecretKey
) -> Planned:
    one = Planned(facts, "")
    if facts.code is not None or facts.sha256 is not None:
        one.file_digest = file_digest(key, facts.sha256 or f"path {facts.path}")
    if facts.code is not None:
        one.disposition, one.reasons = REJECTED, (facts.code,)
        return one
    if normalise_patient_id(facts.patient_id):
        if not normalise_patient_id(facts.issuer):
            of_study = issuers.get((facts.study, normalise_patient_id(facts.patient_id)), set())
            if len(of_study) == 1:
                facts.issuer = next(iter(of_study))
        one.patient = pseudonym(key, facts.patient_id, facts.issuer)
        if profile.retain_longitudinal == "modified":
            one.shift_days = shift_days(key, facts.patient_id, facts.issuer)
    one.study, one.series, one.instance = (
        bare_uid(uid) if profile.retain_uids else new_uid(key, uid)
        for uid in (facts.study, facts.series, facts.sop_instance)
    )
    return one


def file_digest(key: SecretKey, sha256: str) -> str:
    """Return the keyed digest that names a file in public audits."""
    return key.digest("file", sha256).hex()[:32]


def _issuers_of_studies(facts: list[FileFacts]) -> dict[tuple[str, str], set[str]]:
    """Return the issuers that objects of one study and patient number name.

    A study is of one patient (PS3.3 A.1.2), so an object that names no issuer (a segmentation made by
    research software, say) has that of its study, where the batch knows exactly one.
    """
    issuers: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for one in facts:
        folded = normalise_patient_id(one.issuer)
        if one.code is None and folded and one.study:
            place = issuers[one.study, normalise_patient_id(one.patient_id)]
            place[folded] = min(place.get(folded, one.issuer), one.issuer)
    return {place: set(found.values()) for place, found in issuers.items()}


def _refuse(one: Planned, profile: DeidProfile, key: SecretKey, mixed: list[str]) -> None:
    """Quarantine what cannot be made safe or cannot be named."""
    if one.disposition == REJECTED:
        return
    facts = one.facts
    reasons = []
    if any(is_own(key, uid) for uid in (facts.sop_instance, facts.series, facts.study, facts.mark)):
        reasons.append("own_output")
    if not one.patient:
        reasons.append("missing_patient_id")
    reasons += mixed
    for uid, code in (
        (facts.sop_class, "missing_sop_class_uid"),
        (facts.sop_instance, "missing_sop_instance_uid"),
        (facts.series, "missing_series_instance_uid"),
        (facts.study, "missing_study_instance_uid"),
    ):
        if not uid:
            reasons.append(code)
    if facts.sop_class.startswith(STRUCTURED_REPORTS) and not profile.clean_structured_content:
        reasons.append("structured_report")
    elif (
        facts.sop_class
        and profile.unknown_sop_classes == "quarantine"
        and not table.load().knows_sop_class(facts.sop_class)
    ):
        is_retired = table.is_retired_class(facts.sop_class)
        reasons.append("retired_sop_class" if is_retired else "unknown_sop_class")
    if reasons:
        one.disposition, one.reasons = QUARANTINED, tuple(reasons)


def _settle_duplicates(planned: list[Planned]) -> None:
    """Keep one of equal instances; of unequal ones under one SOPInstanceUID, keep none.

    Files of equal bytes are exact copies; files of unequal bytes that say the same (another export: file meta
    information, preamble, transfer syntax) are one instance too.
    """
    by_uid: dict[str, list[Planned]] = defaultdict(list)
    for one in planned:
        by_uid[one.facts.sop_instance].append(one)
    siblings = Counter((_folder(one.facts.path), one.facts.series) for one in planned)
    for group in by_uid.values():
        if len(group) == 1:
            continue
        said = {one.facts.sha256: one.facts.content for one in group if one.facts.content}
        by_content: dict[str | None, list[Planned]] = defaultdict(list)
        for one in group:
            by_content[said.get(one.facts.sha256, one.facts.sha256)].append(one)
        for copies in by_content.values():
            # The one that lies among its series stays, so that a stray copy never looks like the original.
            copies.sort(
                key=lambda one: (-siblings[_folder(one.facts.path), one.facts.series], one.facts.path)
            )
            for extra in copies[1:]:
                is_copy = extra.facts.sha256 == copies[0].facts.sha256
                extra.disposition = REJECTED
                extra.reasons = ("exact_duplicate" if is_copy else "equal_instance",)
        if len(by_content) > 1:
            for copies in by_content.values():
                first = copies[0]
                first.disposition = QUARANTINED
                first.reasons = (*first.reasons, "conflicting_duplicate")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
