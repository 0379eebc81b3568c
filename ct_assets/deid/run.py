"""De-identifying one batch: two passes over its files, the proof, and the release of everything at once.

Belongs here: the order of the work and what is written. Does not: any decision about an element (`engine`),
a file (`dispositions`) or its pixels (`burned_in`).

Memory follows the tables of the batch (about 10 kB a file) and the files under way, never the pixels
of more than a few instances.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import polars as pl
from blake3 import blake3

from ct_assets import files, parallel, progress, tables
from ct_assets.deid import (
    clinic,
    dicomfile,
    dispositions,
    listing,
    method,
    page,
    review,
    table,
    uid_graph,
    values,
    withdrawn,
)
from ct_assets.deid.dispositions import QUARANTINED, REJECTED, RELEASED, Planned
from ct_assets.deid.engine import Engine, Person
from ct_assets.deid.gather import FileFacts, Gathered, facts_of, joined
from ct_assets.deid.identifiers import Finder, Identifiers
from ct_assets.deid.key import SecretKey, check_record, hold_to_record
from ct_assets.deid.leak_scan import Hit, LeakScanner, Searched, pixel_digest_of, scan_files
from ct_assets.deid.page import PageFacts
from ct_assets.deid.pseudonyms import normalise_patient_id, pseudonym
from ct_assets.deid.staging import Staging
from ct_assets.deid.withdrawn import Withdrawn
from ct_assets.errors import SafetyError, UsageError
from ct_assets.layout import DeidPaths
from ct_assets.settings.deid import DeidProfile
from ct_assets.tables.deid import Files, PatientMap, UidMap

FILES_A_TASK = 24
INSTANCES_A_TASK = 8
NOBODY = Withdrawn()
RESTRICTED_FILE_MODE = 0o600
KEY_RECORD = "key_record.json"
PRELOAD = ("ct_assets.deid.run",)

Identifier = tuple[str, str, str, str]
"""Kind (`name`, `id`, `birth_date`), value, raw patient ID, issuer."""


@dataclass(frozen=True)
class DeidSummary:
    """What became of a batch."""

    released: int
    quarantined: int
    rejected: int
    reasons: dict[str, int]
    """Files by reason code."""
    patients: int
    burned_in: dict[str, int]
    """Instances by burned-in verdict."""
    dangling_references: int
    tokens_searched: int
    leaks: int = 0


@dataclass
class Outcome:
    """What the second pass did with one file."""

    planned: Planned
    path: str = ""
    """Below the released folder; empty where nothing was released."""
    verdict: str = ""
    warnings: tuple[str, ...] = ()
    pixels_before: str | None = None
    pixels_after: str | None = None
    fates: bytes = b""
    released_blake3: str | None = None
    """BLAKE3 of the released file's bytes: what `verify` holds the store against."""


@dataclass
class TaskResult:
    """What one task of the second pass did, and how long its burned-in part took."""

    outcomes: list[Outcome] = field(default_factory=list)
    burned_in_wall_s: float = 0.0
    burned_in_cpu_s: float = 0.0
    burned_in_items: int = 0
    page: PageFacts = field(default_factory=PageFacts)


