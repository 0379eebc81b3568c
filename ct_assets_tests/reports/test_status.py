"""The screen of a platform's state: what waits for a person is told with its mend."""

import sqlite3
from pathlib import Path

import pytest

from ct_assets import files
from ct_assets.identity.key import SecretKey
from ct_assets.intake.batches import ingest
from ct_assets.learning.models.champion import REGISTERED_NAME
from ct_assets.reports import status
from ct_assets.reports.alerts import Alert
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
    assert any("1 new batch in the inbox" in line for line in found.to_do)


def test_a_refused_batch_is_no_new_one(settings, drop, secret_hex):
    batch = ingest(drop, settings.layout, SecretKey.from_hex(secret_hex))
    found = status.collect(settings, status.InstanceFacts(refused=frozenset({batch})))
    assert (found.waiting_in_inbox, found.refused_in_inbox) == (0, (batch,))
    assert [line for line in found.to_do if batch in line] == [
        f"batch {batch} was refused: deliver it again under the same name, corrected"
    ]


def test_what_failed_and_what_is_stale_is_shown_with_cause_and_remedy(settings, capsys):
    failed = Alert("run failed", "fold_model", "lung|2", "disk_full")
    stale = "eligibility: files outside the graph changed; `ct-assets run` makes it again"
    status.show(settings, status.InstanceFacts(stale=(stale,), failures=((failed, 2),)))
    shown = " ".join(capsys.readouterr().out.split())
    assert stale in shown
    assert "fold_model of lung|2: disk_full (2 runs)." in shown


class TestPromotion:
    @pytest.fixture
    def experiment(self, settings):
        folder = settings.layout.experiment("lung-1")
        settings.layout.final_model("lung-1").mkdir(parents=True)
        files.write_json(folder / "configuration.json", {})
        files.write_json(folder / REGISTERED_NAME, {"name": "lung", "version": "2", "uri": ""})
        settings.layout.mlflow.mkdir(parents=True)
        database = sqlite3.connect(settings.layout.mlflow / "mlflow.db")
        database.execute("CREATE TABLE registered_model_aliases (alias, version, name)")
        return database

    @pytest.mark.parametrize(
        ("version", "shown", "is_asked"),
        [(None, "candidate", True), (1, "champion: version 1", True), (2, "champion", False)],
    )
    def test_it_is_asked_for_until_it_is_done(self, settings, experiment, version, shown, is_asked):
        if version is not None:
            experiment.execute(
                "INSERT INTO registered_model_aliases VALUES ('champion', ?, 'lung')", (version,)
            )
            experiment.commit()
        experiment.close()
        found = status.collect(settings)
        assert found.experiments[0]["registered"] == f"lung version 2 ({shown})"
        assert any("ct-assets promote" in line for line in found.to_do) is is_asked


def test_folders_that_are_no_batch_are_told_by_reason_and_never_by_name(settings):
    for name in ("DOE^JANE", "without-marker"):
        (settings.layout.inbox / name).mkdir(parents=True)
    found = status.collect(settings)
    assert found.waiting_in_inbox == 0
    assert found.incomplete_in_inbox == {"batch_name_refused": 1, "batch_without_marker": 1}
    assert not any("DOE" in line for line in found.to_do)
    assert any("Bring it in with `ct-assets ingest`" in line for line in found.to_do)
