"""The screen of a platform's state: what waits for a person is told with its mend."""

from pathlib import Path

import pytest

from ct_assets.identity.key import SecretKey
from ct_assets.intake.batches import ingest
from ct_assets.reports import status
from ct_assets.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environ={"CT_ASSETS_DATA": str(tmp_path / "data")})


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / "one").write_bytes(b"one")
    return folder


def test_an_empty_platform_says_what_to_do_first(settings):
    assert any("ct-assets ingest" in line for line in status.collect(settings).to_do)


def test_a_complete_batch_waits_to_be_run(settings, drop, secret_hex):
    ingest(drop, settings.layout, SecretKey.from_hex(secret_hex))
    found = status.collect(settings)
    assert (found.waiting_in_inbox, found.incomplete_in_inbox) == (1, {})
    assert any("1 batches in the inbox" in line for line in found.to_do)


def test_folders_that_are_no_batch_are_told_by_reason_and_never_by_name(settings):
    for name in ("DOE^JANE", "without-marker"):
        (settings.layout.inbox / name).mkdir(parents=True)
    found = status.collect(settings)
    assert found.waiting_in_inbox == 0
    assert found.incomplete_in_inbox == {"batch_name_refused": 1, "batch_without_marker": 1}
    assert not any("DOE" in line for line in found.to_do)
    assert any("Bring it in with `ct-assets ingest`" in line for line in found.to_do)
