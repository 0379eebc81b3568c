"""The second pass over a batch: every file that may go on is judged, de-identified and written, in parallel.

Belongs here: what happens to one file between reading and writing it, and the worker's state. Does not: the
decisions that need the whole batch (`dispositions`), the rules (`engine`), the verdict over pixels
(`burned_in`).
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ct_assets import parallel, progress
from ct_assets.deid.batch import dicomfile, dispositions, review
from ct_assets.deid.batch.dispositions import QUARANTINED, REJECTED, RELEASED, Planned
from ct_assets.deid.batch.outcomes import Outcome, audit_line
from ct_assets.deid.batch.page import Cell, PageFacts
from ct_assets.deid.elements import bulk, method, values
from ct_assets.deid.elements.engine import Engine, Person
from ct_assets.deid.elements.identifiers import Finder, Identifiers
from ct_assets.deid.proof.leak_scan import pixel_digest_of
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id
from ct_assets.identity.uids import new_uid
from ct_assets.layout import DeidPaths
from ct_assets.settings.deid import DeidProfile

if TYPE_CHECKING:
    from ct_assets.deid.pixels.streams import Stripped

INSTANCES_A_TASK = 8
RESTRICTED_FILE_MODE = 0o600

_AGE, _SEX, _STUDY_DATE = 0x00101010, 0x00100040, 0x00080020


@dataclass
class Spent:
    """How long the burned-in part took, and what was collected for the page."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    items: int = 0
    page: PageFacts = field(default_factory=PageFacts)

    def add(self, other: "Spent") -> None:
        """Take in what another task spent."""
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.items += other.items
        self.page.merge(other.page)


@dataclass
class _Done:
    """What one task did: outcomes, their audit lines, and what it spent."""

    outcomes: list[Outcome] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)


@dataclass
class _Worker:
    """What a worker process keeps between tasks."""

    input_dir: Path
    output_dir: Path
    quarantine: Path
    profile: DeidProfile
    key: SecretKey
    engine: Engine
    folders: set[Path] = field(default_factory=set)
    """Folders that are known to be there."""
    cells: dict[tuple[str, ...], Cell] = field(default_factory=dict)


_worker: _Worker | None = None


def run(
    input_dir: Path,
    staged: DeidPaths,
    planned: list[Planned],
    profile: DeidProfile,
    key: SecretKey,
    identifiers: Identifiers,
    *,
    workers: int,
    preload: tuple[str, ...],
) -> tuple[list[Outcome], Spent]:
    """Carry out the plan: write released files, originals that are held and the audit below `staged`."""
    outcomes: list[Outcome] = []
    spent = Spent()
    tasks = [planned[start : start + INSTANCES_A_TASK] for start in range(0, len(planned), INSTANCES_A_TASK)]
    results = parallel.map_ordered(
        _task,
        tasks,
        workers=workers,
        preload=preload,
        initializer=_start,
        initargs=(input_dir, staged, profile, key, identifiers),
    )
    with (
        closing(results),  # a failure here ends the workers first: nobody writes when the staging is cleared
        progress.track("de-identifying", len(planned)) as advance,
        staged.audit.open("wb") as audit,
    ):
        for result in results:
            audit.write(b"".join(result.lines))
            outcomes += result.outcomes
            spent.add(result.spent)
            advance(len(result.outcomes))
    return outcomes, spent


def _start(
    input_dir: Path, staged: DeidPaths, profile: DeidProfile, key: SecretKey, identifiers: Identifiers
) -> None:
    global _worker
    engine = Engine(profile, key, Finder(identifiers))
    _worker = _Worker(input_dir, staged.dicom, staged.quarantine, profile, key, engine)


def _task(task: list[Planned]) -> _Done:
    assert _worker is not None
    done = _Done()
    with dicomfile.silence():
        for planned in task:
            outcome = Outcome(planned)
            fates = b"" if planned.disposition == REJECTED else _carry_out(_worker, outcome, done.spent)
            done.outcomes.append(outcome)
            done.lines.append(audit_line(outcome, fates))
    done.spent.page.texts, _worker.engine.kept_texts = _worker.engine.kept_texts, set()
    return done


