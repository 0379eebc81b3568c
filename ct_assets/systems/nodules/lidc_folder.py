"""A folder of LIDC-IDRI read messages and the images they belong to: tables of scans, marks and nodules.

Belongs here: every file's disposition, several files of one series, writing the tables. Does not: one message
(`lidc`), one scan (`reference`).
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from ct_assets import files, progress, tables
from ct_assets.dicom import index as headers
from ct_assets.errors import UsageError
from ct_assets.systems.nodules import lidc, planes, reference
from ct_assets.tables.nodules import NoduleConsensus, NoduleMarks, NoduleReference, NoduleScans

MOST_SESSIONS = 4
"""Readers of an LIDC scan. More in one file are taken as they are; several files are not joined to more."""
OWN_FILES = (
    "files.jsonl",
    "scans.parquet",
    "marks.parquet",
    "nodules.parquet",
    "consensus.parquet",
    "timings.json",
)


@dataclass
class MessageFile:
    """What became of one file."""

    name: str
    """Relative to the folder, with forward slashes."""
    disposition: str = "read"
    """`read`, `radiograph`, `exact_duplicate`, `refused`."""
    reasons: list[str] = field(default_factory=list)
    message: lidc.Message | None = None

    def refuse(self, code: str, disposition: str = "refused") -> None:
        """Take the file out, for a reason."""
        self.disposition, self.message = disposition, None
        self.reasons = [*self.reasons, code]

    def row(self) -> dict[str, Any]:
        """Return the file's line of `files.jsonl`."""
        return {"file": self.name, "disposition": self.disposition, "reasons": self.reasons}


def run(xml_dir: Path, output_dir: Path, images_dir: Path, *, workers: int) -> list[MessageFile]:
    """Read all messages below `xml_dir`; write files.jsonl, scans, marks, nodules, consensus and timings.json.

    Raises `UsageError` where a folder is missing or `xml_dir` holds no file. A file that cannot be used is a line.
    """
    for folder in (xml_dir, images_dir):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
    timings = progress.Timings()
    with timings.step("read") as step:
        read = [_read(path, xml_dir) for path in _paths(xml_dir, output_dir)]
        if not read:
            raise UsageError(f"{xml_dir}: no file in it; give the folder of the read messages (XML)")
        step.items = len(read)
        _refuse_copies(read, xml_dir)
    with timings.step("images") as step:
        index = headers.scan(images_dir, root=images_dir, workers=workers)
        images = planes.of_index(index)
        step.items = len(index)
    with timings.step("nodules") as step:
        scans = _scans(read, images)
        step.items = len(scans)
    rows = _rows(scans)
    files.write_jsonl(output_dir / "files.jsonl", [file.row() for file in read])
    schemas: dict[str, type[dy.Schema]] = {
        "scans": NoduleScans,
        "marks": NoduleMarks,
        "nodules": NoduleReference,
        "consensus": NoduleConsensus,
    }
    for name, schema in schemas.items():
        tables.write_table(output_dir / f"{name}.parquet", tables.frame(rows[name], schema), schema)
    timings.write(output_dir)
    return read


@dataclass(frozen=True, eq=False)
class Scan:
    """One series with all that was read of it."""

    uid: str
    sessions: int
    marks: list[reference.PlacedMark]
    nodules: list[reference.Nodule]
    planes: planes.Planes


def _paths(xml_dir: Path, output_dir: Path) -> list[Path]:
    """Return the files below `xml_dir`, but for what an earlier run wrote to `output_dir`."""
    output = output_dir.resolve()
    return sorted(
        path
        for path in xml_dir.rglob("*")
        if path.is_file() and not (path.resolve().parent == output and path.name in OWN_FILES)
    )


def _read(path: Path, root: Path) -> MessageFile:
    file = MessageFile(path.relative_to(root).as_posix())
    try:
        if path.stat().st_size > lidc.MOST_BYTES:
            raise lidc.MessageError("lidc_too_large")
        file.message = lidc.parse(path.read_bytes())
        if not file.message.sessions:
            file.reasons.append("lidc_no_sessions")
    except lidc.MessageError as refusal:
        file.refuse(refusal.code, "radiograph" if refusal.code == "lidc_radiograph" else "refused")
    return file


def _refuse_copies(read: list[MessageFile], root: Path) -> None:
    """Keep the first of files with the same bytes."""
    sizes = Counter((root / file.name).stat().st_size for file in read)
    seen = set()
    for file in read:
        path = root / file.name
        if sizes[path.stat().st_size] == 1:
            continue
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in seen:
            file.reasons = []
            file.refuse("lidc_exact_copy", "exact_duplicate")
        seen.add(digest)


def _scans(read: list[MessageFile], images: dict[str, pl.DataFrame]) -> list[Scan]:
    of_series: dict[str, list[MessageFile]] = {}
    for file in read:
        if file.message is not None:
            of_series.setdefault(file.message.series_uid, []).append(file)
    scans = []
    for uid, members in sorted(of_series.items()):
        stack = planes.of_series(images[uid]) if uid in images else None
        if stack is None:
            for file in members:
                file.refuse("image_geometry_unknown" if uid in images else "lidc_images_missing")
            continue
        message = _joined(members)
        if message is None:
            continue
        marks, nodules = reference.nodules(reference.place(message, stack), stack)
        lost = {code for mark in marks for code in mark.warnings if code == "image_not_in_series"}
        for file in members:
            if file.message is not None:
                file.reasons += sorted(lost)
        scans.append(Scan(uid, len(message.sessions), marks, nodules, stack))
    return scans


def _joined(members: list[MessageFile]) -> lidc.Message | None:
    """Return the one message of a series' files; None where they contradict each other.

    Sessions that another file has too are the same readings; sessions without a mark are alike and prove nothing.
    """
    kept: list[MessageFile] = []
    sessions: list[tuple[lidc.ReadMark, ...]] = []
    for file in members:
        if file.message is None:
            continue
        mine = list(file.message.sessions)
        repeated = [session for session in mine if session and session in sessions]
        if kept and len(repeated) == sum(map(bool, mine)) and len(mine) <= len(sessions):
            file.refuse("lidc_sessions_repeated", "exact_duplicate")
            continue
        if kept and (repeated or len(sessions) + len(mine) > MOST_SESSIONS):
            for other in members:
                if other.message is not None:
                    other.refuse("lidc_readings_conflict")
            return None
        kept.append(file)
        sessions += mine
    if len(kept) > 1:
        for file in kept:
            file.reasons.append("lidc_sessions_joined")
    first = kept[0].message
    assert first is not None
    return lidc.Message(first.series_uid, tuple(sessions))


def _rows(scans: list[Scan]) -> dict[str, list[dict[str, Any]]]:
    return {
        "scans": [{"series_uid": scan.uid, "sessions": scan.sessions} for scan in scans],
        "marks": [reference.mark_row(scan.uid, mark) for scan in scans for mark in scan.marks],
        "nodules": [
            reference.nodule_row(scan.uid, number, nodule)
            for scan in scans
            for number, nodule in enumerate(scan.nodules)
        ],
        "consensus": [
            reference.consensus_row(scan.uid, number, nodule, scan.planes)
            for scan in scans
            for number, nodule in enumerate(scan.nodules)
            if len(nodule.consensus)
        ],
    }
