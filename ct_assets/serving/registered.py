"""Registered models for the predictor: fetched once a version, with what the register says about withdrawals.

Belongs here: following an alias (`models:/lung@champion`) into a folder of this machine. Imports MLflow when called.
"""

import shutil

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.serving.models import fetched_record
from ct_assets.settings import Settings


def fetch(settings: Settings, name: str, where: str) -> None:
    """Fetch the version that `where` means now, unless it is here, and note folder and withdrawals.

    Raises `UsageError` where the register does not answer or does not know it.
    """
    from mlflow.exceptions import MlflowException

    from ct_assets.learning.models import registry
    from ct_assets.learning.training import tracking

    uri = settings.tracking.uri or tracking.default_uri(settings.layout)
    client = tracking.client(uri)
    record = fetched_record(settings, name)
    model, _, alias = where.removeprefix(registry.SCHEME).partition("@")
    model, _, number = model.partition("/")
    try:
        version = (
            client.get_model_version_by_alias(model, alias)
            if alias
            else client.get_model_version(model, number)
        )
    except MlflowException:
        raise UsageError(f"{where}: not in the register, or it does not answer") from None
    known = files.read_json_object(record) or {}
    folder = record.with_suffix("") / str(version.version)
    if known.get("version") != str(version.version) or not folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        bundle = registry.fetch(f"{registry.SCHEME}{model}/{version.version}", uri, folder)
    else:
        bundle = folder / known["bundle"]
    described = files.read_json(bundle / "bundle.json")
    files.write_json(
        record,
        {
            "version": str(version.version),
            "bundle": bundle.relative_to(folder).as_posix(),
            "folder": str(bundle),
            "experiment_home": f"models/{described.get('experiment', '')}",
            "is_withdrawn": bool(version.tags.get(registry.WITHDRAWN_TAG)),
        },
    )
