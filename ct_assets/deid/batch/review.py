"""A person's look at quarantined objects, and the decision to release or reject one.

Belongs here: finding what is held, putting it where only its owner can look, the decisions as audit lines
(who, when, why), and what a decision does to a file of the batch. Does not: releasing anything itself. The
batch is made again with the decisions as an input, so that what a person releases runs through the same
engine and the same leak scan as everything else.
"""

import getpass
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from ct_assets import files
from ct_assets.deid.batch import dispositions
from ct_assets.deid.batch.dispositions import Planned, file_digest
from ct_assets.deid.elements.identifiers import Identifiers
from ct_assets.deid.proof import typed_text
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.layout import RESTRICTED_MODE, DeidPaths
from ct_assets.reasons import reason
from ct_assets.settings import Settings

QUARANTINE_LIST = "quarantine.jsonl"
LOOKED_AT = "looked_at"
"""Folder in the quarantine for pictures; gone with the decision and whenever the batch is made again."""
FRAMES_SHOWN = 12
LEAST_ID = 6
RESTRICTED_FILE_MODE = 0o600

RELEASABLE = frozenset(
    {"burned_in_text", "burned_in_declared", "dose_report_image", "structured_report", "unknown_sop_class"}
)
"""Codes that a person can set aside after looking. What nobody can look at, and what has no identity or two
contents, cannot be released by saying so."""
RELEASED_CODE, REJECTED_CODE = "released_by_review", "rejected_by_review"

Verdict = Literal["release", "reject"]


@dataclass(frozen=True, slots=True)
class Held:
    """One quarantined object."""

    paths: DeidPaths
    batch: str
    """Name of the batch, empty for a plain output folder."""
    sha256: str
    reasons: tuple[str, ...]
    burned_in: str

    @property
    def identifier(self) -> str:
        """The short name people use in commands."""
        return self.sha256[:12]

    @property
    def original(self) -> Path:
        """The untouched original."""
        return self.paths.quarantine / f"{self.sha256}.dcm"

    @property
    def pictures(self) -> Path:
        """Where its pictures are put to be looked at."""
        return self.paths.quarantine / LOOKED_AT / self.identifier


@dataclass(frozen=True, slots=True)
class Decision:
    """One audit line: what a person decided about one file, and which reasons that sets aside."""

    file: str
    """Keyed digest of the file, as in `deid_audit.jsonl`."""
    verdict: Verdict
    reasons: tuple[str, ...]
    who: str
    why: str
    decided_at: str


# As the commands call it


def places(settings: Settings, output: Path | None) -> dict[str, DeidPaths]:
    """Return the paths of one output folder, or of every batch of the platform that has a quarantine."""
    if output is not None:
        paths = DeidPaths.of_command(output)
        if not paths.quarantine.is_dir():
            raise UsageError(f"{output}: no quarantine in it; name the output folder of `ct-assets deid`")
        return {"": paths}
    layout = settings.layout
    folders = layout.deid_paths("any").quarantine.parent
    batches = sorted(path.name for path in folders.iterdir() if path.is_dir()) if folders.is_dir() else []
    return {batch: layout.deid_paths(batch) for batch in batches if not batch.startswith(".")}


def listing(settings: Settings, output: Path | None) -> list[str]:
    """Return what is held, a line an object: name, batch, reasons, decision so far."""
    every = held(places(settings, output))
    if not every:
        return ["nothing is in quarantine"]
    try:
        key = SecretKey.load(settings.deid.key_file)
    except UsageError:
        key = None  # without the key, decisions cannot be matched to files; what is held can be listed
    lines = []
    for one in every:
        decision = decisions(one.paths).get(file_digest(key, one.sha256)) if key else None
        told = f"  {decision.verdict} decided by {decision.who}" if decision else ""
        lines.append("  ".join(filter(None, (one.identifier, one.batch, ", ".join(one.reasons)))) + told)
    return lines


