"""De-identifying one batch: two passes over its files, the proof, and the release of everything at once.

Belongs here: the order of the work, and the tables that are written. Does not: the passes themselves
(`first_pass`, `second_pass`, `proof`), any decision about an element (`engine`), a file (`dispositions`) or its
pixels (`burned_in`).

Memory follows the tables of the batch (a few kB a file) and the files under way, never the pixels of more
than a few instances.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ct_assets import files, parallel, progress, tables
from ct_assets.deid.batch import (
    dispositions,
    first_pass,
    known,
    listing,
    page,
    review,
    second_pass,
    uid_graph,
)
from ct_assets.deid.batch.dispositions import QUARANTINED, REJECTED, RELEASED
from ct_assets.deid.batch.outcomes import Outcome
from ct_assets.deid.batch.second_pass import RESTRICTED_FILE_MODE, Spent
from ct_assets.deid.batch.staging import Staging
from ct_assets.deid.elements import clinic, method
from ct_assets.deid.proof import batch as proof
from ct_assets.deid.proof import containment
from ct_assets.deid.proof.leak_scan import Hit
from ct_assets.errors import SafetyError, UsageError
from ct_assets.identity.key import SecretKey, check_record, hold_to_record
from ct_assets.identity.withdrawn import Withdrawn
from ct_assets.layout import DeidPaths
from ct_assets.settings.deid import DeidProfile
from ct_assets.tables.deid import Files, PatientMap, UidMap

NOBODY = Withdrawn()
KEY_RECORD = "key_record.json"
PRELOAD = (
    "ct_assets.deid.batch.run",
    "ct_assets.deid.pixels.burned_in",
    "ct_assets.deid.pixels.glyphs",
    "ct_assets.deid.pixels.redact",
    "ct_assets.deid.pixels.streams",
)
"""What every worker needs: imported once, by the fork server."""


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


def deidentify(
    input_dir: Path,
    paths: DeidPaths,
    profile: DeidProfile,
    key: SecretKey,
    *,
    extra_identifiers: Sequence[known.Value] = (),
    labels_csv: Path | None = None,
    refused: Withdrawn = NOBODY,
    workers: int,
    timings: progress.Timings | None = None,
) -> DeidSummary:
    """De-identify every file below `input_dir` and release the result into `paths`.

    Nothing but the files, the profile, the key, the given identifiers and who has withdrawn (`refused`)
    decides. Raises `UsageError` for an input that is no folder, and `SafetyError` when the leak scan finds
    anything: then nothing is released and `leak_scan.json` beside the audit says where.
    """
    _check_folders(input_dir, paths)
    check_record(paths.uid_dir / KEY_RECORD, key)
    timings = timings or progress.Timings()
    parallel.warm(workers, PRELOAD)
    decided = review.decisions(paths)
    staging = Staging.beside(paths)
    try:
        with timings.step("inventory") as step:
            facts, gathered = first_pass.gather(
                input_dir, refused, with_digests=bool(decided), workers=workers, preload=PRELOAD
            )
            if not facts:
                raise UsageError(f"{input_dir}: holds no file")
            step.items = len(facts)
        extra = {*extra_identifiers, *(clinic.values_of(labels_csv) if labels_csv else ())}
        planned = dispositions.plan(facts, profile, key)
        identifiers = known.of_batch(gathered.values | extra, planned)
        review.verify_texts(paths, identifiers)
        review.apply(planned, decided)
        uid_map = uid_graph.build(gathered.uids, profile, key)
        with timings.step("deidentify") as step:
            outcomes, spent = second_pass.run(
                input_dir,
                staging.staged,
                planned,
                profile,
                key,
                identifiers,
                workers=workers,
                preload=PRELOAD,
            )
            step.items = sum(one.planned.disposition == RELEASED for one in outcomes)
        _book_burned_in(timings, spent)
        old_uids = [] if profile.retain_uids else uid_map["old_uid"].to_list()
        with timings.step("leak_scan") as step:
            summary = _summary(outcomes, uid_map, len(identifiers.searched()))
            empty_page = page.render(page.PageFacts(), summary, uid_map, profile, paths.report.stem)
            own_text = f"{method.own_text()} {empty_page}"
            search = proof.Proof.of(identifiers, old_uids, own_text, key, workers=workers, preload=PRELOAD)
            step.items = summary.released
            hits = search.objects(staging.staged, outcomes)
            held = hits if hits and containment.is_containable(hits, summary.released) else []
            told = containment.described(hits, staging.staged.audit)
            if held:
                containment.hold(held, outcomes, staging.staged, input_dir)
                hits = []
                summary = _summary(outcomes, uid_map, summary.tokens_searched)
            _write_tables(staging.staged, outcomes, uid_map)
            stays = search.without_identifiers(part for _, part in spent.page.texts)
            spent.page.texts = {(keyword, part) for keyword, part in spent.page.texts if part in stays}
            page.write(staging.staged.report, spent.page, summary, uid_map, profile, paths.report.stem)
            of_texts = search.texts(staging.staged)
            hits, told = hits + of_texts, told + containment.described(of_texts, staging.staged.audit)
        _report_scan(paths, told, summary)
        if hits:
            raise SafetyError(_leak_message(hits, told, _scan_report(paths)))
        if held:
            progress.say(
                f"leak scan: {len({hit.where for hit in held})} objects are held ({containment.CODE}); "
                f"{_scan_report(paths)} names element and rule of each"
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


# What is written


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
    reasons = Counter(
        code
        for one in outcomes
        for code in (
            *one.planned.reasons,
            *(one.planned.warnings if one.planned.disposition == RELEASED else ()),
        )
    )
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


def _scan_report(paths: DeidPaths) -> Path:
    return paths.audit.with_name("leak_scan.json")


def _report_scan(paths: DeidPaths, told: list[dict[str, str]], summary: DeidSummary) -> None:
    files.write_json(
        _scan_report(paths),
        {"objects": summary.released, "identifiers": summary.tokens_searched, "hits": told},
    )


def _leak_message(hits: Sequence[Hit], told: Sequence[dict[str, str]], report: Path) -> str:
    places = Counter((one["path"] or one["object"], one["rule"]) for one in told)
    shown = "; ".join(f"{path} ({rule or 'no rule'})" for (path, rule), _ in places.most_common(3))
    return (
        f"the leak scan found {len(hits)} places in {len({hit.where for hit in hits})} objects; nothing was released. "
        f"Most often: {shown}. {report} names object, element and rule of each. Add a site rule for the element, or "
        "report it: the profile should have caught it."
    )


def _book_burned_in(timings: progress.Timings, spent: Spent) -> None:
    """Part the burned-in share from the step it ran in."""
    step = timings.steps[-1]
    cpu = float(str(step["cpu_s"])) - spent.cpu_s
    step["cpu_s"] = round(max(cpu, 0.0), 4)
    timings.steps.append(
        {
            "step": "burned_in",
            "wall_s": round(spent.wall_s, 4),
            "cpu_s": round(spent.cpu_s, 4),
            "items": spent.items,
        }
    )
