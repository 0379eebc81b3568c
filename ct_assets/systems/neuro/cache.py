"""The preprocessing cache of a data set: building it, reading it, counting it.

Belongs here: `CacheManager`, and making one entry in a worker process. Does not: the files of an entry
(`neuro.entries`), what a data set holds (`neuro.metadata`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_assets import parallel, progress
from ct_assets.errors import UsageError
from ct_assets.settings.neuro import Mode, PreprocessingSettings
from ct_assets.systems.neuro import entries, load, preprocess
from ct_assets.systems.neuro.entries import Entry, Source
from ct_assets.systems.neuro.metadata import DatasetMetadata, record
from ct_assets.systems.neuro.prepare import Prepared, prepare
from ct_assets.systems.neuro.refusal import ImageRefusedError

PRELOAD = ("ct_assets.systems.neuro.cache",)
IMAGES_BETWEEN_RECORDS = 64
"""So many outcomes at most are lost from `metadata.json` when a build is killed; their entries stay valid."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image."""

    study: str
    image: str
    status: str
    """`made`, `current` (nothing to do) or `refused`."""
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildReport:
    """What `build_cache` did, image by image in the order of the metadata."""

    outcomes: tuple[Outcome, ...]

    def count(self, status: str) -> int:
        """Return how many images ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """The images that cannot be used."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "refused")


@dataclass(frozen=True, slots=True)
class _Task:
    study: str
    image: str
    mode: Mode
    series: str | None
    source: Source
    folder: Path
    settings: PreprocessingSettings
    force: bool