def decide_by_name(
    settings: Settings, output: Path | None, name: str, verdict: Verdict, *, who: str | None, why: str
) -> str:
    """Record a decision on the object of that name and return what comes next."""
    one = find(places(settings, output), name)
    decide(
        one,
        verdict,
        who=who or getpass.getuser(),
        why=why,
        key=SecretKey.load(settings.deid.key_file),
        originals=settings.layout.raw_batch(one.batch) if one.batch else None,
        labels_csv=settings.labels.csv,
    )
    again = "run `ct-assets deid` into the same folder" if output else "`ct-assets run`"
    return f"{one.identifier}: {verdict} recorded in {one.paths.review}; it takes effect with {again}"


# What is held


def held(places: dict[str, DeidPaths]) -> list[Held]:
    """Return everything in quarantine, by batch and content. `places`: paths by batch name."""
    found = []
    for batch, paths in sorted(places.items()):
        listing = paths.quarantine / QUARANTINE_LIST
        for row in files.read_jsonl(listing) if listing.exists() else ():
            found.append(
                Held(paths, batch, row["sha256"], tuple(row["reasons"]), str(row.get("burned_in") or ""))
            )
    return sorted(found, key=lambda one: (one.batch, one.sha256))


def find(places: dict[str, DeidPaths], identifier: str) -> Held:
    """Return the one held object whose digest starts with `identifier`. Raises `UsageError` otherwise."""
    if len(identifier) < LEAST_ID or not re.fullmatch(r"[0-9a-f]+", identifier):
        raise UsageError(
            f"{identifier!r}: give at least {LEAST_ID} digits of the name that `quarantine list` shows"
        )
    found = [one for one in held(places) if one.sha256.startswith(identifier)]
    if not found:
        raise UsageError(
            f"{identifier}: nothing of that name is in quarantine; see `ct-assets quarantine list`"
        )
    if len({one.sha256 for one in found}) > 1:
        raise UsageError(f"{identifier}: {len(found)} objects begin so; give more digits")
    return found[0]


# Looking


def show(one: Held) -> list[str]:
    """Put pictures of a held object into its quarantine and return what can be said of it in public.

    Nothing of its header but kind and size is told: everything else may identify. Text of reports and
    documents goes into a file beside the pictures.
    """
    import pydicom

    lines = [f"{code}: {reason(code).meaning} {reason(code).mend}" for code in one.reasons]
    target = one.pictures
    target.mkdir(parents=True, exist_ok=True)
    for folder in (target.parent, target):
        folder.chmod(RESTRICTED_MODE)
    dataset = pydicom.dcmread(one.original, force=True)
    lines.append(_kind(dataset))
    lines += _pictures(dataset, target)
    files.write_text(target / "header.txt", str(dataset), mode=RESTRICTED_FILE_MODE)
    if "EncapsulatedDocument" in dataset:
        files.write_bytes(target / "document", bytes(dataset.EncapsulatedDocument), mode=RESTRICTED_FILE_MODE)
    lines.append(f"look at: {target} (only you can; it goes with your decision)")
    return lines


def _kind(dataset: Any) -> str:
    from pydicom.uid import UID

    from ct_assets.deid.pixels import frames
    from ct_assets.deid.pixels import risk as pixel_risk

    named = pixel_risk.sop_class_uid(dataset)
    size = f"{frames.number(dataset, 0x00280011)} x {frames.number(dataset, 0x00280010)}"
    count = max(frames.number(dataset, 0x00280008, 1), 1)
    return f"{UID(named).name if named else 'no SOP class'}, {size}, {count} frame{'s' if count > 1 else ''}"


