"""The experiment record: what an experiment is, written once and opened by everything downstream.

Belongs here: the two files of an experiment and the comparison with the current cohort and settings.
`experiment.json` is written once: the complete configuration it began with, the digest of its cohort manifest, its
class vocabulary, derived set and code version. `configuration.json` is the configuration in force: the same
training, with the evaluation and final settings of the last launch. Does not: training (`learning.training`),
evaluation, where plans and volumes lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import polars as pl
from filelock import FileLock
from pydantic import BaseModel, ConfigDict

import ct_assets
from ct_assets import files, progress, registry
from ct_assets.errors import UsageError
from ct_assets.layout import Layout, check_key
from ct_assets.settings.training import ExperimentConfig, TrainingConfig

RECORD_NAME = "experiment.json"
CONFIGURATION_NAME = "configuration.json"
LUNG = "lung"
NEW_NAME = "start an experiment with a new name (--experiment NAME)"
"""The way out of every mismatch that cannot be reverted."""


class ExperimentRecord(BaseModel):
    """The content of `experiment.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    experiment: str
    system: str = LUNG
    config: dict[str, Any]
    """The complete training configuration that it began with, evaluation and final sections included."""
    config_digest: str
    """What identifies the training (`ExperimentConfig.digest`)."""
    manifest_digest: str
    classes: tuple[str, ...]
    """The class vocabulary in the order of the network's outputs."""
    derived_set: str | None
    code_version: str
    """Version of ct_assets that began it."""


Config = TypeVar("Config", bound=ExperimentConfig)


@dataclass(frozen=True)
class Experiment(Generic[Config]):
    """An opened experiment: its record, the configuration in force and the cohort it is about."""

    record: ExperimentRecord
    config: Config
    manifest: pl.DataFrame
    """The manifest's rows that the experiment is about, verified against the record."""
    layout: Layout

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.record.experiment

    @property
    def classes(self) -> tuple[str, ...]:
        """The class vocabulary in the order of the network's outputs."""
        return self.record.classes

    @property
    def manifest_digest(self) -> str:
        """Digest of the manifest's rows."""
        return self.record.manifest_digest

    @property
    def folder(self) -> Path:
        """Where everything of the experiment lies."""
        return folder_of(self.name, self.layout, self.record.system)

    @property
    def folds(self) -> list[str]:
        """The folds of the training patients, in order."""
        return sorted({str(fold) for fold in self.training["fold"].drop_nulls()})

    def fold(self, fold: str) -> Path:
        """Return the folder of one fold's training."""
        return self.folder / check_key(fold, "fold")

    @cached_property
    def training(self) -> pl.DataFrame:
        """The manifest's training rows."""
        return self.manifest.filter(pl.col("split") == "train")

    @classmethod
    def begin(
        cls,
        name: str,
        config: Config,
        *,
        manifest: pl.DataFrame,
        classes: Sequence[str],
        layout: Layout,
        system: str = LUNG,
    ) -> Self:
        """Begin an experiment, or open the one that is there with `config` in force.

        Evaluation, final and loading settings of `config` replace those in force, with a message that names them.
        Raises `UsageError` naming every difference in what identifies the training, the manifest or the classes.
        """
        folder = folder_of(name, layout, system)
        folder.mkdir(parents=True, exist_ok=True)
        now = ExperimentRecord(
            experiment=name,
            system=system,
            config=config.model_dump(mode="json"),
            config_digest=config.digest,
            manifest_digest=manifest_digest(manifest),
            classes=tuple(classes),
            derived_set=config.data_set,
            code_version=ct_assets.__version__,
        )
        with FileLock(str(folder / f".{RECORD_NAME}.lock")):
            record = read_record(folder)
            if record is None:
                record = now
                files.write_json(folder / RECORD_NAME, record.model_dump(mode="json"))
            else:
                _verify(record, now.manifest_digest, now.classes)
                _verify_configuration(record, now)
            _put_in_force(folder, config)
        return cls(record, config, manifest, layout)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        manifest: pl.DataFrame,
        classes: Sequence[str],
        layout: Layout,
        config: type[Config],
        system: str = LUNG,
    ) -> Self:
        """Open an experiment that has begun.

        Raises `UsageError` where it has not, and by name where the manifest or the classes are others now.
        """
        folder = folder_of(name, layout, system)
        record = read_record(folder)
        if record is None:
            raise UsageError(f"experiment {name}: has not begun; train its folds first (ct-assets train)")
        _verify(record, manifest_digest(manifest), tuple(classes))
        return cls(record, configuration_in_force(folder, record, config), manifest, layout)


def folder_of(name: str, layout: Layout, system: str = LUNG) -> Path:
    """Return where everything of an experiment of a system lies."""
    entry = registry.find(system)
    if entry is None:
        raise UsageError(f"experiment {name}: is of the system {system}, which this program does not know")
    return layout.root / entry.models / check_key(name, "experiment")


def read_record(folder: Path) -> ExperimentRecord | None:
    """Read an experiment's record, also in its first form; None where it has not begun."""
    path, configuration = folder / RECORD_NAME, folder / CONFIGURATION_NAME
    if not path.exists():
        return None
    content = files.read_json(path)
    if "format" in content:
        return ExperimentRecord.model_validate(content)
    if not configuration.exists():
        raise UsageError(
            f"{path}: was written by an earlier version and {CONFIGURATION_NAME} beside it is missing; "
            f"restore it, or {NEW_NAME}"
        )
    config = TrainingConfig.model_validate(files.read_json(configuration))
    return ExperimentRecord(
        experiment=content["experiment"],
        config=config.model_dump(mode="json"),
        config_digest=content["config_digest"],
        manifest_digest=content["manifest_digest"],
        classes=tuple(content["stages"]),
        derived_set=config.derived_set,
        code_version="before 2",
    )


def configuration_in_force(folder: Path, record: ExperimentRecord, config_type: type[Config]) -> Config:
    """Return the configuration of the last launch. Raises `UsageError` where it is of another training."""
    path = folder / CONFIGURATION_NAME
    if not path.exists():
        return config_type.model_validate(record.config)
    config = config_type.model_validate(files.read_json(path))
    if config.digest != record.config_digest:
        raise UsageError(
            f"experiment_mismatch: {path} configures another training than {RECORD_NAME} beside it; delete it to go "
            "back to the configuration that the experiment began with"
        )
    return config


def manifest_digest(manifest: pl.DataFrame) -> str:
    """Digest of the manifest's rows, whatever their order; clock times do not count."""
    kept = manifest.select(sorted(name for name in manifest.columns if not name.endswith("_at")))
    if "case_id" in kept.columns:
        return files.digest_of(kept.sort("case_id").to_dicts())
    return files.digest_of(sorted(files.digest_of(row) for row in kept.to_dicts()))


def _put_in_force(folder: Path, config: ExperimentConfig) -> None:
    """Write the configuration in force where it differs; report changed evaluation and final settings."""
    path, content = folder / CONFIGURATION_NAME, config.model_dump(mode="json")
    if path.exists():
        before = files.read_json(path)
        if before == content:
            return
        changes = [
            line for section in ("evaluation", "final") for line in _differences(before, content, section)
        ]
        if changes:
            progress.say(
                f"experiment {folder.name}: {'; '.join(changes)}; the reports that depend on it are stale now"
            )
    files.write_json(path, content)


def _verify(record: ExperimentRecord, manifest: str, classes: tuple[str, ...]) -> None:
    name = record.experiment
    if record.manifest_digest != manifest:
        raise UsageError(
            f"manifest_changed: experiment {name} was begun with another cohort manifest (other cases, labels or "
            f"folds); {NEW_NAME}, so that all its folds and reports see one cohort"
        )
    if record.classes != classes:
        raise UsageError(
            f"experiment_mismatch: experiment {name} was begun with another vocabulary of stages: "
            f"{', '.join(record.classes)}; labels.stages is {', '.join(classes)} now; set it back, or {NEW_NAME}"
        )


def _verify_configuration(record: ExperimentRecord, now: ExperimentRecord) -> None:
    if record.config_digest == now.config_digest:
        return
    outside = {"experiment", "evaluation", "final", "system_metrics"}
    changes = [
        line
        for section in sorted((record.config.keys() | now.config.keys()) - outside)
        for line in _differences(record.config, now.config, section)
    ]
    raise UsageError(
        f"experiment_mismatch: experiment {record.experiment} was begun with another training configuration "
        f"({'; '.join(changes) or 'other weights to start from'}); {NEW_NAME}, or go back to what it was begun with"
    )


def _differences(before: Any, after: Any, key: str) -> list[str]:
    """Return a line for each setting below a key that differs."""
    old = before.get(key) if isinstance(before, Mapping) else None
    new = after.get(key) if isinstance(after, Mapping) else None
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        inner = sorted(old.keys() | new.keys())
        return [f"{key}.{line}" for name in inner for line in _differences(old, new, name)]
    return [f"{key} is {new}, was {old}"]
