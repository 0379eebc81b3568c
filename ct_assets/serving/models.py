"""Models that requests may name: the bundles behind them, and whether they may still answer.

Belongs here: `/v1/models`, resolving a name, and the look for withdrawals. Opening and running is `serving.predictor`.
"""

from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ct_assets import files
from ct_assets.layout import WITHDRAWALS_NAME
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.problems import Problem
from ct_assets.serving.roles import needs
from ct_assets.settings import Settings

router = APIRouter(tags=["models"])
REGISTERED = "models:/"


@router.get("/v1/models", dependencies=[needs(Role.VIEWER)], summary="Models that answer requests")
def list_models(platform: Platform) -> list[dict[str, Any]]:
    """Return each model with its bundle's digest, system, and whether it may answer."""
    return [describe(platform.settings, name) for name in sorted(platform.settings.serving.models)]


@router.get("/v1/models/{name}", dependencies=[needs(Role.VIEWER)], summary="One model and its card")
def one_model(platform: Platform, name: str) -> dict[str, Any]:
    """Return one model with its card."""
    chosen = choose(platform, name)
    folder = local_folder(platform.settings, chosen)
    card = folder / "card.md" if folder is not None else None
    has_card = card is not None and card.exists()
    return describe(platform.settings, chosen) | {"card": card.read_text() if card and has_card else None}


def choose(platform: Serving, name: str | None) -> str:
    """Return the model that a request means. Raises `Problem` for an unknown or missing name."""
    models = platform.settings.serving.models
    if name is None and len(models) == 1:
        return next(iter(models))
    if name is None or name not in models:
        raise Problem(
            422,
            "unknown_model",
            "Name one of the models that serving.models lists.",
            models=sorted(models),
        )
    return name


def refuse_withdrawn(settings: Settings, name: str) -> None:
    """Raise `Problem` 409 for a model that may no longer answer."""
    if is_withdrawn(settings, name):
        raise Problem(
            409,
            "model_withdrawn",
            "A person whose data the model learned from has withdrawn: name another model.",
        )


def local_folder(settings: Settings, name: str) -> Path | None:
    """Return the folder of a model's bundle: its own, or the copy of the registered one; None before it was fetched."""
    where = settings.serving.models[name]
    if not where.startswith(REGISTERED):
        return settings.data_root / where
    record = files.read_json_object(fetched_record(settings, name))
    return None if record is None else Path(record["folder"])


def fetched_record(settings: Settings, name: str) -> Path:
    """Return where the predictor notes which registered version it has fetched."""
    return settings.layout.serving / "models" / f"{files.digest_of(name)[:16]}.json"


def is_withdrawn(settings: Settings, name: str) -> bool:
    """Tell whether somebody withdrew of those a model learned from, as the record beside its trainings says."""
    where = settings.serving.models[name]
    if where.startswith(REGISTERED):
        record = files.read_json_object(fetched_record(settings, name)) or {}
        home = record.get("experiment_home")
        return bool(record.get("is_withdrawn")) or (
            home is not None and (settings.data_root / home / WITHDRAWALS_NAME).exists()
        )
    return (settings.data_root / where).parent.joinpath(WITHDRAWALS_NAME).exists()


def describe(settings: Settings, name: str) -> dict[str, Any]:
    """Return what callers see of a model."""
    folder = local_folder(settings, name)
    bundle = (files.read_json_object(folder / "bundle.json") if folder is not None else None) or {}
    return {
        "name": name,
        "source": settings.serving.models[name],
        "system": bundle.get("system", "lung") if bundle else None,
        "digest": bundle.get("digest"),
        "experiment": bundle.get("experiment"),
        "is_available": bool(bundle) and not is_withdrawn(settings, name),
        "is_withdrawn": is_withdrawn(settings, name),
    }
