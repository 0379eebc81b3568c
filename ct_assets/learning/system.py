"""Interface of a system: what the learning path asks of lung, nodules, longitudinal and whoever comes next.

Belongs here: the interface, and finding the object of a registered system. Everything above it is written once:
training one fold (`learning.training.train`), out-of-fold predictions and reports (`learning.evaluation`), bundle and
final model (`learning.models`), the Dagster assets (`defs.assets.systems`). Nothing heavy is imported here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import polars as pl

from ct_assets import files, registry, tables
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.experiment import Experiment
from ct_assets.settings import Settings
from ct_assets.settings.training import ExperimentConfig

if TYPE_CHECKING:
    from ct_assets.learning.training.task import PretrainedReport, Task

FINAL = "final"
"""The fold of a training on all training patients."""
TEST = "test"
"""The fold of the test patients: nobody trains on it, and it is scored once a model."""

Config = TypeVar("Config", bound=ExperimentConfig)


@dataclass(frozen=True)
class Source:
    """One file that decides what a training sees: a plan, a table of volumes."""

    name: str
    digest: str
    path: str
    """Relative to the data root, for the tracking server."""


@dataclass(frozen=True)
class Examples:
    """The examples of one fold, picklable for the processes of several GPUs."""

    table: pl.DataFrame
    """A row an example: `example_id`, `patient_id`, `role` (`train`, `validation` or `test`), `target`, and whatever
    the system's task and predictor read."""
    sources: tuple[Source, ...] = ()
    """What else decides what a training sees; part of the training's identity by name."""
    data: Any = None
    """What the system's own task and predictor need besides (folders, an opened plan)."""

    def __post_init__(self) -> None:
        missing = {"example_id", "patient_id", "role", "target"} - set(self.table.columns)
        if missing:
            raise ValueError(f"a table of examples lacks {', '.join(sorted(missing))}")

    def of(self, *roles: str) -> "Examples":
        """Return the examples of these roles, by their identifier."""
        kept = self.table.filter(pl.col("role").is_in(list(roles))).sort("example_id")
        return Examples(kept, self.sources, self.data)

    def patients(self, role: str) -> list[str]:
        """Return the patients of a role, sorted."""
        return sorted(set(self.table.filter(pl.col("role") == role)["patient_id"]))

    @property
    def digest(self) -> str:
        """Identifies the rows, whatever their order."""
        return files.digest_of(self.table.sort("example_id", "role").to_dicts())


@dataclass(frozen=True)
class Member:
    """One trained network of a model: its weights, and what its training took from its own patients."""

    name: str
    weights: Path
    """Safetensors."""
    weights_sha256: str
    payload: Mapping[str, bytes] = field(default_factory=dict)
    """Small files by name (`System.payload`)."""


@dataclass(frozen=True)
class Model(Generic[Config]):
    """A trained model as a predictor opens it: one fold's, or all that is in a bundle."""

    config: Config
    classes: tuple[str, ...]
    members: tuple[Member, ...]
    digest: str
    """Of the bundle, or of the one member's weights."""
    decisions: Mapping[str, Any] | None = None
    """What was frozen out of fold; none before the folds were evaluated together."""
    uses: Mapping[str, Path] = field(default_factory=dict)
    """Bundles that it needs, by name."""


class Predictor(Protocol):
    """An opened model: what `ct-assets predict`, the server and the evaluation predict with."""

    def __call__(self, examples: Examples, folder: Path) -> pl.DataFrame:
        """Predict examples and return rows with `example_id` and `patient_id`; files go below `folder`.

        An example may give no row (a scan without a finding) or several; raises rather than leaving one out.
        """


class Trainable(ABC, Generic[Config]):
    """What training asks of a system: `System` has more."""

    name: ClassVar[str]
    """As the registry names it."""
    manifest_path: ClassVar[str] = "cohort/cohort_manifest.parquet"
    """Where the rows of the cohort lie below the data root."""

    @abstractmethod
    def task(self, examples: Examples, config: Config, classes: tuple[str, ...]) -> "Task":
        """Return what the loop trains: module, batches by absolute position, validation."""

    def load_pretrained(
        self,
        task: "Task",  # noqa: ARG002
        examples: Examples,  # noqa: ARG002
        config: Config,  # noqa: ARG002
    ) -> "PretrainedReport | None":
        """Fill the task's module with the weights that the configuration starts from; by default it starts from none."""
        return None

    def identity(self, examples: Examples, config: Config, classes: tuple[str, ...]) -> dict[str, str]:
        """Return the digests that tell two trainings apart; checkpoints carry them."""
        return {
            "config_digest": config.digest,
            "examples_digest": examples.digest,
            "classes": "|".join(classes),
            **{f"{source.name}_digest": source.digest for source in examples.sources},
        }


