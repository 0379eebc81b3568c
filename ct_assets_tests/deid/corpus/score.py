"""Scoring the output of a de-identification against an answer key.

The ten classes are in the spirit of MIDI-B's, but stricter: a date must equal the patient's own shift to the
day, a file that is missing fails every row of its key, and what no row names is held against rules too (no
old UID, no token, pixels byte for byte). The result is a score on the corpus it was made from and is never to
be called a MIDI-B score: that benchmark's data is another.
"""

import argparse
import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import ahocorasick
import polars as pl
import pydicom
from pydicom.dataset import Dataset

from ct_assets_tests.deid.corpus import answers
from ct_assets_tests.deid.corpus.answers import Answer

CLASSES = (
    "tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted",
    "uid_changed", "uid_consistent", "patid_consistent", "pixels_retained", "pixels_hidden",
)  # fmt: skip
_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)(.*)", re.DOTALL)
_ENCODINGS = ("utf-8", "latin-1", "iso8859_2", "iso8859_5", "iso8859_7", "gb18030", "utf-16-le", "utf-16-be",
              "iso2022_jp", "euc_kr")  # fmt: skip
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass
class Score:
    """Passed and failed checks by class; a failure names file and element, never a value."""

    passed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def count(self, kind: str, ok: bool, where: str) -> None:
        """Count one check."""
        if ok:
            self.passed[kind] += 1
        else:
            self.failures[kind].append(where)

    @property
    def total(self) -> int:
        return sum(self.passed.values()) + sum(len(found) for found in self.failures.values())

    @property
    def share(self) -> float:
        return sum(self.passed.values()) / max(self.total, 1)

    def lines(self) -> list[str]:
        """Return the table: class, passed, total."""
        kinds = [*CLASSES, *sorted(set(self.passed) | set(self.failures) - set(CLASSES))]
        rows = [f"{'class':18} {'passed':>8} {'total':>8}"]
        for kind in dict.fromkeys(kinds):
            total = self.passed[kind] + len(self.failures[kind])
            if total:
                rows.append(f"{kind:18} {self.passed[kind]:8d} {total:8d}")
        rows.append(f"{'all':18} {sum(self.passed.values()):8d} {self.total:8d}  {100 * self.share:.3f} %")
        return rows


@dataclass(frozen=True)
class Released:
    """One released file."""

    path: Path

    @cached_property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def dataset(self) -> Dataset:
        return pydicom.dcmread(self.path)

    @cached_property
    def haystacks(self) -> tuple[bytes, str]:
        """The file's bytes without its pixels, and all its text as decoded."""
        body = self.content
        for keyword in _PIXELS:
            pixels = self.dataset.get(keyword)
            if isinstance(pixels, bytes) and pixels:
                body = body.replace(pixels, b"")
        return body, "\n".join(_texts(self.dataset))

    def holds(self, value: str) -> bool:
        """Whether the value occurs anywhere: as text, or in any encoding among the bytes outside pixels."""
        body, text = self.haystacks
        return value in text or any(form in body for form in _encoded(value))


def score(
    input_dir: Path, output_dir: Path, key: Path, *, tokens: Path | None = None, files: Path | None = None
) -> Score:
    """Score `output_dir` (as `ct-assets deid` writes it) of `input_dir` against the answer key.

    `tokens` (`patient, kind, token`) and `files` (`path, expected, pixels`) are taken from beside the key
    where they are there.
    """
    run = _Run(input_dir, output_dir)
    result = Score()
    rows = answers.read(key)
    expected = files or key.with_name("expected_files.csv")
    fates = {row["path"]: row["expected"] for row in answers.read_rows(expected)} if expected.exists() else {}
    _score_dispositions(run, fates, result)
    _score_rows(run, rows, fates, result)
    _score_patients(run, rows, result)
    _score_every_release(run, result)
    listed = tokens or key.with_name("leak_tokens.csv")
    if listed.exists():
        _score_tokens(run, [row["token"] for row in answers.read_rows(listed)], result)
    return result


