"""The leak scan over everything that a batch is about to release, in parallel.

Belongs here: which files and which parts of the audit a worker searches. Does not: the search itself
(`leak_scan`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_assets import parallel, progress
from ct_assets.deid.batch.outcomes import Outcome
from ct_assets.deid.elements.identifiers import Identifiers
from ct_assets.deid.elements.spelling import fold
from ct_assets.deid.proof.leak_scan import Hit, LeakScanner, Searched, scan_files
from ct_assets.identity.key import SecretKey
from ct_assets.layout import DeidPaths

FILES_A_TASK = 32
BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class _Task:
    """Released files below a folder, or a block of a public text."""

    root: Path
    released: list[tuple[str, str | None]]
    text: tuple[Path, int, int] | None = None
    """File, first byte and length."""


_AUDIT_TEXT = """file disposition released reasons new patient id study series sop instance uid burned in
clean warnings pixel digest before after blake3 table PS3 elements path rule action not in E private on the safe list
without creator of kept removed elements written by de identification cleaned emptied replaced shifted pixels Type
profile site null true false whole repeating group earlier claim inside a sequence part of data set binary unknown
attribute unlisted UID description free text network address person s name
signature or encryption of another VR than one
image comments application segments without use behind end last pixel JPEG JP2 boxes component registration packet
lengths tile part frames beyond NumberOfFrames entries offset table text entropy coded unused fields RLE header before
first segment compressed beside bytes kB MB GB decoded lookup entry"""
"""The words of an audit line that no input brings, beside attributes and reason codes."""

_scanner: LeakScanner | None = None
_audit = Path()


@dataclass(frozen=True)
class Proof:
    """What is searched for in one batch, and by how many workers."""

    searched: Searched
    key: SecretKey
    workers: int
    preload: tuple[str, ...]

    @classmethod
    def of(
        cls,
        identifiers: Identifiers,
        old_uids: list[str],
        own_text: str,
        key: SecretKey,
        *,
        workers: int,
        preload: tuple[str, ...],
    ) -> "Proof":
        """`own_text` is what the page and DeidentificationMethod say whatever the patients are called."""
        births = {patient: frozenset(dates) for patient, dates in identifiers.births.items()}
        searched = Searched(identifiers.searched(), frozenset(old_uids), births, own_words(own_text))
        return cls(searched, key, workers, preload)

    def objects(self, staged: DeidPaths, outcomes: Sequence[Outcome]) -> list[Hit]:
        """Search released files and their names."""
        released = [(one.path, one.pixels_after) for one in outcomes if one.path]
        tasks = [
            _Task(staged.dicom, released[start : start + FILES_A_TASK])
            for start in range(0, len(released), FILES_A_TASK)
        ]
        return self._run(tasks, staged, len(released))

    def texts(self, staged: DeidPaths) -> list[Hit]:
        """Search the audit and the page."""
        tasks = [
            _Task(staged.dicom, [], (path, start, length))
            for path in (staged.audit, staged.report)
            for start, length in _blocks(path)
        ]
        return self._run(tasks, staged, 0)

    def without_identifiers(self, texts: Iterable[str]) -> set[str]:
        """Return the texts that hold nothing that is searched: a word that stays in one patient's object can be
        another's name, and the page is of all."""
        scanner = LeakScanner(self.searched, self.key)
        return {text for text in texts if not scanner.text(text.encode(), "page")}

    def _run(self, tasks: list[_Task], staged: DeidPaths, objects: int) -> list[Hit]:
        hits: list[Hit] = []
        found = parallel.map_ordered(
            _scan_task,
            tasks,
            workers=self.workers,
            preload=self.preload,
            initializer=_start,
            initargs=(self.searched, self.key, staged.audit),
        )
        with progress.track("leak scan", objects) as advance:
            for task, one in zip(tasks, found, strict=True):
                hits += one
                advance(len(task.released))
        return hits


def own_words(own_text: str) -> frozenset[str]:
    """Return the words of an audit line that no input brings, and those of `own_text`, folded."""
    return frozenset(fold(f"{_AUDIT_TEXT} {own_text}").split())


def _start(searched: Searched, key: SecretKey, audit: Path) -> None:
    global _scanner, _audit
    _scanner, _audit = LeakScanner(searched, key), audit


def _scan_task(task: _Task) -> list[Hit]:
    assert _scanner is not None
    if task.text is None:
        return list(scan_files(_scanner, task.root, task.released))
    path, start, length = task.text
    with path.open("rb") as opened:
        opened.seek(start)
        content = opened.read(length)
    search = _scanner.audit if path == _audit else _scanner.text
    return search(content, path.name.removeprefix(".partial-"))


def _blocks(path: Path) -> Iterator[tuple[int, int]]:
    """Yield a text file's blocks of whole lines: first byte and length."""
    if not path.exists():
        return
    size = path.stat().st_size
    with path.open("rb") as opened:
        start = 0
        while start < size:
            opened.seek(min(start + BLOCK_BYTES, size))
            opened.readline()
            yield start, opened.tell() - start
            start = opened.tell()