def deidentify(
    input_dir: Path,
    paths: DeidPaths,
    profile: DeidProfile,
    key: SecretKey,
    *,
    extra_identifiers: Sequence[Identifier] = (),
    labels_csv: Path | None = None,
    refused: Withdrawn = NOBODY,
    workers: int,
    timings: progress.Timings | None = None,
) -> DeidSummary:
    """De-identify every file below `input_dir` and release the result into `paths`.

    Nothing but the files, the profile, the key, the given identifiers and who has withdrawn (`refused`)
    decides. Raises `UsageError` for an
    input that is no folder, and `SafetyError` when the leak scan finds anything: then nothing is released and
    `leak_scan.json` beside the audit says where.
    """
    _check_folders(input_dir, paths)
    check_record(paths.uid_dir / KEY_RECORD, key)
    timings = timings or progress.Timings()
    staging = Staging.beside(paths)
    try:
        with timings.step("inventory") as step:
            facts, gathered = _gather(input_dir, refused, workers)
            if not facts:
                raise UsageError(f"{input_dir}: holds no file")
            step.items = len(facts)
        extra = {*extra_identifiers, *(clinic.values_of(labels_csv) if labels_csv else ())}
        identifiers = _identifiers(gathered.values | extra, key)
        planned = dispositions.plan(facts, profile, key)
        review.apply(planned, review.decisions(paths))
        uid_map = uid_graph.build(gathered.uids, profile, key)
        with timings.step("deidentify") as step:
            outcomes, spent = _second_pass(
                input_dir, staging.staged, planned, profile, key, identifiers, workers
            )
            step.items = sum(one.planned.disposition == RELEASED for one in outcomes)
        _book_burned_in(timings, spent)
        _write_tables(staging.staged, outcomes, uid_map)
        summary = _summary(outcomes, uid_map, len(identifiers.searched_everywhere))
        page.write(staging.staged.report, spent.page, summary, uid_map, profile)
        old_uids = [] if profile.retain_uids else uid_map["old_uid"].to_list()
        with timings.step("leak_scan") as step:
            hits = _scan(staging.staged, outcomes, identifiers, old_uids, key, workers)
            step.items = summary.released
        _report_scan(paths, hits, summary)
        if hits:
            raise SafetyError(
                f"the leak scan found {len(hits)} places in {len({hit.where for hit in hits})} objects; nothing "
                f"was released. {_scan_report(paths)} names element and object of each. Add a site rule for the "
                "element, or report it: the profile should have caught it."
            )
        hold_to_record(staging.staged.uid_dir / KEY_RECORD, key)
        staging.release()
    except BaseException:
        staging.clear()
        raise
    return summary


def say_summary(summary: DeidSummary) -> None:
    """Tell a person what became of the batch."""
    progress.say(
        f"released {summary.released}, quarantined {summary.quarantined}, rejected {summary.rejected}; "
        f"{summary.patients} patients; leak scan: {summary.tokens_searched} identifiers, nothing found"
    )
    for code, count in summary.reasons.items():
        progress.say(f"  {code}: {count}")


def _check_folders(input_dir: Path, paths: DeidPaths) -> None:
    if not input_dir.is_dir():
        raise UsageError(f"{input_dir}: no such folder; name the folder that holds the DICOM files")
    source = input_dir.resolve()
    for target in (paths.dicom, paths.quarantine, paths.uid_dir, paths.audit.parent):
        resolved = target.resolve()
        if resolved.is_relative_to(source) or source.is_relative_to(resolved):
            raise UsageError(f"{target}: input and output may not lie in each other; name another output")


# First pass


def _gather(input_dir: Path, refused: Withdrawn, workers: int) -> tuple[list[FileFacts], Gathered]:
    found, no_files = listing.walk(input_dir)
    everything = Gathered()
    facts: list[FileFacts] = [FileFacts(path, None, code) for path, code in no_files]
    tasks = [
        (input_dir, found[start : start + FILES_A_TASK], refused)
        for start in range(0, len(found), FILES_A_TASK)
    ]
    with progress.track("reading", len(found)) as advance:
        for part in parallel.map_ordered(_gather_task, tasks, workers=workers, preload=PRELOAD):
            facts += part.files
            everything.values |= part.values
            for uid, seen in part.uids.items():
                known = everything.uids.get(uid)
                everything.uids[uid] = seen if known is None else joined(known, seen)
            advance(len(part.files))
    return facts, everything


def _gather_task(task: tuple[Path, list[str], Withdrawn]) -> Gathered:
    root, relatives, refused = task
    part = Gathered()
    for relative in relatives:
        try:
            content = (root / relative).read_bytes()
        except OSError:
            part.files.append(FileFacts(relative, None, "unreadable_file"))
            continue
        with dicomfile.silence():
            if refused.holds_content(content):
                _take_refused(relative, content, part)
            else:
                facts_of(relative, content, part)
    return part


def _take_refused(relative: str, content: bytes, into: Gathered) -> None:
    """Note a file of somebody who has withdrawn.

    Its identifiers are kept in mind, so that they are cut out wherever others mention them; its names and
    UIDs are not, since neither crosswalk nor audit holds anything of theirs.
    """
    alone = Gathered()
    facts_of(relative, content, alone)
    into.values |= alone.values
    into.files.append(FileFacts(relative, alone.files[0].sha256, withdrawn.CODE))


def _identifiers(found: Iterable[Identifier], key: SecretKey) -> Identifiers:
    identifiers = Identifiers()
    for kind, value, patient_id, issuer in sorted(found):
        identifiers.add(kind, value, pseudonym(key, patient_id, issuer) if patient_id else "")
    return identifiers