class _Run:
    """What a run left behind."""

    def __init__(self, input_dir: Path, output_dir: Path) -> None:
        self.input_dir, self.output_dir = input_dir, output_dir
        self.uids = pl.read_parquet(output_dir / "audits/uid/uid_map.parquet")
        self.new_of = dict(zip(self.uids["old_uid"], self.uids["new_uid"], strict=True))
        self.files = pl.read_parquet(output_dir / "audits/uid/files.parquet")
        self.shift_of = {
            row["new_patient_id"]: row["shift_days"]
            for row in pl.read_parquet(output_dir / "audits/uid/patient_map.parquet").iter_rows(named=True)
        }
        self.released = {path.stem: Released(path) for path in sorted((output_dir / "dicom").rglob("*.dcm"))}
        self.by_path = {row["path"]: row for row in self.files.iter_rows(named=True)}

    def of(self, old_uid: str) -> Released | None:
        return self.released.get(self.new_of.get(old_uid, ""))

    def disposition_of_uid(self, old_uid: str) -> str:
        new = self.new_of.get(old_uid)
        found = [row["disposition"] for row in self.by_path.values() if row["new_sop_instance_uid"] == new]
        return found[0] if found else ""

    def delivered(self) -> set[str]:
        """Return the SOP instances that lie in the input."""
        found = set()
        for path in self.input_dir.rglob("*"):
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
                found.add(str(header.SOPInstanceUID))
            except Exception:
                continue
        return found

    def originals(self) -> Iterator[tuple[dict[str, str], Released]]:
        """Yield each released file's row with its file."""
        for row in self.by_path.values():
            released = self.released.get(row["new_sop_instance_uid"] or "")
            if row["disposition"] == "released" and released is not None:
                yield row, released


def _score_dispositions(run: _Run, fates: dict[str, str], result: Score) -> None:
    on_disk = {
        path.relative_to(run.input_dir).as_posix() for path in run.input_dir.rglob("*") if path.is_file()
    }
    for path in sorted(on_disk):
        result.count("nothing_lost", path in run.by_path, f"{_digest(path)}: no line in files.parquet")
    for path, expected in fates.items():
        row = run.by_path.get(path) or next(
            (row for known, row in run.by_path.items() if path.endswith(known) or known.endswith(path)), None
        )
        if row is None:
            continue
        ok = any(_is_fate(row, fate.strip()) for fate in expected.split(" or "))
        about_pixels = "pixels/" in path or "frames/" in path
        kind = "pixels_hidden" if about_pixels and expected == "quarantined" else "disposition"
        result.count(kind, ok, f"{_digest(path)}: {row['disposition']} {row['reasons']}, not {expected}")


def _is_fate(row: dict[str, object], fate: str) -> bool:
    disposition, _, code = fate.partition(" as ")
    return row["disposition"] == disposition and (not code or code in (row["reasons"] or []))


def _score_rows(run: _Run, rows: list[Answer], fates: dict[str, str], result: Score) -> None:
    delivered = run.delivered()
    for row in rows:
        if row.sop_instance_uid not in delivered:
            continue  # the key covers several deliveries, this input is one of them
        held = fates.get(row.path, "released")
        released = run.of(row.sop_instance_uid)
        where = f"{_digest(row.sop_instance_uid)} {row.element_path}"
        if released is None:
            safe = (
                not held.startswith("released")
                or run.disposition_of_uid(row.sop_instance_uid) == "quarantined"
            )
            if row.check != "policy" and not (safe and held != "released"):
                result.count(_class_of(row), False, f"{where}: the file was not released")
            continue
        _score_row(run, row, released, where, result)


