"""A data root in a store, as settings and environment name it."""

from pathlib import Path

import pytest

from ct_assets.errors import UsageError
from ct_assets.settings import load_settings


def settings_of(tmp_path: Path, text: str, **environ: str):
    (tmp_path / "settings.yaml").write_text(text)
    return load_settings(tmp_path / "settings.yaml", environ=environ)


def test_a_url_is_parted_into_the_store_and_the_working_copy(tmp_path):
    settings = settings_of(tmp_path, "data_root: az://container/lung/\nstorage: {work_root: work}")
    assert settings.storage.url == "az://container/lung"
    assert settings.data_root == tmp_path / "work"


def test_a_folder_is_a_folder(tmp_path):
    settings = settings_of(tmp_path, "data_root: data")
    assert settings.storage.url is None
    assert settings.data_root == tmp_path / "data"


def test_the_environment_names_either(tmp_path):
    in_store = settings_of(tmp_path, "storage: {work_root: work}", CT_ASSETS_DATA="s3://bucket/lung")
    assert (in_store.storage.url, in_store.data_root) == ("s3://bucket/lung", tmp_path / "work")
    local = settings_of(tmp_path, "data_root: az://container/lung", CT_ASSETS_DATA=str(tmp_path / "here"))
    assert (local.storage.url, local.data_root) == (None, tmp_path / "here")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("gs://bucket/lung", "begins with"),
        ("az://container", "a folder in it"),
        ("s3://key:secret@bucket/lung", "without credentials"),
        ("az://container/lung?sig=abc", "without credentials"),
    ],
)
def test_what_names_no_folder_of_a_store_is_refused(tmp_path, url, why):
    with pytest.raises(UsageError, match=why):
        settings_of(tmp_path, f"data_root: {url}")
    with pytest.raises(UsageError, match=why):
        settings_of(tmp_path, "", CT_ASSETS_DATA=url)
