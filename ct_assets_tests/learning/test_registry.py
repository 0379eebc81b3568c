"""The register of models leaves the rest of the process as it found it."""

import os

import pytest

from ct_assets.errors import UsageError
from ct_assets.learning.models import registry

SETTINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


@pytest.mark.parametrize("before", [None, "sqlite:///of_somebody_else.db"])
def test_what_mlflow_was_set_to_before_a_model_is_fetched_it_is_set_to_after(tmp_path, monkeypatch, before):
    for name in SETTINGS:
        monkeypatch.setenv(name, before) if before else monkeypatch.delenv(name, raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(UsageError, match="not in the register"):
        registry.fetch("models:/nothing@champion", uri, tmp_path / "fetched")
    assert [os.environ.get(name) for name in SETTINGS] == [before, before]