def _class_of(row: Answer) -> str:
    if row.expected_class == "replaced" and row.element_path.rpartition(".")[2].split("[")[0].endswith(
        ("UID", "UIDList")
    ):
        return "uid_changed"
    return {
        "removed": "text_removed",
        "shifted": "date_shifted",
        "kept": "text_retained",
        "replaced": "text_removed",
    }[row.expected_class]


def _score_row(run: _Run, row: Answer, released: Released, where: str, result: Score) -> None:
    element = answers.element_at(released.dataset, row.tag_path)
    now = answers.as_text(element)
    kind = _class_of(row)
    if row.expected_class == "kept":
        if row.check == "same":
            result.count("tag_retained", element is not None, f"{where}: gone")
            result.count(kind, _same(now, row.inserted_value), f"{where}: changed")
        return
    if element is None and row.expected_class in ("shifted", "replaced") and not row.case:
        # Foreign keys let a profile take a date or a reference out instead of replacing it.
        result.count("text_removed", not released.holds(row.inserted_value), f"{where}: still there")
        return
    if row.expected_class == "shifted":
        if row.check == "policy":
            result.count("text_removed", now != row.inserted_value, f"{where}: still there")
        else:
            days = run.shift_of.get(str(released.dataset.PatientID))
            result.count(kind, now == _shifted(row.inserted_value, days), f"{where}: not moved by the shift")
        return
    if kind == "uid_changed":
        old, new = row.inserted_value.split("\\"), now.split("\\")
        result.count(kind, not set(old) & set(new) and all(new), f"{where}: not changed")
        result.count("uid_consistent", [run.new_of.get(uid) for uid in old] == new, f"{where}: not as mapped")
        return
    if row.expected_class == "replaced":
        result.count("text_notnull", bool(now), f"{where}: empty")
    if row.check == "policy" or not row.inserted_value:
        return
    gone = now != row.inserted_value
    if row.check == "nowhere":
        gone = gone and not released.holds(row.inserted_value)
    result.count(kind, gone, f"{where}: still there")


def _score_patients(run: _Run, rows: list[Answer], result: Score) -> None:
    """One person, one new PatientID and folder; two persons, two."""
    new_ids: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        released = run.of(row.sop_instance_uid)
        if released is not None and row.patient:
            new_ids[row.patient].add(str(released.dataset.PatientID))
    persons: dict[str, set[str]] = defaultdict(set)
    for person, ids in new_ids.items():
        result.count("patid_consistent", len(ids) == 1, f"{_digest(person)}: {len(ids)} pseudonyms")
        for new_id in ids:
            persons[new_id].add(person)
    for new_id, found in persons.items():
        result.count("patid_consistent", len(found) == 1, f"{new_id}: stands for {len(found)} persons")


def _score_every_release(run: _Run, result: Score) -> None:
    """What holds for each released file whatever the key says."""
    originals = {uid for uid in run.new_of if len(uid) > 8}
    for row, released in run.originals():
        dataset, name = released.dataset, released.path.stem
        source = pydicom.dcmread(run.input_dir / row["path"], force=True)
        for keyword in _PIXELS:
            if keyword in source:
                same = keyword in dataset and dataset[keyword].value == source[keyword].value
                result.count("pixels_retained", same, f"{name}: pixels differ")
        meta = dataset.file_meta
        result.count("file_meta", released.content[:128] == bytes(128), f"{name}: preamble")
        result.count(
            "file_meta", meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == name, f"{name}: UID"
        )
        result.count("file_meta", meta.TransferSyntaxUID == _syntax(source), f"{name}: transfer syntax")
        found = set(_uids(dataset))
        result.count("uid_changed", not found & originals, f"{name}: an old UID")
        well_formed = all(
            len(u) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", u) for u in found if u
        )
        result.count("uid_consistent", well_formed, f"{name}: a malformed UID")
        codes = {str(c.CodeValue) for c in dataset.get("DeidentificationMethodCodeSequence", [])}
        stated = (
            dataset.get("PatientIdentityRemoved") == "YES" and "113100" in codes and "113102" not in codes
        )
        result.count("method_stated", stated, f"{name}: method")