# Second pass


@dataclass
class _Worker:
    """What a worker process keeps between tasks."""

    input_dir: Path
    output_dir: Path
    quarantine: Path
    profile: DeidProfile
    key: SecretKey
    engine: Engine


_worker: _Worker | None = None


def _start_worker(
    input_dir: Path, staged: DeidPaths, profile: DeidProfile, key: SecretKey, identifiers: Identifiers
) -> None:
    global _worker
    engine = Engine(profile, key, Finder(identifiers))
    _worker = _Worker(input_dir, staged.dicom, staged.quarantine, profile, key, engine)


def _second_pass(
    input_dir: Path,
    staged: DeidPaths,
    planned: list[Planned],
    profile: DeidProfile,
    key: SecretKey,
    identifiers: Identifiers,
    workers: int,
) -> tuple[list[Outcome], TaskResult]:
    outcomes: list[Outcome] = []
    spent = TaskResult()
    tasks = [planned[start : start + INSTANCES_A_TASK] for start in range(0, len(planned), INSTANCES_A_TASK)]
    results = parallel.map_ordered(
        _second_task,
        tasks,
        workers=workers,
        preload=PRELOAD,
        initializer=_start_worker,
        initargs=(input_dir, staged, profile, key, identifiers),
    )
    with progress.track("de-identifying", len(planned)) as advance, staged.audit.open("wb") as audit:
        for result in results:
            for outcome in result.outcomes:
                audit.write(_audit_line(outcome))
                outcome.fates = b""
            outcomes += result.outcomes
            spent.burned_in_wall_s += result.burned_in_wall_s
            spent.burned_in_cpu_s += result.burned_in_cpu_s
            spent.burned_in_items += result.burned_in_items
            spent.page.merge(result.page)
            advance(len(result.outcomes))
    return outcomes, spent


def _second_task(task: list[Planned]) -> TaskResult:
    assert _worker is not None
    result = TaskResult()
    for planned in task:
        outcome = Outcome(planned)
        if planned.disposition == RELEASED:
            try:
                with dicomfile.silence():
                    _release(_worker, outcome, result)
            except Exception:
                if os.environ.get("CT_ASSETS_DEBUG"):
                    raise
                planned.disposition, planned.reasons = QUARANTINED, ("not_processable",)
                outcome.path, outcome.fates = "", b""
        if planned.disposition == QUARANTINED:
            _hold(_worker, planned)
        result.outcomes.append(outcome)
    result.page.texts, _worker.engine.kept_texts = _worker.engine.kept_texts, set()
    return result


def _release(worker: _Worker, outcome: Outcome, result: TaskResult) -> None:
    """De-identify one file and write it into the staging folder, unless its pixels keep it back."""
    planned = outcome.planned
    content = (worker.input_dir / planned.facts.path).read_bytes()
    source = dicomfile.read(content)
    outcome.pixels_before = _pixel_digest(source, worker.key)
    is_redacted = _judge(worker, source, outcome, result)
    if outcome.planned.disposition != RELEASED:
        return
    if is_redacted:
        source = dicomfile.of_changed(source)
    person = Person(planned.patient, planned.shift_days)
    stated = method.elements(
        worker.profile,
        source,
        is_redacted=is_redacted,
        has_no_text=outcome.verdict in ("clean", "redacted"),
        may_show_a_face="recognizable_face" in outcome.warnings,
    )
    done = worker.engine.deidentify(source, planned.facts.sop_class, person, stated)
    _collect_cell(worker, source, planned, result.page)
    result.page.faces += "recognizable_face" in outcome.warnings
    outcome.pixels_after = _pixel_digest(source, worker.key) if is_redacted else outcome.pixels_before
    outcome.fates = b",".join(done.fates)
    outcome.path = f"{planned.patient}/{planned.study}/{planned.series}/{planned.instance}.dcm"
    target = worker.output_dir / outcome.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = blake3()
    with target.open("wb") as opened:
        for chunk in dicomfile.file_bytes(
            done.chunks, planned.facts.sop_class, planned.instance, source.transfer_syntax
        ):
            opened.write(chunk)
            digest.update(chunk)
    outcome.released_blake3 = digest.hexdigest()


