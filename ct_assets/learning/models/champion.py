"""Which registered version is the champion, and under which version an experiment's model is registered.

Belongs here: looking both up without MLflow or torch where that can be done; `ct-assets status` asks each time. Does
not: registering and promoting (`learning.models.registry`).
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from ct_assets import files

CHAMPION = "champion"
REGISTERED_NAME = "registered.json"
"""Beside the trainings of an experiment: name and version of its registered model."""


def champion(tracking_uri: str, registered_name: str) -> str | None:
    """Return the version that `champion` names; None where there is none, or the server does not answer.

    An sqlite file is read without MLflow, which takes seconds to import.
    """
    if tracking_uri.startswith("sqlite:///"):
        path = Path(tracking_uri.removeprefix("sqlite:///"))
        if not path.is_file():
            return None
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                row = database.execute(
                    "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?",
                    (registered_name, CHAMPION),
                ).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else str(row[0])
    from mlflow.exceptions import MlflowException

    from ct_assets.learning.training import tracking

    try:
        return str(
            tracking.client(tracking_uri).get_model_version_by_alias(registered_name, CHAMPION).version
        )
    except MlflowException:
        return None


def registered(experiment_dir: Path) -> tuple[str, str] | None:
    """Return name and version under which an experiment's final model is registered, None where it is not."""
    known = files.read_json_object(experiment_dir / REGISTERED_NAME) or {}
    return (str(known["name"]), str(known["version"])) if {"name", "version"} <= set(known) else None