def _score_tokens(run: _Run, tokens: list[str], result: Score) -> None:
    """One pass over every released file and public name and audit for all tokens in all encodings."""
    search = ahocorasick.Automaton()
    for token in tokens:
        for form in _encoded(token):
            search.add_word(form.decode("latin-1"), token)
    search.make_automaton()
    for released in run.released.values():
        body, text = released.haystacks
        hay = body.decode("latin-1")
        leaks = [end for end, token in search.iter(hay) if _stands_alone(hay, end, token)]
        leaks += [0 for token in tokens if not token.isdigit() and token in text]
        result.count("text_removed", not leaks, f"{released.path.stem}: {len(leaks)} tokens")
    public = [
        run.output_dir / "audits/deid/deid_audit.jsonl",
        *sorted((run.output_dir / "reports").rglob("*.html")),
    ]
    names = "\n".join(path.as_posix() for path in sorted((run.output_dir / "dicom").rglob("*"))).encode()
    for label, content in [("names", names), *((p.name, p.read_bytes()) for p in public if p.exists())]:
        hay = content.decode("latin-1")
        leaks = [end for end, token in search.iter(hay) if _stands_alone(hay, end, token)]
        result.count("text_removed", not leaks, f"{label}: {len(leaks)} tokens")


def _stands_alone(hay: str, end: int, token: str) -> bool:
    """Whether a find of digits is not part of a longer number or a UID; other finds count as they are."""
    if not token.isdigit():
        return True
    start = end - len(token) + 1
    around = hay[max(start - 1, 0) : start] + hay[end + 1 : end + 2]
    return not any(character.isdigit() or character == "." for character in around)


def _encoded(value: str) -> set[bytes]:
    found = set()
    for encoding in _ENCODINGS:
        try:
            found.add(value.encode(encoding))
        except UnicodeEncodeError:
            continue
    return {form for form in found if len(form) >= 4}


def _texts(dataset: Dataset) -> Iterator[str]:
    """Yield all text as decoded; what cannot be decoded is left to the search among the bytes."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _texts(item)
        elif element.VR not in ("OB", "OW", "UN", "OF", "OD", "OL", "OV"):
            yield answers.as_text(element)


def _uids(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR == "UI" and element.value:
            yield from (str(part) for part in ([element.value] if element.VM == 1 else element.value))


def _syntax(source: Dataset) -> str:
    return str(source.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))


def _shifted(value: str, days: int | None) -> str:
    """Return what a date must have become; the clock time stays, ACR-NEMA's form becomes DA."""
    if days is None:
        return ""
    moved = []
    for part in value.split("\\"):
        date = _DATE.fullmatch(part)
        if date is None:
            return ""
        day = datetime(int(date[1]), int(date[2]), int(date[3])) + timedelta(days=days)
        moved.append(f"{day:%Y%m%d}{date[4]}")
    return "\\".join(moved)


def _same(now: str, before: str) -> bool:
    def parts(text: str) -> list[float | str]:
        found: list[float | str] = []
        for part in re.sub(r"[\[\]']", "", text).replace(", ", "\\").split("\\"):
            try:
                found.append(float(part))
            except ValueError:
                found.append(part.strip())
        return found

    return parts(now) == parts(before)


def _digest(value: str) -> str:
    """A short name for a file or UID of the input that does not give it away."""
    return hashlib.sha256(value.encode()).hexdigest()[:10]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score a de-identification against an answer key.")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--failures", type=int, default=5, help="failures shown a class")
    given = parser.parse_args()
    scored = score(given.input, given.output, given.answers)
    print("\n".join(scored.lines()))
    for failed, places in scored.failures.items():
        for place in places[: given.failures]:
            print(f"failed {failed}: {place}")
    sys.exit(bool(any(scored.failures.values())))
