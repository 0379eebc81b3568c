"""Text that people type: reasons of decisions, names of people, batches and experiments, verified to identify nobody.

Belongs here: which identifiers such a text is searched for, and refusing it with a line that never repeats the value.
Does not: finding forms of an identifier in a text (`elements.identifiers`), the search in released files (`leak_scan`).

A typed text ends in audits, paths, partition keys and pages that researchers read. It is searched for whatever the leak
scan would find of any patient of the batch or of the clinic's table, and for their birth dates and UIDs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ct_assets import tables
from ct_assets.deid.batch import dicomfile, listing
from ct_assets.deid.batch.gather import Gathered, facts_of_file
from ct_assets.deid.elements import clinic
from ct_assets.deid.elements.identifiers import Finder, Identifiers, Where
from ct_assets.errors import SafetyError, UsageError
from ct_assets.identity.pseudonyms import normalise_patient_id
from ct_assets.layout import DeidPaths, Layout
from ct_assets.tables.deid import Files, PatientMap, UidMap

ANYONE = "anyone"
"""The one owner of all identifiers here: a text may name nobody, whoever they are."""
_DATE = re.compile(r"(?<!\d)(?:\d{8}|\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4})(?!\d)")
_SHORT_NUMBER = re.compile(r"(?=.*\d)[\w-]{3,}")
"""A patient number as a word: three characters and more, a digit among them."""
_UID = re.compile(r"\d+(?:\.\d+){3,}")


class KnownPeople:
    """The identifiers that a typed text may not repeat."""

    def __init__(self, values: Iterable[clinic.Value] = (), uids: Iterable[str] = ()) -> None:
        """`values`: kind, value, patient number, issuer, as the first pass and the clinic's table give them."""
        self._identifiers = Identifiers()
        self._numbers: set[str] = set()
        for kind, value, patient, _ in values:
            self._identifiers.add(kind, value, ANYONE)
            of_patient = (patient, value if kind == "patient_id" else "")
            self._numbers |= {
                normalise_patient_id(text) for text in of_patient if _SHORT_NUMBER.fullmatch(text)
            }
        self._uids = frozenset(uids)
        self._finder = Finder(self._identifiers)

    def refuse(self, texts: Mapping[str, str]) -> None:
        """Raise `UsageError` where one of the texts, by the name of its option, repeats an identifier."""
        for what, text in texts.items():
            if kind := self.repeated(text):
                raise UsageError(
                    f"{what}: repeats {kind} of the batch or of the clinic's table; write it without "
                    "(nothing was recorded)"
                )

    def repeated(self, text: str) -> str | None:
        """Return what kind of identifier a text repeats, None where it repeats none."""
        if any(uid in self._uids for uid in _UID.findall(text)):
            return "a UID"
        if self._finder.spans(text, ANYONE, Where.KEPT) or self._is_number(text):
            return "an identifier"
        typed = Identifiers()
        for date in _DATE.findall(text):
            typed.add("birth_date", date, ANYONE)
        return "a birth date" if typed.births[ANYONE] & self._identifiers.births[ANYONE] else None

    def _is_number(self, text: str) -> bool:
        """Whether a word of the text is a patient number, however short it is."""
        return any(
            normalise_patient_id(word.strip(".,;:()'\"")) in self._numbers for word in (text, *text.split())
        )


def of_batch(paths: DeidPaths, originals: Path | None, labels_csv: Path | None) -> KnownPeople:
    """Return who is known from one batch: its crosswalk, originals (an object a series, all that is held), the table."""
    values, uids = _of_originals(
        [
            *(_an_object_a_series(paths, originals) if originals else ()),
            *sorted(paths.quarantine.glob("*.dcm")),
        ]
    )
    values |= _of_crosswalk(paths) | (clinic.values_of(labels_csv) if labels_csv else set())
    if paths.uid_map.is_file():
        uids |= set(tables.read_table(paths.uid_map, UidMap)["old_uid"])
    return KnownPeople(values, uids)


def of_platform(layout: Layout, labels_csv: Path | None) -> KnownPeople:
    """Return who is known to a platform: the crosswalks and originals of all its batches, and the clinic's table."""
    values = clinic.values_of(labels_csv) if labels_csv and labels_csv.is_file() else set()
    uids: set[str] = set()
    folder = layout.deid_paths("any").uid_dir.parent
    for batch in sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ():
        paths = layout.deid_paths(batch)
        values |= _of_crosswalk(paths)
        found, seen = _of_originals(_an_object_a_series(paths, layout.raw_batch(batch)))
        values, uids = values | found, uids | seen
    return KnownPeople(values, uids)


def of_folder(folder: Path, labels_csv: Path | None) -> KnownPeople:
    """Return who is known from a folder of DICOM that was not registered yet, and from the table."""
    found, _ = listing.walk(folder)
    values, uids = _of_originals(folder / path for path in found)
    return KnownPeople(values | (clinic.values_of(labels_csv) if labels_csv else set()), uids)


def refuse_in_audit(recorded: Iterable[tuple[str, str]], identifiers: Identifiers, audit: Path) -> None:
    """Search what was typed into an audit for the identifiers of its batch. Raises `SafetyError` naming the line.

    `recorded` is who and why of each line in order.
    """
    everybody = Identifiers()
    for forms in identifiers.forms.values():
        for form, sure in forms.items():
            everybody.forms[ANYONE][form] = everybody.forms[ANYONE].get(form, sure) | sure
    finder = Finder(everybody)
    for number, texts in enumerate(recorded, start=1):
        if any(finder.spans(text, ANYONE, Where.KEPT) for text in texts):
            raise SafetyError(
                f"{audit}: line {number} repeats an identifier in `who` or `why`; nothing was released. Write that "
                "field again without it, then run this again"
            )


def _of_crosswalk(paths: DeidPaths) -> set[clinic.Value]:
    if not paths.patient_map.is_file():
        return set()
    numbers = tables.read_table(paths.patient_map, PatientMap)["old_patient_id"]
    return {("patient_id", number, number, "") for number in numbers if number}


def _of_originals(paths: Iterable[Path]) -> tuple[set[clinic.Value], set[str]]:
    gathered = Gathered()
    with dicomfile.silence():
        for path in paths:
            facts_of_file(path, path.name, gathered, with_digest=False)
    return gathered.values, set(gathered.uids)


def _an_object_a_series(paths: DeidPaths, originals: Path) -> Iterator[Path]:
    """Yield an original of each released series, and every one that was not released: slices of one series agree."""
    if not paths.files.is_file() or not originals.is_dir():
        return
    series_of = {path.stem: path.parent.name for path in paths.dicom.rglob("*.dcm")}
    seen: set[str] = set()
    for path, instance in tables.read_table(paths.files, Files)["path", "new_sop_instance_uid"].iter_rows():
        series = series_of.get(instance or "", path)
        if series not in seen:
            seen.add(series)
            yield originals / path
