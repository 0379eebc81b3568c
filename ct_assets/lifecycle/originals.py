"""Everything that hospitals delivered, file by file: whose it is, and what identifies its person.

Belongs here: the walk over originals wherever they lie under the data root, and reading whose each file is.
Does not: removing any of them (`lifecycle.deliveries`).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataelem import RawDataElement

from ct_assets import parallel, progress, registry
from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.gather import Gathered, decodings, encodings_of, facts_of
from ct_assets.layout import Layout

FILES_A_TASK = 64
PRELOAD = ("ct_assets.lifecycle.originals",)

Person = tuple[str, str]
"""PatientID and issuer as a file writes them."""
Source = tuple[str, str, str]
"""PatientID, issuer and study of the files that values come from."""
Value = tuple[str, str]
"""Kind (`name`, `id`, `birth_date`) and value."""


@dataclass(frozen=True, slots=True)
class Original:
    """One file of a delivery."""

    path: str
    """Relative to the data root, as the file system has it."""
    sha256: str
    code: str | None
    """Why it is no usable instance; None for an instance."""
    patient_id: str
    issuer: str
    study: str
    series: str
    sop_instance: str

    @property
    def person(self) -> Person:
        """Whose it says it is."""
        return self.patient_id, self.issuer

    @property
    def source(self) -> Source:
        """By what its values are grouped."""
        return self.patient_id, self.issuer, self.study


@dataclass
class Census:
    """All originals, and what identifies the people in them."""

    files: list[Original] = field(default_factory=list)
    values: dict[Source, set[Value]] = field(default_factory=dict)


def product_folders(layout: Layout) -> tuple[Path, ...]:
    """Return the folders that hold what the platform made, and no original."""
    root = layout.root
    return (
        root / "deid",
        root / "audits",
        layout.cohort,
        layout.nifti,
        layout.store,
        layout.folds,
        root / "final",
        root / "derived",
        *(root / system.home for system in registry.systems() if not system.holds_originals),
        layout.reports,
        layout.dagster_home,
        layout.mlflow,
        layout.storage_state,
    )


def take_census(layout: Layout, workers: int) -> Census:
    """Read the headers of every original."""
    census = Census()
    paths = sorted(_files_below(layout.root, set(product_folders(layout))))
    tasks = [
        (layout.root, paths[start : start + FILES_A_TASK]) for start in range(0, len(paths), FILES_A_TASK)
    ]
    with progress.track("reading originals", len(paths)) as advance:
        for part in parallel.map_ordered(_census_task, tasks, workers=workers, preload=PRELOAD):
            census.files += part.files
            for source, values in part.values.items():
                census.values.setdefault(source, set()).update(values)
            advance(len(part.files))
    return census


def uids_of(layout: Layout, paths: Sequence[str]) -> set[str]:
    """Return every UID in these files that the Standard does not own."""
    found: set[str] = set()
    for path in paths:
        gathered = Gathered()
        with dicomfile.silence():
            facts_of(path, (layout.root / path).read_bytes(), gathered)
        found |= set(gathered.uids)
    return found


def names_in(layout: Layout, paths: Iterable[str]) -> set[str]:
    """Return the PatientNames (0010,0010) in these files, in every reading of their character set."""
    found: set[str] = set()
    for path in paths:
        with dicomfile.silence():
            own = dicomfile.elements(dicomfile.read((layout.root / path).read_bytes()).dataset)
        element = own.get(0x00100010)
        if isinstance(element, RawDataElement):
            found.update(decodings(dicomfile.raw_bytes(element), encodings_of(own, ("iso8859",))))
    return found


def _census_task(task: tuple[Path, list[str]]) -> Census:
    root, paths = task
    part = Census()
    for path in paths:
        try:
            content = (root / path).read_bytes()
        except OSError:
            continue
        gathered = Gathered()
        with dicomfile.silence():
            facts_of(path, content, gathered)
        facts = gathered.files[0]
        part.files.append(
            Original(
                path,
                facts.sha256 or "",
                facts.code,
                facts.patient_id,
                facts.issuer,
                facts.study,
                facts.series,
                facts.sop_instance,
            )
        )
        if facts.code is None:  # the directory of a medium tells of many people
            told = {(kind, value) for kind, value, *_ in gathered.values}
            part.values.setdefault(part.files[-1].source, set()).update(told)
    return part


def _files_below(folder: Path, left_out: set[Path]) -> Iterator[str]:
    """Yield the files below the data root that may be originals, relative to it; links are not followed."""
    folders = [folder]
    while folders:
        current = folders.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_symlink():
                    continue
                if entry.is_dir():
                    if path not in left_out:
                        folders.append(path)
                elif current != folder:
                    yield path.relative_to(folder).as_posix()
