"""The rows of the graph table of a system that is trained by folds: the same five assets for every one.

Belongs here: names, partitions, inputs, outputs and resources of the five. What they do is in `defs.assets.systems`.
"""

from typing import Any

from ct_assets import registry
from ct_assets.defs.engine.node import Node
from ct_assets.defs.engine.partitions import of_system
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError
from ct_assets.settings.service import Resources

MODEL, PREDICTIONS, CV_REPORT, FINAL_MODEL, TEST_REPORT = (
    "model",
    "predictions",
    "cv_report",
    "final_model",
    "test_report",
)
OUTPUTS: dict[str, tuple[str, ...]] = {
    MODEL: ("{fold}/best.safetensors", "{fold}/result.json", "{fold}/training.json"),
    PREDICTIONS: ("{fold}/predictions.parquet", "{fold}/predictions.json", "{fold}/predictions/**/*"),
    CV_REPORT: ("cv_report.json", "decisions.json", "scores.parquet"),
    FINAL_MODEL: ("final/*.safetensors", "final/*.json"),
}
"""What each writes, below the experiment's folder. A test report is kept for ever and made once."""
RESOURCES: dict[str, Resources] = {
    MODEL: Resources(cpus=4, memory_gb=24),
    PREDICTIONS: Resources(cpus=2, memory_gb=16),
    FINAL_MODEL: Resources(cpus=4, memory_gb=24),
    TEST_REPORT: Resources(cpus=2, memory_gb=16),
}


def name_of(system: str, part: str) -> str:
    """Return the name of one of a system's five assets."""
    return f"{system}_{part}"


def part_of(system: registry.System, name: str) -> str | None:
    """Return which of a system's five assets has this name; None where none has."""
    parts = (MODEL, PREDICTIONS, CV_REPORT, FINAL_MODEL, TEST_REPORT)
    return next((part for part in parts if name == name_of(system.name, part)), None)


def rows(system: registry.System) -> dict[str, Node]:
    """Return the rows of a system's five assets."""
    by_fold, by_experiment = of_system("experiment_fold", system.name), of_system("experiment", system.name)

    def row(part: str, partition: str, upstream: tuple[str, ...], *sections: str, page: bool = False) -> Node:
        def external(platform: Platform, key: str | None) -> Any:
            return _experiment(system, platform, key, sections)

        def outputs(key: str) -> tuple[str, ...]:
            experiment, _, fold = key.partition("|")
            return tuple(
                f"{system.models}/{experiment}/{name.format(fold=fold)}" for name in OUTPUTS.get(part, ())
            )

        return Node(
            system.name,
            partition,
            (*(name_of(system.name, part) for part in upstream), *system.inputs),
            system.settings,
            external,
            outputs=outputs,
            kinds=frozenset({"html"} if page else {"pytorch"}),
            automated=False,
        )

    return {
        name_of(system.name, MODEL): row(MODEL, by_fold, ()),
        name_of(system.name, PREDICTIONS): row(PREDICTIONS, by_fold, (MODEL,)),
        name_of(system.name, CV_REPORT): row(
            CV_REPORT, by_experiment, (PREDICTIONS,), "evaluation", page=True
        ),
        name_of(system.name, FINAL_MODEL): row(
            FINAL_MODEL, by_experiment, (CV_REPORT, MODEL), "evaluation", "final"
        ),
        name_of(system.name, TEST_REPORT): row(
            TEST_REPORT, by_experiment, (FINAL_MODEL,), "evaluation", page=True
        ),
    }


def _experiment(
    entry: registry.System, platform: Platform, key: str | None, sections: tuple[str, ...]
) -> Any:
    """What identifies an experiment's trainings, and sections of the configuration in force; None before it began."""
    from ct_assets.learning.experiment import configuration_in_force, folder_of, read_record
    from ct_assets.learning.system import load

    folder = folder_of(str(key).split("|")[0], platform.layout, entry.name)
    try:
        record = read_record(folder)
        if record is None:
            return None
        config = configuration_in_force(folder, record, load(entry.name).config)
    except UsageError as error:  # the asset's body refuses it by name
        return str(error)
    return [
        record.config_digest,
        record.manifest_digest,
        list(record.classes),
        *(getattr(config, section).model_dump(mode="json") for section in sections),
    ]
