"""The register of models: versions under a name, with the aliases `candidate` and `champion`.

Belongs here: registering a bundle in MLflow, promoting it, finding it again. A model is logged as code and
files (no pickle), with signature, card, and the plan inside its bundle.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.models.bundle import BUNDLE_NAME
from ct_assets.learning.models.champion import CHAMPION, REGISTERED_NAME
from ct_assets.learning.training import tracking

CANDIDATE = "candidate"
DIGEST_TAG = "bundle_digest"
WITHDRAWN_TAG = "withdrawn_patients"
"""On a version: how many people of its training data have withdrawn (`ct-assets withdraw`)."""
SCHEME = "models:/"
CODE = Path(__file__).with_name("mlflow_system.py")
"""The file that MLflow loads a bundle by, whichever system made it."""
OUTPUTS = ("input", "status", "prediction")
"""Its columns."""


@dataclass(frozen=True)
class Entry:
    """A bundle as the register knows it, whichever system made it."""

    name: str
    """The registered name."""
    digest: str
    """Digest of the bundle; the same bundle is registered once."""
    experiment: str
    experiment_dir: Path
    """Where the experiment's parent run is remembered."""
    manifest_digest: str
    """What it was trained on."""
    figures: Mapping[str, float]
    """Metrics of the run that logs it."""
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    """Parameters of the run that logs it."""
    pages: tuple[Path, ...] = ()
    """Files beside the model that the run shows: its card, its plan, its calibration."""


def register(folder: Path, entry: Entry, uri: str) -> str | None:
    """Log a bundle (with its `card.md`) as a run's model and register it; return `models:/<name>/<version>`.

    The same bundle is registered once. Returns None, and says so, where the server cannot be reached.
    """
    try:
        client = tracking.client(uri)
        known = _known(client, entry.name, entry.digest)
        if known is None:
            known = _log(client, uri, folder, entry)
        client.set_registered_model_alias(entry.name, CANDIDATE, known)
    except Exception as error:
        progress.say(
            f"registering {entry.name}: {type(error).__name__}; the bundle stands, build it again to register"
        )
        return None
    return f"{SCHEME}{entry.name}/{known}"


def promote(
    tracking_uri: str, registered_name: str, alias: str = CHAMPION, version: str | None = None
) -> str:
    """Give a version (default: the candidate) an alias; return the version.

    Raises `UsageError` for an unknown one, and for one that learned from somebody who has withdrawn.
    """
    from mlflow.exceptions import MlflowException

    client = tracking.client(tracking_uri)
    try:
        chosen = version or str(client.get_model_version_by_alias(registered_name, CANDIDATE).version)
        withdrawn = client.get_model_version(registered_name, chosen).tags.get(WITHDRAWN_TAG)
        if withdrawn:
            raise UsageError(
                f"{registered_name}: version {chosen} learned from people who have withdrawn ({withdrawn}); train a new "
                "experiment and promote that"
            )
        client.set_registered_model_alias(registered_name, alias, chosen)
    except MlflowException as error:
        _refuse_away(error, tracking_uri)
        what = f"version {version}" if version else f"alias {CANDIDATE}"
        raise UsageError(f"{registered_name}: no registered model of that name with {what}") from None
    return chosen


def fetch(name: str, tracking_uri: str, folder: Path) -> Path:
    """Fetch a registered model's bundle (`models:/lung@champion`) into `folder`; return the bundle's folder.

    Raises `UsageError` where the register does not know the name.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    tracking.client(tracking_uri)
    try:
        with _current(tracking_uri):
            fetched = download_artifacts(name, dst_path=str(folder))
    except MlflowException as error:
        _refuse_away(error, tracking_uri)
        raise UsageError(f"{name}: not in the register at {_shown(tracking_uri)}") from None
    found = sorted(Path(fetched).rglob(BUNDLE_NAME))
    if not found:
        raise UsageError(f"{name}: is registered, but is no bundle of this program")
    return found[0].parent


def _known(client: Any, name: str, digest: str) -> str | None:
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get(DIGEST_TAG) == digest:
            return str(version.version)
    return None


def _log(client: Any, uri: str, folder: Path, entry: Entry) -> str:
    import mlflow
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    parent = tracking.parent_run(client, uri, entry.experiment, entry.experiment_dir)
    run = client.create_run(
        tracking.experiment_id(client, uri, entry.experiment),
        run_name="final model",
        tags={"mlflow.parentRunId": parent, DIGEST_TAG: entry.digest},
    )
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "input"), ColSpec("string", "output")]),
        outputs=Schema([ColSpec("string", name) for name in OUTPUTS]),
    )
    with _current(uri):
        with mlflow.start_run(run_id=run.info.run_id), warnings.catch_warnings():
            # an input example would be a patient's image
            warnings.filterwarnings("ignore", message=".*input example.*")
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(CODE),
                artifacts={"bundle": str(folder)},
                signature=signature,
                pip_requirements=["ct-assets"],
            )
            mlflow.log_metrics(dict(entry.figures))
            mlflow.log_params(dict(entry.parameters))
            for path in sorted(entry.pages):
                mlflow.log_artifact(str(path))
        if not client.search_registered_models(f"name='{entry.name}'"):
            client.create_registered_model(entry.name)
        version = client.create_model_version(
            entry.name,
            logged.model_uri,
            run_id=run.info.run_id,
            tags={DIGEST_TAG: entry.digest, "manifest_digest": entry.manifest_digest},
            description=(folder / "card.md").read_text(encoding="utf-8"),
        )
    client.set_terminated(run.info.run_id)
    client.set_terminated(parent)
    files.write_json(
        entry.experiment_dir / REGISTERED_NAME,
        {"name": entry.name, "version": version.version, "uri": uri},
    )
    return str(version.version)


@contextmanager
def _current(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's tracking and registry server inside the block: some of its calls know no other way."""
    import mlflow

    # MLflow writes what is set into these, for subprocesses; reading its getters would turn a default into a setting.
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"] or "")
        mlflow.set_registry_uri(before["MLFLOW_REGISTRY_URI"] or "")
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _refuse_away(error: Exception, tracking_uri: str) -> None:
    """Raise `UsageError` where the server did not answer: that says nothing about what it knows."""
    if "API request to" in str(error) and "failed with exception" in str(error):
        raise UsageError(
            f"the tracking server {_shown(tracking_uri)} does not answer; try again later"
        ) from None


def _shown(uri: str) -> str:
    """Return a URI without what may be a password in it."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