def _collect_cell(worker: _Worker, source: dicomfile.Source, planned: Planned, facts: PageFacts) -> None:
    """Note age, sex, site and study year of a patient as they are released."""
    age, sex, study_date = (
        dicomfile.text_of(source.dataset, tag) for tag in (0x00101010, 0x00100040, 0x00080020)
    )
    keeps = worker.profile.retain_patient_characteristics
    site = worker.key.digest("site", normalise_patient_id(planned.facts.issuer)).hex()[:4]
    year = "" if worker.profile.retain_longitudinal == "no" else study_date
    cell = (
        (values.capped_age(age, worker.profile.max_age_years) or "") if keeps else "",
        sex if keeps and sex in ("M", "F", "O") else "",
        f"site {site}" if planned.facts.issuer else "",
        (values.shifted_date(year, planned.shift_days) or "")[:4],
    )
    known = PageFacts({planned.patient: cell})
    facts.merge(known)


def _judge(worker: _Worker, source: dicomfile.Source, outcome: Outcome, result: TaskResult) -> bool:
    """Take the verdict over the pixels; return whether regions were blanked."""
    from ct_assets.deid import burned_in, redact

    wall, cpu = time.perf_counter(), time.process_time()
    verdict = burned_in.judge(source.dataset, worker.profile.burned_in)
    outcome.verdict, outcome.warnings = verdict.verdict, verdict.warnings
    is_held = not outcome.planned.set_aside.issuperset(verdict.reasons)
    if outcome.planned.set_aside and not is_held:
        outcome.warnings = (*outcome.warnings, review.RELEASED_CODE)
    if is_held:
        outcome.planned.disposition, outcome.planned.reasons = QUARANTINED, verdict.reasons
    elif verdict.regions:
        redact.apply(source.dataset, verdict.regions)
    result.burned_in_wall_s += time.perf_counter() - wall
    result.burned_in_cpu_s += time.process_time() - cpu
    result.burned_in_items += 1
    return not is_held and bool(verdict.regions)


def _pixel_digest(source: dicomfile.Source, key: SecretKey) -> str | None:
    own = dicomfile.elements(source.dataset)
    for tag in sorted(dicomfile.PIXEL_TAGS):
        if tag in own:
            value = own[tag].value
            return pixel_digest_of(value if isinstance(value, bytes) else b"", key)
    return None


def _hold(worker: _Worker, planned: Planned) -> None:
    target = worker.quarantine / f"{planned.facts.sha256}.dcm"
    shutil.copyfile(worker.input_dir / planned.facts.path, target)
    target.chmod(RESTRICTED_FILE_MODE)


# What is written


def _audit_line(outcome: Outcome) -> bytes:
    """Return the audit line of one file: new names, decision and the fate of every element; no original."""
    planned = outcome.planned
    head = orjson.dumps(
        {
            "file": planned.file_digest,
            "disposition": planned.disposition,
            "reasons": list(planned.reasons),
            "new_patient_id": planned.patient or None,
            "new_study_instance_uid": planned.study or None,
            "new_series_instance_uid": planned.series or None,
            "new_sop_instance_uid": planned.instance or None,
            "burned_in": outcome.verdict or None,
            "warnings": list(outcome.warnings),
            "pixel_digest_before": outcome.pixels_before,
            "pixel_digest_after": outcome.pixels_after,
            "released_blake3": outcome.released_blake3,
            "table": f"PS3.15 {table.load().edition}",
        }
    )
    return head[:-1] + b',"elements":[' + outcome.fates + b"]}\n"


def _write_tables(staged: DeidPaths, outcomes: list[Outcome], uid_map: pl.DataFrame) -> None:
    rows = [
        {
            "path": listing.written(one.planned.facts.path),
            "sha256": one.planned.facts.sha256,
            "disposition": one.planned.disposition,
            "reasons": list(one.planned.reasons),
            "new_sop_instance_uid": one.planned.instance if one.planned.disposition == RELEASED else None,
        }
        for one in outcomes
    ]
    mode = RESTRICTED_FILE_MODE
    tables.write_table(staged.files, tables.frame(rows, Files).sort("path"), Files, mode=mode)
    tables.write_table(staged.uid_map, uid_map, UidMap, mode=mode)
    people = {
        (one.planned.facts.patient_id, one.planned.facts.issuer): (
            one.planned.patient,
            one.planned.shift_days,
        )
        for one in outcomes
        if one.planned.patient
    }
    crosswalk = [
        {"old_patient_id": old, "issuer": issuer, "new_patient_id": new, "shift_days": days}
        for (old, issuer), (new, days) in sorted(people.items())
    ]
    tables.write_table(staged.patient_map, tables.frame(crosswalk, PatientMap), PatientMap, mode=mode)
    held = sorted(
        (one for one in outcomes if one.planned.disposition == QUARANTINED), key=lambda one: one.planned.order
    )
    files.write_jsonl(
        staged.quarantine / "quarantine.jsonl",
        [
            {
                "file": f"{one.planned.facts.sha256}.dcm",
                "sha256": one.planned.facts.sha256,
                "reasons": list(one.planned.reasons),
                "burned_in": one.verdict or None,
                "new_patient_id": one.planned.patient or None,
                "new_sop_instance_uid": one.planned.instance or None,
            }
            for one in held
        ],
        mode=mode,
    )


