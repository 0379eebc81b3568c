"""The ledger of readings of the test split: what was read once stays known, whatever became of the file."""

import orjson
import pytest

from ct_assets.errors import SafetyError
from ct_assets.learning.evaluation.test_access_log import LEDGER_NAME, Reading, Readings


def read(folder, experiment):
    reading = Reading(experiment=experiment, model_digest="m", test_digest="t", settings_digest="s")
    Readings(folder).open(reading, force=True)


@pytest.fixture
def ledger(tmp_path):
    read(tmp_path, "first")
    read(tmp_path, "second")
    return tmp_path / LEDGER_NAME


def test_a_deleted_ledger_is_noticed(ledger):
    ledger.unlink()
    with pytest.raises(SafetyError, match="2 readings of the test split were made"):
        read(ledger.parent, "third")


def test_a_line_that_was_taken_out_is_noticed(ledger):
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(SafetyError, match="no longer holds all"):
        Readings(ledger.parent)


def test_a_line_that_is_no_json_is_named(ledger):
    ledger.write_bytes(b"{}\n" + ledger.read_bytes())
    with pytest.raises(SafetyError, match="changed by hand"):
        Readings(ledger.parent)


def test_an_unfinished_last_line_is_told_and_replaced_by_the_next(ledger, capsys):
    with ledger.open("ab") as opened:
        opened.write(b'{"exp')
    assert Readings(ledger.parent).count() == 2
    assert "never finished" in capsys.readouterr().err
    read(ledger.parent, "third")
    told = [orjson.loads(line)["experiment"] for line in ledger.read_bytes().splitlines()]
    assert told == ["first", "second", "third"]


def test_a_line_that_came_after_the_record_was_written_is_held(ledger):
    (ledger.parent / "test_readings_record.json").unlink()
    assert Readings(ledger.parent).count() == 2
    read(ledger.parent, "second")
    ledger.unlink()
    with pytest.raises(SafetyError):
        Readings(ledger.parent)