class System(Trainable[Config]):
    """One system. Its object has no state: it is found by its registry entry and pickled for several processes."""

    config: type[Config]
    """The training configuration, a subclass of `settings.training.ExperimentConfig`."""
    title: ClassVar[str]
    """What its models do, in one line: the heading of card and report."""
    intended_use: ClassVar[str]
    limits: ClassVar[tuple[str, ...]]
    conventions: ClassVar[Mapping[str, str]]
    """What input and output of a model mean."""
    key: ClassVar[str] = "example_id"
    """Column of its predictions that names the example."""

    # What an experiment is about

    def cohort(self, layout: Layout, settings: Settings, data_set: str | None) -> pl.DataFrame:  # noqa: ARG002
        """Return the rows that an experiment is about: `patient_id`, `split` (`train`, `test`), `fold`, and its own.

        By default the cohort manifest. Raises `UsageError` where it is not there yet.
        """
        from ct_assets.tables.cohort import CohortManifest

        if not layout.cohort_manifest.exists():
            raise UsageError("the cohort manifest is not there yet; run `ct-assets run` first")
        return tables.read_table(layout.cohort_manifest, CohortManifest)

    def classes(self, settings: Settings) -> tuple[str, ...]:  # noqa: ARG002
        """Return the class vocabulary in the order of the network's outputs; empty where nothing is classified."""
        return ()

    def default_config(self, settings: Settings) -> Config:  # noqa: ARG002
        """Return the configuration of an experiment that names none."""
        return self.config()

    @abstractmethod
    def examples(self, experiment: Experiment[Config], fold: str) -> Examples:
        """Return the examples of a fold: roles `train` and `validation`.

        `FINAL` has the role `train` alone, `TEST` the role `test` alone. Raises `UsageError` where what they are
        made of is missing or stale.
        """

    # Models

    def payload(self, examples: Examples) -> dict[str, bytes]:  # noqa: ARG002
        """Return the small files that a member needs beside its weights (the plan that prepares its input)."""
        return {}

    def uses(self, experiment: Experiment[Config]) -> dict[str, Path]:  # noqa: ARG002
        """Return the bundles that models of an experiment need, folders by name."""
        return {}

    # Prediction and evaluation

    @abstractmethod
    def predictor(self, model: Model[Config], device: str) -> Predictor:
        """Open a model once on a device (`cpu`, `cuda`)."""

    @abstractmethod
    def score(self, predictions: pl.DataFrame, examples: Examples, config: Config) -> pl.DataFrame:
        """Return what was measured: a row a case, finding or pair, with `patient_id`; baselines as rows of their own."""

    def decide(
        self,
        out_of_fold: pl.DataFrame,  # noqa: ARG002
        config: Config,  # noqa: ARG002
        classes: tuple[str, ...],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return calibration and thresholds, fitted on the out-of-fold scores and frozen: JSON values."""
        return {}

    def transferred(self, decisions: Mapping[str, Any]) -> dict[str, Any]:
        """Return the decisions of the folds as those of one model of all training patients."""
        return {**decisions, "is_transferred": True}

    @abstractmethod
    def figures(
        self, scores: pl.DataFrame, decisions: Mapping[str, Any], config: Config, classes: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the report's figures with their intervals and baselines: JSON values; `verdicts` are sentences."""

    def headline(self, figures: Mapping[str, Any]) -> dict[str, float | int | str]:
        """Return the few figures that a person wants to see first: by default the plain numbers at the top."""
        return {
            name: value
            for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }


def load(name: str) -> System[Any]:
    """Return the object of a registered system. Raises `UsageError` for a system that has none."""
    entry = registry.find(name)
    if entry is None or entry.learning is None:
        known = ", ".join(other.name for other in registry.systems() if other.learning)
        raise UsageError(f"--system {name}: no system of that name is trained by folds; there are {known}")
    system: System[Any] = import_module(entry.learning).SYSTEM
    return system
