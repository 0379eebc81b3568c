"""The form of a data root: today's is worked on, an older one is upgraded whole, a newer one is left alone."""

import polars as pl
import pytest
from typer.testing import CliRunner

from ct_assets import files, tables
from ct_assets.cli import app
from ct_assets.cohort import case_numbers, splits
from ct_assets.cohort.splits_checks import broken_rows
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation.test_access_log import Reading, Readings
from ct_assets.lifecycle import backup, schema
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables.cohort import CaseNumbers, SplitLedger
from ct_assets_tests.lifecycle.small import NOW

PEOPLE = [f"PX{letter}" for letter in "BCDFGH"]


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path / "data")


def write_ledgers(layout: Layout) -> None:
    """Write both ledgers as this version does."""
    patients = pl.DataFrame({"patient_id": PEOPLE})
    ledger = splits.extend(None, patients, SplitSettings(folds=2), NOW)
    tables.write_table(layout.splits, ledger, SplitLedger)
    tables.write_table(layout.case_numbers, case_numbers.extend(None, PEOPLE), CaseNumbers)


def write_before_withdrawals(layout: Layout) -> None:
    """Write both ledgers as a version did that knew no withdrawals: without the column that tells tombstones."""
    write_ledgers(layout)
    for path in (layout.splits, layout.case_numbers):
        pl.read_parquet(path).drop("is_withdrawn").write_parquet(path)


def everything(layout: Layout) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}


def test_a_new_platform_gets_the_number(layout):
    schema.hold(layout)
    assert files.read_json(layout.platform_record) == {"schema": schema.SCHEMA}


def test_one_without_a_number_whose_ledgers_are_as_today_is_taken_over(layout):
    write_ledgers(layout)
    before = everything(layout)
    schema.hold(layout)
    after = everything(layout)
    assert after.pop(str(layout.platform_record))
    assert after == before


class TestANewerForm:
    def test_is_refused_with_the_mend_and_not_touched(self, layout):
        write_ledgers(layout)
        files.write_json(layout.platform_record, {"schema": schema.SCHEMA + 1})
        before = everything(layout)
        for action in (schema.hold, schema.upgrade):
            with pytest.raises(
                UsageError, match=rf"form {schema.SCHEMA + 1}.*newer version.*Install that version"
            ):
                action(layout)
        assert everything(layout) == before

    def test_a_record_that_says_nothing_is_refused(self, layout):
        files.write_json(layout.platform_record, {"schema": "?"})
        with pytest.raises(UsageError, match="no schema number"):
            schema.hold(layout)

    @pytest.mark.parametrize(
        "command",
        ["backup b.tar", "gc", "ingest drop", "promote lung", "quarantine list", "receive --list", "run",
         "service code", "status", "train", "ui", "upgrade", "verify", "withdraw SOMEBODY"],
    )  # fmt: skip
    def test_is_refused_by_every_command_over_a_platform_before_anything_is_opened(
        self, layout, command, tmp_path, monkeypatch, secret_hex
    ):
        monkeypatch.setenv("CT_ASSETS_DATA", str(layout.root))
        monkeypatch.setenv("CT_ASSETS_DEID_KEY", secret_hex)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop/IM1").write_bytes(b"x")
        files.write_json(layout.platform_record, {"schema": schema.SCHEMA + 1})
        before = everything(layout)
        refused = CliRunner().invoke(app, command.split()).exception
        assert isinstance(refused, UsageError)
        assert "newer version" in str(refused)
        assert everything(layout) == before


