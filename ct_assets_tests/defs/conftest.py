"""A platform of its own for each test, over a temporary data root."""

import os
from pathlib import Path

import dagster as dg
import pytest

from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.platform import Platform
from ct_assets.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, secret_hex: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shipped settings over an empty data root, with a key in the environment."""
    monkeypatch.setenv("CT_ASSETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CT_ASSETS_DEID_KEY", secret_hex)
    monkeypatch.delenv("CT_ASSETS_LABELS", raising=False)
    monkeypatch.delenv("CT_ASSETS_CONFIG", raising=False)
    assert "DAGSTER_HOME" not in os.environ, "tests make instances of their own"
    return load_settings()


@pytest.fixture
def platform(settings: Settings) -> Platform:
    return Platform(settings)


@pytest.fixture
def definitions(settings: Settings) -> dg.Definitions:
    return build_definitions(settings)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    """A delivery of two small files; what is in them does not matter to the intake."""
    folder = tmp_path / "drop"
    (folder / "study").mkdir(parents=True)
    (folder / "study/first").write_bytes(b"first")
    (folder / "study/second").write_bytes(b"second")
    return folder