def _carry_out(worker: _Worker, outcome: Outcome, spent: Spent) -> bytes:
    """Read one file and release or hold it; return the fates of its elements."""
    planned = outcome.planned
    try:
        content = (worker.input_dir / planned.facts.path).read_bytes()
    except OSError:
        planned.disposition, planned.reasons = REJECTED, ("unreadable_file",)
        planned.file_digest = dispositions.file_digest(worker.key, f"path {planned.facts.path}")
        return b""
    if planned.facts.sha256 is None:
        planned.facts.sha256 = hashlib.sha256(content).hexdigest()
        planned.file_digest = dispositions.file_digest(worker.key, planned.facts.sha256)
    fates = b""
    if planned.disposition == RELEASED:
        try:
            fates = _release(worker, content, outcome, spent)
        except Exception as error:
            # A full or broken disk, which has a number, is no fault of this file; all else is.
            is_of_the_disk = isinstance(error, OSError) and error.errno is not None
            if is_of_the_disk or os.environ.get("CT_ASSETS_DEBUG"):
                raise
            planned.disposition, planned.reasons = QUARANTINED, ("not_processable",)
            if outcome.path:
                (worker.output_dir / outcome.path).unlink(missing_ok=True)
                outcome.path = ""
    if planned.disposition == QUARANTINED:
        _hold(worker, planned, content)
    return fates


def _release(worker: _Worker, content: bytes, outcome: Outcome, spent: Spent) -> bytes:
    """De-identify one file and write it into the staging folder, unless its pixels keep it back."""
    planned = outcome.planned
    source = dicomfile.read(content)
    outcome.pixels_before = _pixel_digest(source, worker.key)
    stripped, unclean = _strip(source)
    if bulk.is_damaged(dicomfile.elements(source.dataset)):
        unclean = (*unclean, bulk.DAMAGED_CODE)
    is_redacted = _judge(worker, source, outcome, spent, unclean)
    if planned.disposition != RELEASED:
        return b""
    if is_redacted:
        source = dicomfile.of_changed(source)
    person = Person(planned.patient, planned.shift_days)
    stated = method.elements(
        worker.profile,
        source,
        is_redacted=is_redacted,
        has_no_text=outcome.verdict in ("clean", "redacted"),
        may_show_a_face="recognizable_face" in outcome.warnings,
        mark=new_uid(worker.key, planned.facts.sop_instance) if worker.profile.retain_uids else "",
    )
    outcome.removed_from_pixels = stripped.removed
    done = worker.engine.deidentify(
        source, planned.facts.sop_class, person, stated, pixel_action=stripped.action
    )
    if done.empties_bulk_data:
        planned.disposition, planned.reasons = QUARANTINED, (bulk.DAMAGED_CODE,)
        return b""
    spent.page.merge(PageFacts({planned.patient: _cell(worker, source, planned)}))
    spent.page.faces += "recognizable_face" in outcome.warnings
    is_changed = is_redacted or bool(stripped.removed)
    outcome.pixels_after = _pixel_digest(source, worker.key) if is_changed else outcome.pixels_before
    if stripped.decoded_digest:
        outcome.decoded_digest = worker.key.digest("decoded pixels", stripped.decoded_digest).hex()
    outcome.path = f"{planned.patient}/{planned.study}/{planned.series}/{planned.instance}.dcm"
    chunks = dicomfile.file_bytes(
        done.chunks, planned.facts.sop_class, planned.instance, source.transfer_syntax
    )
    outcome.released_blake3 = _write_file(worker, worker.output_dir / outcome.path, chunks)
    return b",".join(done.fates)