def _summary(outcomes: list[Outcome], uid_map: pl.DataFrame, tokens: int) -> DeidSummary:
    by = Counter(one.planned.disposition for one in outcomes)
    reasons = Counter(code for one in outcomes for code in one.planned.reasons)
    return DeidSummary(
        released=by[RELEASED],
        quarantined=by[QUARANTINED],
        rejected=by[REJECTED],
        reasons=dict(sorted(reasons.items())),
        patients=len({one.planned.patient for one in outcomes if one.planned.disposition == RELEASED}),
        burned_in=dict(sorted(Counter(one.verdict for one in outcomes if one.verdict).items())),
        dangling_references=uid_graph.dangling(uid_map).height,
        tokens_searched=tokens,
    )


# The proof

_scanner: LeakScanner | None = None


def _start_scanner(searched: Searched, key: SecretKey) -> None:
    global _scanner
    _scanner = LeakScanner(searched, key)


def _scan(
    staged: DeidPaths,
    outcomes: list[Outcome],
    identifiers: Identifiers,
    old_uids: list[str],
    key: SecretKey,
    workers: int,
) -> list[Hit]:
    searched = Searched(
        identifiers.searched_everywhere,
        frozenset(old_uids),
        {k: frozenset(v) for k, v in identifiers.births.items()},
    )
    released = [(one.path, one.pixels_after) for one in outcomes if one.path]
    tasks = [
        (staged.dicom, released[start : start + FILES_A_TASK])
        for start in range(0, len(released), FILES_A_TASK)
    ]
    hits: list[Hit] = []
    with progress.track("leak scan", len(released)) as advance:
        for task, found in zip(
            tasks,
            parallel.map_ordered(
                _scan_task,
                tasks,
                workers=workers,
                preload=PRELOAD,
                initializer=_start_scanner,
                initargs=(searched, key),
            ),
            strict=True,
        ):
            hits += found
            advance(len(task[1]))
    scanner = LeakScanner(searched, key)
    for search, public in ((scanner.audit, staged.audit), (scanner.text, staged.report)):
        for block in _blocks(public):
            hits += search(block, public.name.removeprefix(".partial-"))
    return hits


def _scan_task(task: tuple[Path, list[tuple[str, str | None]]]) -> list[Hit]:
    assert _scanner is not None
    root, released = task
    return list(scan_files(_scanner, root, released))


def _blocks(path: Path, size: int = 1 << 22) -> Iterator[bytes]:
    """Yield a text file in blocks of whole lines."""
    if not path.exists():
        return
    with path.open("rb") as opened:
        while lines := opened.readlines(size):
            yield b"".join(lines)


def _scan_report(paths: DeidPaths) -> Path:
    return paths.audit.with_name("leak_scan.json")


def _report_scan(paths: DeidPaths, hits: list[Hit], summary: DeidSummary) -> None:
    files.write_json(
        _scan_report(paths),
        {
            "objects": summary.released,
            "identifiers": summary.tokens_searched,
            "hits": [
                {"object": hit.where, "element": hit.element, "kind": hit.kind, "digest": hit.digest}
                for hit in hits
            ],
        },
    )


def _book_burned_in(timings: progress.Timings, spent: TaskResult) -> None:
    """Part the burned-in share from the step it ran in."""
    step = timings.steps[-1]
    cpu = float(str(step["cpu_s"])) - spent.burned_in_cpu_s
    step["cpu_s"] = round(max(cpu, 0.0), 4)
    timings.steps.append(
        {
            "step": "burned_in",
            "wall_s": round(spent.burned_in_wall_s, 4),
            "cpu_s": round(spent.burned_in_cpu_s, 4),
            "items": spent.burned_in_items,
        }
    )
