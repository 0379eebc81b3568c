"""What assets read that no other asset makes, digested: markers, reviews, folders of images, experiments.

Belongs here: the functions that rows of the graph table name as `external` or `after`. Single outside files that a
setting names are declared as `files` and need no function.
"""

from typing import Any

from ct_assets import files
from ct_assets.defs.engine import clinic_rows
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError


def marker(platform: Platform, batch: str | None) -> Any:
    """Digest of the marker that a delivery came with."""
    from ct_assets.intake.batches import marker_digest

    return marker_digest(platform.layout, str(batch))


def review(platform: Platform, batch: str | None) -> Any:
    """Digest of what people decided about a batch's quarantined objects; None where there is nothing."""
    path = platform.layout.deid_paths(str(batch)).review
    return files.sha256_file(path) if path.is_file() else None


def clinic_rows_of_batch(platform: Platform, batch: str | None) -> Any:
    """What the clinic's table says of the batch's patients, who are known once it was de-identified."""
    return clinic_rows.of_batch(platform, str(batch))


def case_numbers_of_given_folds(platform: Platform, _: str | None) -> Any:
    """Case numbers of earlier runs, by which a person's folds may name patients; None without such folds."""
    numbers = platform.layout.case_numbers
    if platform.settings.splits.given is None or not numbers.is_file():
        return None
    return files.sha256_file(numbers)


def experiment(platform: Platform, key: str | None, *sections: str) -> Any:
    """What identifies an experiment's trainings, and sections of the configuration in force; None before it began."""
    from ct_assets.learning.experiment import configuration_in_force, read_record
    from ct_assets.settings.training import TrainingConfig

    folder = platform.layout.experiment(str(key).split("|")[0])
    try:
        record = read_record(folder)
        if record is None:
            return None
        config = configuration_in_force(folder, record, TrainingConfig)
    except UsageError as error:  # the asset's body refuses it by name
        return str(error)
    return [
        record.config_digest,
        record.manifest_digest,
        record.derived_set,
        list(record.classes),
        *(getattr(config, section).model_dump(mode="json") for section in sections),
    ]


def evaluated_experiment(platform: Platform, key: str | None) -> Any:
    """An experiment with the evaluation settings in force."""
    return experiment(platform, key, "evaluation")


def final_experiment(platform: Platform, key: str | None) -> Any:
    """An experiment with the evaluation and final settings in force."""
    return experiment(platform, key, "evaluation", "final")


def neuro_raw(platform: Platform, study: str | None) -> Any:
    """The files of one study, or of all with the mode mapping, by name, size and time of change."""
    data_dir = platform.neuro_dir
    modes = platform.settings.neuro.modes or data_dir / "modes.csv"
    below = data_dir / "raw" / (study or "")
    found = [path for path in sorted(below.rglob("*")) if path.is_file()]
    return [
        files.sha256_file(modes) if study is None and modes.is_file() else None,
        [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in found],
    ]


def brain_raw(platform: Platform, _: str | None) -> Any:
    """The folder of slices by name, size and time of change, with its label table; nothing where batches are used."""
    settings, root = platform.settings.brain, platform.brain_dir
    if settings.source == "batches":
        return None
    labels, found = root / settings.labels, sorted((root / settings.cts).glob("*"))
    return [
        files.sha256_file(labels) if labels.is_file() else None,
        [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found],
    ]