class CacheManager:
    """The cache under `data_dir/processed` of the images under `data_dir/raw`."""

    def __init__(self, data_dir: str | Path, settings: PreprocessingSettings | None = None) -> None:
        """Open a data set. Raises `UsageError` where it has no `metadata.json`."""
        self.data_dir = Path(data_dir)
        self.settings = settings or PreprocessingSettings()
        self.metadata = DatasetMetadata.from_file(self.metadata_path)

    @property
    def metadata_path(self) -> Path:
        """The data set's `metadata.json`."""
        return self.data_dir / "metadata.json"

    @property
    def processed_dir(self) -> Path:
        """Where the entries lie."""
        return self.data_dir / "processed"

    def build_cache(
        self, num_workers: int = 1, force: bool = False, *, studies: Iterable[str] | None = None
    ) -> BuildReport:
        """Make every entry that is missing or no longer holds; with `force`, all.

        Images that cannot be used are counted as refused with their reasons, never a crash. The flags
        `processed` are kept in `metadata.json` whatever the number of workers; a killed build goes on where
        it was. `studies` limits the work; builds of different studies may run side by side.

        Raises `UsageError` for a study that the metadata does not have.
        """
        tasks = [self._task(study, image, force) for study, image in self._images(studies)]
        outcomes: list[Outcome] = []
        recorded = 0
        with progress.track("token cache", len(tasks)) as advance:
            for outcome in parallel.map_ordered(_build, tasks, workers=num_workers, preload=PRELOAD):
                outcomes.append(outcome)
                advance(1)
                if len(outcomes) - recorded >= IMAGES_BETWEEN_RECORDS:
                    self._record(outcomes[recorded:])
                    recorded = len(outcomes)
        self._record(outcomes[recorded:])
        return BuildReport(tuple(outcomes))

    def mark_current(self) -> DatasetMetadata:
        """Record what the cache holds already as processed, after the metadata was made anew; return it."""
        parameters = entries.parameters_digest(self.settings)
        held = []
        for study, image in self._images(None):
            task = self._task(study, image, force=False)
            found = Entry(task.folder, image, task.mode).record()
            if found and entries.is_current(found, task.source, task.series, task.mode, parameters):
                held.append(Outcome(study, image, "current", warnings=tuple(found["warnings"])))
        self._record(held)
        return self.metadata

    def load_image(
        self, study: str, image: str, window: str | None = None
    ) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Return a cached image, None where the cache has none that holds for these parameters.

        `data` is a (1, D, H, W) float32 tensor of [0, 1], `mask` of the same shape uint8 with 1 for
        background; besides `view`, `shape`, `spacing`, `mode`, `window` and `key`. Of a CT, `window` names
        `brain`, `blood` or `bone`; without it all three come as a list. Whether the source has changed
        since is `build_cache`'s question. Raises `ValueError` for a window that the mode does not have.
        """
        info = self.metadata.get_study(study)
        if info is None or image not in info["images"]:
            return None
        entry = self.entry(study, image)
        if window is not None and window not in entry.streams:
            raise ValueError(
                f"window {window!r}: of {entry.mode} images there are {', '.join(entry.streams)}"
            )
        found = entry.record()
        if found is None or found["parameters"] != entries.parameters_digest(self.settings):
            return None
        wanted = entry.streams if window is None else [name for name in entry.streams if name == window]
        contents = [entry.read(stream, found["key"]) for stream in wanted]
        complete = [content for content in contents if content is not None]
        if len(complete) < len(contents):
            return None
        return complete if entry.mode == "ct" and window is None else complete[0]

    def get_cache_stats(self) -> dict[str, Any]:
        """Return counts: `total_studies`, `total_images`, `cached_images`, `refused_images`, `cache_coverage`,
        `size_bytes`, and `reasons` (refusals by code)."""
        parameters = entries.parameters_digest(self.settings)
        total = cached = size = 0
        reasons: dict[str, int] = {}
        for study, image in self._images(None):
            total += 1
            found = self.entry(study, image).record()
            if found is not None and found["parameters"] == parameters:
                cached += 1
                size += sum(found["files"].values())
            for code in self.metadata.studies[study]["images"][image].get("reasons", ()):
                reasons[code] = reasons.get(code, 0) + 1
        return {
            "total_studies": len(self.metadata),
            "total_images": total,
            "cached_images": cached,
            "refused_images": sum(reasons.values()),
            "cache_coverage": cached / total if total else 0.0,
            "size_bytes": size,
            "reasons": dict(sorted(reasons.items())),
        }

    def entry(self, study: str, image: str) -> Entry:
        """Return the place of an image in the cache."""
        return Entry(self.processed_dir / study, image, self.metadata.studies[study]["mode"])

    def source(self, study: str, image: str) -> Source:
        """Return the files that an image is made of."""
        filename = self.metadata.studies[study]["images"][image]["filename"]
        path = self.data_dir / "raw" / study / filename
        return Source(path, Path("raw", study, filename).as_posix())

    def _images(self, studies: Iterable[str] | None) -> Iterator[tuple[str, str]]:
        names = list(self.metadata.studies if studies is None else studies)
        if unknown := [name for name in names if name not in self.metadata.studies]:
            raise UsageError(f"{self.metadata_path}: has no study {', '.join(sorted(unknown))}")
        for study in names:
            for image in self.metadata.studies[study]["images"]:
                yield study, image

    def _task(self, study: str, image: str, force: bool) -> _Task:
        entry = self.entry(study, image)
        series = self.metadata.studies[study]["images"][image].get("series")
        return _Task(
            study, image, entry.mode, series, self.source(study, image), entry.folder, self.settings, force
        )

    def _record(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            self.metadata = record(
                self.metadata_path,
                (
                    (
                        outcome.study,
                        outcome.image,
                        {
                            "processed": outcome.status != "refused",
                            "reasons": list(outcome.reasons),
                            "warnings": list(outcome.warnings),
                        },
                    )
                    for outcome in outcomes
                ),
            )


def _build(task: _Task) -> Outcome:
    entry = Entry(task.folder, task.image, task.mode)
    parameters = entries.parameters_digest(task.settings)
    try:
        found = None if task.force else entry.record()
        if found and entries.is_current(found, task.source, task.series, task.mode, parameters):
            return Outcome(task.study, task.image, "current", warnings=tuple(found["warnings"]))
        return _made(task, entry, parameters)
    except ImageRefusedError as refused:
        code = refused.code
    except FileNotFoundError:
        code = "source_missing"
    entry.remove()
    return Outcome(task.study, task.image, "refused", (code,))


def _made(task: _Task, entry: Entry, parameters: str) -> Outcome:
    modified_ns, digest = task.source.modified_ns(), task.source.digest()
    prepared, spacing_mm, warnings = make(task.source.path, task.mode, task.series, task.settings)
    entry.write(
        prepared,
        spacing_mm,
        {
            "key": entries.key_of(digest, task.series, task.mode, parameters),
            "parameters": parameters,
            "source": task.source.relative,
            "source_bytes": task.source.size_bytes(),
            "source_digest": digest,
            "source_modified_at": modified_ns,
            "series": task.series,
            "warnings": list(warnings),
        },
    )
    return Outcome(task.study, task.image, "made", warnings=warnings)


def make(
    path: Path, mode: Mode, series: str | None, settings: PreprocessingSettings
) -> tuple[Prepared, tuple[float, float, float], tuple[str, ...]]:
    """Return an image prepared for tokens, its spacing (x, y, z), and warnings: what cache and raw reading share.

    Raises as `load_image`, and `ImageRefusedError` for an image smaller than a token or of another modality.
    """
    loaded = load.read(path, series=series)
    if loaded.mode is not None and loaded.mode != mode:
        raise ImageRefusedError("mode_mismatch", path.name)
    volume = preprocess.preprocess(loaded.volume, mode, settings)
    prepared = prepare(volume, mode, settings)
    if prepared is None:
        raise ImageRefusedError("smaller_than_a_token", path.name)
    warnings = list(loaded.warnings)
    if mode == "ct" and not prepared.mask.any():
        warnings.append("no_air_in_ct")
    return prepared, volume.grid.spacing_mm, tuple(warnings)