def _pictures(dataset: Any, target: Path) -> list[str]:
    """Write frames as PNG, those with text first, and tell where text stands."""
    import cv2

    from ct_assets.deid.pixels import frames, ocr

    if not frames.has_pixels(dataset):
        return ["no pixels"]
    lines: list[str] = []
    try:
        for number, frame in enumerate(frames.stored_frames(dataset), start=1):
            words = ocr.find_words(frame)
            boxes = ", ".join(f"{w.column},{w.row} {w.width}x{w.height}" for w in words[:FRAMES_SHOWN])
            if words:
                lines.append(
                    f"frame {number}: {len(words)} pieces of text (column,row width x height): {boxes}"
                )
            if number > FRAMES_SHOWN and not words:
                continue
            picture = frames.to_8bit(frame)
            if picture.ndim == 3:
                picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            done, encoded = cv2.imencode(".png", picture)
            if done:
                name = f"frame_{number:04d}.png"
                files.write_bytes(target / name, encoded.tobytes(), mode=RESTRICTED_FILE_MODE)
    except frames.UnreadablePixelsError:
        lines.append("the pixels cannot be decoded")
    return lines


# Deciding


def decide(
    one: Held,
    verdict: Verdict,
    *,
    who: str,
    why: str,
    key: SecretKey,
    originals: Path | None = None,
    labels_csv: Path | None = None,
    now: datetime | None = None,
) -> Decision:
    """Record a person's decision; it takes effect when the batch is made again.

    `originals` is the folder of the batch as it came, where the platform keeps it. Raises `UsageError` where the
    object cannot be released by a decision, where `why` is missing, or where a text repeats an identifier of anybody
    in the batch or in the clinic's table: audit lines hold none.
    """
    why, who = " ".join(why.split()), " ".join(who.split())
    if not why or not who:
        raise UsageError("a decision needs who took it and why: give --who and --why")
    stuck = sorted(set(one.reasons) - RELEASABLE)
    if verdict == "release" and stuck:
        raise UsageError(
            f"{one.identifier}: cannot be released by a decision ({', '.join(stuck)}). {reason(stuck[0]).mend}"
        )
    typed_text.of_batch(one.paths, originals, labels_csv).refuse({"--why": why, "--who": who})
    moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    decision = Decision(file_digest(key, one.sha256), verdict, one.reasons, who, why, moment)
    with FileLock(one.paths.review.with_name(f".{one.paths.review.name}.lock")):
        rows = files.read_jsonl(one.paths.review) if one.paths.review.exists() else []
        files.write_jsonl(one.paths.review, [*rows, _as_row(decision)])
    _forget_pictures(one)
    return decision


def decisions(paths: DeidPaths) -> dict[str, Decision]:
    """Return the last decision on each file of a batch, by its keyed digest."""
    if not paths.review.exists():
        return {}
    rows = (Decision(**{**row, "reasons": tuple(row["reasons"])}) for row in files.read_jsonl(paths.review))
    return {decision.file: decision for decision in rows}


def verify_texts(paths: DeidPaths, identifiers: Identifiers) -> None:
    """Search what people typed into the audit of decisions. Raises `SafetyError` where it repeats an identifier."""
    if paths.review.exists():
        recorded = [(row["who"], row["why"]) for row in files.read_jsonl(paths.review)]
        typed_text.refuse_in_audit(recorded, identifiers, paths.review)


def apply(planned: list[Planned], decided: dict[str, Decision]) -> None:
    """Let the decisions act on the files of a batch, in place.

    A rejected file is rejected. A released one keeps its other fate but for the reasons that the person had
    in view: a reason that came up later holds it again.
    """
    for one in planned:
        decision = decided.get(one.file_digest)
        if decision is None or one.disposition == dispositions.REJECTED:
            continue
        if decision.verdict == "reject":
            one.disposition, one.reasons = dispositions.REJECTED, (REJECTED_CODE,)
            continue
        one.set_aside = frozenset(decision.reasons) & RELEASABLE
        if one.disposition == dispositions.QUARANTINED and one.set_aside.issuperset(one.reasons):
            one.disposition, one.reasons = dispositions.RELEASED, ()


def _as_row(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in Decision.__dataclass_fields__}


def _forget_pictures(one: Held) -> None:
    if one.pictures.is_dir():
        for path in one.pictures.iterdir():
            path.unlink()
        one.pictures.rmdir()
