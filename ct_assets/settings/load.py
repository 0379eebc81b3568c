"""Reading settings files: YAML to a typed section, with errors that name key, value and what is allowed.

Belongs here: the reading, and where the settings come from (file, environment). The sections themselves
are declared one a file beside this one.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ct_assets.errors import UsageError
from ct_assets.settings.base import Section
from ct_assets.settings.platform import Settings
from ct_assets.settings.service import check_database
from ct_assets.settings.storage import check_url, is_url

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_CONFIG = Path("configs/local.yaml")

Model = TypeVar("Model", bound=Section)


def load_settings(config: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the platform's settings from `config`, `CT_ASSETS_CONFIG` or `configs/local.yaml`.

    Relative paths in the file are relative to the file's folder; those of environment variables to the
    working directory. `CT_ASSETS_DATA`, `CT_ASSETS_LABELS`, `CT_ASSETS_TRACKING_URI` and
    `CT_ASSETS_DATABASE` override the file.
    Raises `UsageError` naming file, key, value and allowed values.
    """
    path = config or default_config(environ)
    settings = read_section(path, Settings).resolved_against(path.resolve().parent)
    overrides: dict[str, Any] = {}
    if data := environ.get("CT_ASSETS_DATA"):
        overrides |= _data_root(settings, data)
    if labels := environ.get("CT_ASSETS_LABELS"):
        overrides["labels"] = settings.labels.model_copy(update={"csv": Path(labels).absolute()})
    if tracking := environ.get("CT_ASSETS_TRACKING_URI"):
        overrides["tracking"] = settings.tracking.model_copy(update={"uri": tracking})
    if database := environ.get("CT_ASSETS_DATABASE"):
        overrides["service"] = settings.service.model_copy(update={"database": _database(database)})
    return settings.model_copy(update=overrides)


def read_section(path: Path, model: type[Model]) -> Model:
    """Read one YAML file as a section. Raises `UsageError` naming file, key, value and allowed values."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such settings file; name one with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping of keys is expected, found {type(content).__name__}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(path, error, model)) from None


def _database(url: str) -> str:
    try:
        return check_database(url)
    except ValueError as error:
        raise UsageError(f"CT_ASSETS_DATABASE: {error}") from None


def _data_root(settings: Settings, data: str) -> dict[str, Any]:
    """Return what `CT_ASSETS_DATA` changes: a folder of this machine, or a store with its working copy."""
    if not is_url(data):
        local = settings.storage.model_copy(update={"url": None})
        return {"data_root": Path(data).absolute(), "storage": local}
    try:
        store = settings.storage.model_copy(update={"url": check_url(data)})
    except ValueError as error:
        raise UsageError(f"CT_ASSETS_DATA: {error}") from None
    return {"data_root": store.work_root, "storage": store}


def default_config(environ: Mapping[str, str]) -> Path:
    """Return the settings file where none is named: `CT_ASSETS_CONFIG`, or the one beside the caller."""
    if named := environ.get("CT_ASSETS_CONFIG"):
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else PROJECT_ROOT / DEFAULT_CONFIG


def _explain(path: Path, error: ValidationError, model: type[Section]) -> str:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_keys_beside(model, problem["loc"]))
            problems.append(f"{key}: unknown key; known here: {known}")
        elif problem["type"] == "missing":
            problems.append(f"{key}: missing")
        else:
            problems.append(f"{key}: {problem['msg']}, got {problem['input']!r}")
    return f"{path}: " + "; ".join(problems)


def _keys_beside(model: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed where the unknown one stands, as far as the path leads through sections."""
    current: Any = model
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            break
        current = fields[part].annotation
    return sorted(getattr(current, "model_fields", model.model_fields))