class TestAnOlderForm:
    def test_is_backed_up_as_it_is_before_the_upgrade(self, layout, tmp_path):
        write_before_withdrawals(layout)
        before = everything(layout)
        backup.back_up(layout, tmp_path / "backup.tar", None, NOW)
        again = Layout(tmp_path / "again")
        backup.restore(tmp_path / "backup.tar", again, None)
        assert sorted(everything(again).values()) == sorted(before.values())
        schema.upgrade(again)
        schema.hold(again)

    def test_is_refused_by_name_until_it_is_upgraded(self, layout):
        write_before_withdrawals(layout)
        before = everything(layout)
        with pytest.raises(UsageError, match=r"splits\.parquet lacks is_withdrawn.*ct-assets upgrade"):
            schema.hold(layout)
        assert everything(layout) == before

    def test_upgraded_it_is_what_this_version_would_have_written(self, layout, tmp_path):
        write_before_withdrawals(layout)
        done = schema.upgrade(layout)
        assert done[-1] == f"form 0 to {schema.SCHEMA}"
        today = Layout(tmp_path / "today")
        write_ledgers(today)
        for path, other in ((layout.splits, today.splits), (layout.case_numbers, today.case_numbers)):
            assert pl.read_parquet(path).equals(pl.read_parquet(other))
        assert broken_rows(tables.read_table(layout.splits, SplitLedger)) == []
        schema.hold(layout)

    def test_killed_halfway_it_is_refused_and_upgraded_by_the_next_try(self, layout, monkeypatch):
        write_before_withdrawals(layout)
        write = tables.write_table

        def die_at_the_second(path, *arguments, **options):
            if path == layout.case_numbers:
                raise KeyboardInterrupt
            write(path, *arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(tables, "write_table", die_at_the_second)
            with pytest.raises(KeyboardInterrupt):
                schema.upgrade(layout)
        with pytest.raises(UsageError, match=r"case_numbers\.parquet lacks is_withdrawn"):
            schema.hold(layout)
        schema.upgrade(layout)
        schema.hold(layout)
        assert broken_rows(tables.read_table(layout.splits, SplitLedger)) == []

    def test_the_ledger_of_brain_ct_is_held_to_the_form_as_well(self, layout):
        write_ledgers(layout)
        ledger = pl.read_parquet(layout.splits)
        layout.brain.mkdir(parents=True)
        ledger.drop("is_withdrawn").write_parquet(layout.brain / "splits.parquet")
        with pytest.raises(UsageError, match=r"splits\.parquet lacks is_withdrawn"):
            schema.hold(layout)
        schema.upgrade(layout)
        assert pl.read_parquet(layout.brain / "splits.parquet").equals(ledger)

    def test_a_ledger_that_no_version_wrote_is_refused_by_name_and_not_touched(self, layout):
        write_ledgers(layout)
        pl.read_parquet(layout.splits).with_columns(colour=pl.lit("red")).write_parquet(layout.splits)
        before = everything(layout)
        with pytest.raises(UsageError, match="has unknown colour"):
            schema.upgrade(layout)
        assert everything(layout) == before

    def test_upgrading_twice_does_nothing(self, layout):
        write_before_withdrawals(layout)
        schema.upgrade(layout)
        before = everything(layout)
        assert schema.upgrade(layout) == []
        assert everything(layout) == before


def test_a_table_that_another_version_wrote_is_refused_by_name_with_the_columns_it_lacks(layout):
    write_ledgers(layout)
    pl.read_parquet(layout.case_numbers).drop("is_withdrawn").write_parquet(layout.case_numbers)
    with pytest.raises(UsageError, match=r"case_numbers\.parquet: lacks is_withdrawn; another version"):
        tables.read_table(layout.case_numbers, CaseNumbers)


class TestReadingsOfTheTestSplit:
    def test_a_systems_own_ledger_is_refused_until_its_readings_are_in_the_platforms(self, layout):
        own, shared = Readings(layout.brain), Readings.of(layout)
        reading = Reading(experiment="first", model_digest="m", test_digest="t", settings_digest="s")
        shared.open(reading, force=False)
        own.open(reading.model_copy(update={"experiment": "brain"}), force=False)
        own.open(reading.model_copy(update={"experiment": "brain", "model_digest": "n"}), force=True)
        files.write_json(layout.platform_record, {"schema": 1})
        with pytest.raises(UsageError, match=r"brain/test_readings\.jsonl is a ledger of its own"):
            schema.hold(layout)
        schema.upgrade(layout)
        assert schema.upgrade(layout) == []
        schema.hold(layout)
        lines = Readings.of(layout).lines
        assert [line["experiment"] for line in lines] == ["first", "brain/brain", "brain/brain"]
        assert [line["is_forced"] for line in lines] == [False, False, True]
        assert [line["read_at"] for line in lines[1:]] == [line["read_at"] for line in own.lines]
        with pytest.raises(UsageError, match="test_already_read"):
            Readings.of(layout).open(
                reading.model_copy(update={"experiment": "brain/brain", "model_digest": "o"}), force=False
            )

    def test_form_1_without_one_is_taken_over(self, layout):
        files.write_json(layout.platform_record, {"schema": 1})
        schema.hold(layout)
        assert schema.number_of(layout) == schema.SCHEMA