def _write_file(worker: _Worker, path: Path, chunks: Iterator[bytes]) -> str:
    """Write a file and return the BLAKE3 digest of its bytes."""
    if path.parent not in worker.folders:
        path.parent.mkdir(parents=True, exist_ok=True)
        worker.folders.add(path.parent)
    digest = blake3()
    with path.open("wb", buffering=0) as opened:
        for chunk in chunks:
            written = opened.write(chunk)
            while written < len(chunk):  # a raw write may stop short
                written += opened.write(chunk[written:])
            digest.update(chunk)
    return digest.hexdigest()


def _cell(worker: _Worker, source: dicomfile.Source, planned: Planned) -> Cell:
    """Return age, sex, site and study year of a patient as they are released."""
    age, sex, date = (dicomfile.text_of(source.dataset, tag) for tag in (_AGE, _SEX, _STUDY_DATE))
    told = (age, sex, date, planned.facts.issuer, str(planned.shift_days))
    known = worker.cells.get(told)
    if known is not None:
        return known
    keeps = worker.profile.retain_patient_characteristics
    site = worker.key.digest("site", normalise_patient_id(planned.facts.issuer)).hex()[:4]
    year = "" if worker.profile.retain_longitudinal == "no" else date
    cell = worker.cells[told] = (
        (values.capped_age(age, worker.profile.max_age_years) or "") if keeps else "",
        sex if keeps and sex in ("M", "F", "O") else "",
        f"site {site}" if planned.facts.issuer else "",
        (values.shifted_date(year, planned.shift_days) or "")[:4],
    )
    return cell


def _strip(source: dicomfile.Source) -> tuple["Stripped", tuple[str, ...]]:
    """Take out of the pixel data what is no picture; return what went, or why that cannot be done."""
    from ct_assets.deid.pixels import streams

    try:
        is_little = source.is_little_endian
        return streams.strip(source.dataset, source.transfer_syntax, is_little_endian=is_little), ()
    except streams.UncleanablePixelsError as error:
        return streams.Stripped(), (error.code,)


def _judge(
    worker: _Worker, source: dicomfile.Source, outcome: Outcome, spent: Spent, unclean: tuple[str, ...]
) -> bool:
    """Take the verdict over the pixels, for which `unclean` counts too; return whether regions were blanked."""
    from ct_assets.deid.pixels import burned_in, redact

    wall, cpu = time.perf_counter(), time.process_time()
    if "unused_bits" in unclean or not unclean:
        verdict = burned_in.judge(source.dataset, worker.profile.burned_in)
    else:  # what is not built as it should be is not handed to a decoder, which may end its process
        verdict = burned_in.BurnedInVerdict("unreadable")
    outcome.verdict = verdict.verdict
    outcome.warnings = (*outcome.planned.warnings, *verdict.warnings)
    reasons = (*verdict.reasons, *unclean)
    is_held = not outcome.planned.set_aside.issuperset(reasons)
    if outcome.planned.set_aside and not is_held:
        outcome.warnings = (*outcome.warnings, review.RELEASED_CODE)
    if is_held:
        outcome.planned.disposition, outcome.planned.reasons = QUARANTINED, reasons
    elif verdict.regions:
        redact.apply(source.dataset, verdict.regions)
    spent.wall_s += time.perf_counter() - wall
    spent.cpu_s += time.process_time() - cpu
    spent.items += 1
    return not is_held and bool(verdict.regions)


def _pixel_digest(source: dicomfile.Source, key: SecretKey) -> str | None:
    own = dicomfile.elements(source.dataset)
    for tag in sorted(dicomfile.PIXEL_TAGS):
        if tag in own:
            value = own[tag].value
            return pixel_digest_of(value if isinstance(value, bytes) else b"", key)
    return None


def _hold(worker: _Worker, planned: Planned, content: bytes) -> None:
    target = worker.quarantine / f"{planned.facts.sha256}.dcm"
    target.write_bytes(content)
    target.chmod(RESTRICTED_FILE_MODE)
