"""Models that learned from somebody who withdrew: which they are, and the mark that they bear from then on.

Belongs here: finding and marking. Weights are not changed: what a network took from one patient cannot be
taken out again. A person decides whether to train anew.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, progress, registry
from ct_assets.layout import WITHDRAWALS_NAME, Layout
from ct_assets.learning.models.registry import WITHDRAWN_TAG
from ct_assets.lifecycle.person import Subject

TRAINING_NAME = "training.json"
"""The record of a training, written when it begins (`learning.training.train`)."""
PATIENTS_NAME = "patients.json"
"""Beside each training: who was in it, by pseudonym (`learning.training.train`)."""
CARD_NAME = "card.md"
BUNDLE_NAME = "bundle.json"
HEADING = "## Withdrawn consent"
LEARNED, MAY_HAVE = "learned", "may have learned"
FINAL = "final"

Learner = tuple[str, str, str]


def find(subject: Subject, layout: Layout) -> set[Learner]:
    """Return experiment, fold and how certain it is, for every training that had the person in it.

    Trainings keep a list of their patients. One of an older version has none: then whoever it predicted was
    not in it, nor was a patient of the test set or of a later date; of everybody else it may have learned.
    """
    found = {learner for system in registry.systems() for learner in _in_system(subject, layout, system)}
    placed = _placed(subject, layout.splits)
    if placed is not None and placed["split"] == "test":
        return found
    records = [*(layout.root / "models").glob(f"*/*/{TRAINING_NAME}")]
    for folder in sorted(record.parent for record in records):
        certainty = _certainty(folder, subject, placed)
        if certainty is not None:
            found.add((folder.parent.name, folder.name, certainty))
    return found


def _in_system(subject: Subject, layout: Layout, system: registry.System) -> set[Learner]:
    """Return the trainings below a system's own folder that had the person in them, each once.

    A training is named by its folder below `models` (`baseline/fresh/1`), the final model is `final`. One without a
    list of patients (of an older version) learned from everybody in the system's ledger but its own fold; a
    training on other folds than the ledger's may have.
    """
    if not system.has_own_trainings:
        return set()
    models, found = layout.root / system.models, set()
    placed = _placed(subject, layout.root / system.ledger) if system.ledger else None
    is_known = placed is not None and placed["split"] != "test"
    folders = _trainings(models)
    for folder in folders:
        name = folder.relative_to(models).as_posix()
        listed = folder / PATIENTS_NAME
        if listed.exists():
            if subject.pseudonyms & set(files.read_json(listed)["train"]):
                found.add((system.name, name, LEARNED))
        elif placed is not None and is_known:
            is_of_ledger = name.count("/") == 1
            if not (is_of_ledger and folder.name == str(placed["fold"])):
                certain = is_of_ledger or "/" not in name
                found.add((system.name, name, LEARNED if certain else MAY_HAVE))
    bundles = {path.parent for path in models.rglob(BUNDLE_NAME)}
    for bundle in sorted(bundles):
        name = bundle.parent.relative_to(models).as_posix()
        if members := [how for _, training, how in found if training.startswith(f"{name}/")]:
            how = LEARNED if LEARNED in members else MAY_HAVE
            found.add((system.name, f"{name}/{bundle.name}", how))
    if (layout.root / system.home / FINAL).is_dir() and is_known and models / FINAL not in folders:
        found.add((system.name, FINAL, LEARNED))
    return found


def _trainings(models: Path) -> list[Path]:
    """Return the folders of trainings; the phases below one are parts of it."""
    folders: list[Path] = []
    for folder in sorted({path.parent for path in models.rglob("*.safetensors")}):
        if (folder / BUNDLE_NAME).exists():
            continue  # learned from whoever its members learned from, which are trainings beside it
        if not any(folder.is_relative_to(training) for training in folders):
            folders.append(folder)
    return folders


def ledgers(layout: Layout) -> list[Path]:
    """Return the split ledgers of the cohort and of the systems that have their own."""
    own = [layout.root / system.ledger for system in registry.systems() if system.ledger]
    return [layout.splits, *own]


def _home(layout: Layout, experiment: str) -> Path:
    """Return the folder of a system of its own trainings, or of an experiment under `models/`."""
    system = registry.find(experiment)
    if system is not None and system.has_own_trainings:
        return layout.root / system.home
    return layout.experiment(experiment)


def _training_folder(layout: Layout, experiment: str, name: str) -> Path:
    system = registry.find(experiment)
    if system is not None and system.has_own_trainings:
        return layout.root / system.models / name
    return layout.experiment(experiment) / name


def _placed(subject: Subject, ledger: Path) -> dict[str, Any] | None:
    if not ledger.exists():
        return None
    rows = pl.read_parquet(ledger).filter(pl.col("patient_id").is_in(list(subject.pseudonyms)))
    return rows.row(0, named=True) if rows.height else None


def _certainty(folder: Path, subject: Subject, placed: dict[str, Any] | None) -> str | None:
    listed = folder / PATIENTS_NAME
    if listed.exists():
        return LEARNED if subject.pseudonyms & set(files.read_json(listed)["train"]) else None
    if placed is None or _begun(folder) < placed["added_at"]:
        return None
    predictions = folder / "predictions.parquet"
    if predictions.exists():
        predicted = set(pl.read_parquet(predictions, columns=["patient_id"])["patient_id"])
        if predicted & subject.pseudonyms:
            return None
    return MAY_HAVE


def _begun(folder: Path) -> datetime:
    return datetime.fromtimestamp((folder / TRAINING_NAME).stat().st_mtime, UTC)


def mark(subject: Subject, layout: Layout, stone: str, tracking_uri: str, now: datetime) -> list[str]:
    """Mark every model that learned from the person; return a line for each, for people.

    The mark is a record beside the trainings, a section of the card (also of its copies), and tags on runs and
    registered versions. Marking again changes nothing.
    """
    lines = []
    for experiment in sorted({name for name, _, _ in subject.learners}):
        folds = {fold: how for name, fold, how in subject.learners if name == experiment}
        record = _home(layout, experiment) / WITHDRAWALS_NAME
        content = files.read_json(record) if record.exists() else {}
        content.setdefault(stone, {"trainings": folds, "withdrawn_at": now.isoformat(timespec="seconds")})
        files.write_json(record, content)
        people = len(content)
        cards = _note_in_cards(layout, experiment, folds, people)
        told = _tell_tracking(layout, experiment, sorted(folds), people, tracking_uri)
        lines.append(
            f"experiment {experiment}: trainings {', '.join(sorted(folds))} "
            f"({', '.join(sorted(set(folds.values())))}); marked: record, {cards} cards, {told} entries of tracking"
        )
    return lines


def _note_in_cards(layout: Layout, experiment: str, folds: Iterable[str], people: int) -> int:
    cards = [_home(layout, experiment) / FINAL / CARD_NAME]
    if (system := registry.find(experiment)) is not None and system.has_own_trainings:
        named = {fold.rpartition("/")[0] for fold in folds if fold.endswith(f"/{FINAL}")}
        cards += [layout.root / system.models / name / FINAL / CARD_NAME for name in sorted(named)]
    return sum(_note_in_card(layout, card, people) for card in cards if card.exists())


def _note_in_card(layout: Layout, own: Path, people: int) -> int:
    before = own.read_text(encoding="utf-8").split(HEADING)[0].rstrip()
    after = f"{before}\n\n{HEADING}\n{note(people)}\n"
    copies = [
        path
        for path in layout.mlflow.rglob(CARD_NAME)
        if path.read_text(encoding="utf-8").split(HEADING)[0].rstrip() == before
    ]
    for path in (own, *copies):
        files.write_text(path, after)
    return 1 + len(copies)


def note(people: int) -> str:
    """Return what a card says."""
    who = (
        "One person of the training data has" if people == 1 else f"{people} people of the training data have"
    )
    return (
        f"{who} withdrawn consent since this model was trained. Their data are removed; what the weights took "
        "from them is not. Train a new experiment before the model is used any further."
    )


def _tell_tracking(layout: Layout, experiment: str, folds: list[str], people: int, uri: str) -> int:
    """Set tags on runs and registered versions; return how many. A server that does not answer is told of."""
    from ct_assets.learning.training import state, tracking

    home = _home(layout, experiment)
    runs = sorted(
        {
            known.mlflow_run_id
            for fold in folds
            for written in sorted(_training_folder(layout, experiment, fold).rglob(state.STATE_NAME))
            if (known := state.read(written.parent)) is not None and known.mlflow_run_id
        }
    )
    runs += [files.read_json(parent)["run_id"] for parent in sorted(home.rglob("tracking_parent.json"))]
    registered = sorted(home.rglob("registered.json"))
    if not runs and not registered:
        return 0
    try:
        client = tracking.client(uri)
        for run in runs:
            client.set_tag(run, WITHDRAWN_TAG, str(people))
        return len(runs) + sum(_tell_registry(client, home, record, people) for record in registered)
    except Exception as error:
        progress.say(
            f"tracking server: {type(error).__name__}; tags of {experiment} are not set. Run the withdrawal again "
            "when it answers."
        )
        return 0


def _tell_registry(client: Any, home: Path, record: Path, people: int) -> int:
    known = files.read_json(record)
    digests = {files.read_json(path)["digest"] for path in home.rglob(BUNDLE_NAME)}
    count = 0
    for version in client.search_model_versions(f"name='{known['name']}'"):
        if version.tags.get("bundle_digest") in digests or str(version.version) == str(known["version"]):
            client.set_model_version_tag(version.name, version.version, WITHDRAWN_TAG, str(people))
            before = (version.description or "").split(HEADING)[0].rstrip()
            client.update_model_version(
                version.name, version.version, description=f"{before}\n\n{HEADING}\n{note(people)}\n"
            )
            count += 1
    return count
