"""The first pass over a batch: what every file is, and what the second pass must know of all of them.

Belongs here: reading files as far as that takes, in parallel, and joining what they tell. Does not: what one
file tells (`gather`), decisions about files (`dispositions`).

Of an ordinary image the header is read and no pixel: the digest that names a file is made in the second pass,
which reads it all. Only where names alone do not tell files apart is it needed before.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_assets import files, parallel, progress
from ct_assets.deid.batch import dicomfile, listing
from ct_assets.deid.batch.gather import FileFacts, Gathered, facts_of_file, joined
from ct_assets.deid.batch.withdrawn_files import holds_file
from ct_assets.dicom import content
from ct_assets.identity import withdrawn
from ct_assets.identity.withdrawn import Withdrawn

FILES_A_TASK = 32
FEW_FILES = 4000
"""Fewer headers are read in this process: by the time that workers had started it has read as many."""


@dataclass(frozen=True)
class _Task:
    root: Path
    relatives: list[str]
    refused: Withdrawn
    with_digests: bool


def gather(
    input_dir: Path, refused: Withdrawn, *, with_digests: bool, workers: int, preload: tuple[str, ...]
) -> tuple[list[FileFacts], Gathered]:
    """Return the facts of every file below `input_dir`, and what the files tell together.

    `with_digests` asks for the digest of every file, not only of those that need it.
    """
    found, no_files = listing.walk(input_dir)
    everything = Gathered()
    facts = [FileFacts(path, None, code) for path, code in no_files]
    tasks = [
        _Task(input_dir, found[start : start + FILES_A_TASK], refused, with_digests)
        for start in range(0, len(found), FILES_A_TASK)
    ]
    several = workers if with_digests or len(found) > FEW_FILES else 1
    with progress.track("reading", len(found)) as advance:
        for part in parallel.map_ordered(_gather_task, tasks, workers=several, preload=preload):
            facts += part.files
            _join(everything, part)
            advance(len(part.files))
    _add_digests(facts, input_dir, workers=workers, preload=preload)
    _add_content(facts, input_dir, workers=workers, preload=preload)
    return facts, everything


def _gather_task(task: _Task) -> Gathered:
    part = Gathered()
    with dicomfile.silence():
        for relative in task.relatives:
            path = task.root / relative
            if not task.refused:
                facts_of_file(path, relative, part, with_digest=task.with_digests)
                continue
            alone = Gathered()
            facts_of_file(path, relative, alone, with_digest=task.with_digests)
            if _is_of_refused(path, alone.files[0], task.refused):
                _take_refused(path, relative, alone, part)
            else:
                part.files += alone.files
                _join(part, alone)
    return part


def _join(everything: Gathered, part: Gathered) -> None:
    everything.values |= part.values
    for uid, seen in part.uids.items():
        known = everything.uids.get(uid)
        everything.uids[uid] = seen if known is None else joined(known, seen)


def _is_of_refused(path: Path, facts: FileFacts, refused: Withdrawn) -> bool:
    if facts.code == "dicomdir":
        return holds_file(refused, path)
    return refused.holds(facts.patient_id, facts.issuer, facts.study)


def _take_refused(path: Path, relative: str, alone: Gathered, into: Gathered) -> None:
    """Note a file of somebody who has withdrawn.

    Its identifiers are kept in mind, so that they are cut out wherever others mention them; its names and
    UIDs are not, since neither crosswalk nor audit holds anything of theirs.
    """
    into.values |= alone.values
    digest = alone.files[0].sha256 or files.sha256_file(path)
    into.files.append(FileFacts(relative, digest, withdrawn.CODE))


def _add_digests(
    facts: Sequence[FileFacts], input_dir: Path, *, workers: int, preload: tuple[str, ...]
) -> None:
    """Digest the files that share a SOPInstanceUID or have none: the digest tells copies and orders them."""
    seen = Counter(one.sop_instance for one in facts if one.code is None)
    wanted = [
        one
        for one in facts
        if one.code is None and one.sha256 is None and (not one.sop_instance or seen[one.sop_instance] > 1)
    ]
    tasks = [
        [input_dir / one.path for one in wanted[start : start + FILES_A_TASK]]
        for start in range(0, len(wanted), FILES_A_TASK)
    ]
    several = parallel.map_ordered(_digest_task, tasks, workers=min(workers, len(tasks)), preload=preload)
    digests = [digest for part in several for digest in part]
    for one, digest in zip(wanted, digests, strict=True):
        one.sha256 = digest
        if digest is None:
            one.code = "unreadable_file"


def _add_content(
    facts: Sequence[FileFacts], input_dir: Path, *, workers: int, preload: tuple[str, ...]
) -> None:
    """Digest what instances say that several files of unequal bytes hold: exports differ in their encoding."""
    files_of: dict[str, dict[str, FileFacts]] = defaultdict(dict)
    for one in facts:
        if one.code is None and one.sop_instance and one.sha256 is not None:
            files_of[one.sop_instance].setdefault(one.sha256, one)
    wanted = [one for several in files_of.values() if len(several) > 1 for one in several.values()]
    paths = [input_dir / one.path for one in wanted]
    tasks = [paths[start : start + FILES_A_TASK] for start in range(0, len(paths), FILES_A_TASK)]
    several_tasks = parallel.map_ordered(
        _content_task, tasks, workers=min(workers, len(tasks)), preload=preload
    )
    for one, digest in zip(wanted, (digest for part in several_tasks for digest in part), strict=True):
        one.content = digest


def _content_task(paths: list[Path]) -> list[str | None]:
    with dicomfile.silence():
        return [content.digest(path) for path in paths]


def _digest_task(paths: list[Path]) -> list[str | None]:
    return [_digest(path) for path in paths]


def _digest(path: Path) -> str | None:
    try:
        return files.sha256_file(path)
    except OSError:
        return None
