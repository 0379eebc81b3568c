"""A backup holds a platform whole, and gives it back to the byte or not at all."""

import json
import shutil
import sqlite3
import stat
import tarfile

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.layout import Layout
from ct_assets.lifecycle import backup, schema, withdraw
from ct_assets.lifecycle.unfinished import due, refuse_unfinished
from ct_assets_tests.lifecycle import small
from ct_assets_tests.lifecycle.small import HERS, KEY


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small.platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture
def here(original, tmp_path):
    shutil.copytree(original.layout.root, tmp_path / "data", symlinks=True)
    return Layout(tmp_path / "data")


@pytest.fixture
def saved(here, tmp_path):
    backup.back_up(here, tmp_path / "backup.tar", None, small.NOW)
    return tmp_path / "backup.tar"


def digests(layout) -> dict[str, str]:
    """Every file's digest; databases by their rows, locks and the record of backups left out."""
    found = {}
    for path in sorted(layout.root.rglob("*")):
        name = path.relative_to(layout.root).as_posix()
        if not path.is_file() or name.endswith((".lock", "-wal", "-shm")) or path == layout.backups:
            continue
        if path.suffix == ".db":
            with sqlite3.connect(path) as database:
                found[name] = "\n".join(database.iterdump())
        else:
            found[name] = files.sha256_file(path)
    return found


def modes(layout) -> dict[str, int]:
    return {
        path.relative_to(layout.root).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in layout.root.rglob("*")
        if not path.name.endswith((".lock", ".db-wal", ".db-shm"))
        and path != layout.backups.parent
        and path != layout.backups
    }


class TestThereAndBack:
    def test_every_file_comes_back_to_the_same_digest_time_and_permission(self, here, saved, tmp_path):
        made = backup.restore(saved, Layout(tmp_path / "again"), KEY)
        again = Layout(tmp_path / "again")
        assert digests(again) == digests(here)
        assert modes(again) == modes(here)
        assert made.files == len(digests(here))
        name = "nifti/imagesTr/case_0000.nii.gz"
        assert (again.root / name).stat().st_mtime_ns == (here.root / name).stat().st_mtime_ns

    def test_what_a_database_holds_in_its_write_ahead_log_is_in_it(self, here, tmp_path):
        database = sqlite3.connect(here.mlflow / "mlflow.db")
        database.execute("insert into tags values ('late', 'row')")
        database.commit()  # stays in the log while the connection is open
        backup.back_up(here, tmp_path / "backup.tar", None)
        database.close()
        backup.restore(tmp_path / "backup.tar", Layout(tmp_path / "again"), KEY)
        with sqlite3.connect(tmp_path / "again/mlflow/mlflow.db") as restored:
            assert restored.execute("select value from tags where key = 'late'").fetchall() == [("row",)]

    def test_one_file_under_two_names_comes_back_under_both(self, here, tmp_path):
        """Checkpoints are linked: the last one is the best one as well."""
        last = here.root / "models/e/1/last.ckpt"
        last.write_bytes(b"weights")
        last.with_name("best-000001.ckpt").hardlink_to(last)
        backup.back_up(here, tmp_path / "linked.tar", None)
        backup.restore(tmp_path / "linked.tar", Layout(tmp_path / "again"), KEY)
        assert digests(Layout(tmp_path / "again")) == digests(here)

    def test_names_that_are_no_text_come_back(self, here, tmp_path):
        odd = here.root / "raw" / b"odd-\xff\xe9.dcm".decode("utf-8", "surrogateescape")
        odd.write_bytes(b"x")
        backup.back_up(here, tmp_path / "backup.tar", None)
        backup.restore(tmp_path / "backup.tar", Layout(tmp_path / "again"), KEY)
        assert (tmp_path / "again/raw" / odd.name).read_bytes() == b"x"

    def test_only_its_owner_can_read_it_and_the_key_is_not_in_it(self, here, tmp_path):
        (here.root / "secret.key").write_text("00" * 32)
        backup.back_up(here, tmp_path / "backup.tar", here.root / "secret.key")
        assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
        with tarfile.open(tmp_path / "backup.tar") as archive:
            assert "data/secret.key" not in archive.getnames()

    def test_the_platform_knows_its_backups(self, here, saved):
        [line] = backup.known(here)
        assert line["made_at"] == "2026-03-01T00:00:00+00:00"
        assert line["tombstones"] == 0


class TestRefused:
    def test_a_restore_over_anything(self, here, saved):
        with pytest.raises(UsageError, match="is not empty; move it away first"):
            backup.restore(saved, here, KEY)

    def test_another_key(self, saved, tmp_path):
        with pytest.raises(UsageError, match="another key"):
            backup.restore(saved, Layout(tmp_path / "again"), SecretKey(bytes(range(1, 33))))
        assert not (tmp_path / "again").exists()

    @pytest.mark.parametrize("place", [0.2, 0.6, 0.97])
    def test_a_damaged_file_restores_nothing(self, saved, tmp_path, place):
        content = bytearray(saved.read_bytes())
        at = int(len(content) * place)
        content[at : at + 2000] = b"\x55" * 2000
        saved.write_bytes(content)
        with pytest.raises(UsageError, match="damaged"):
            backup.restore(saved, Layout(tmp_path / "again"), KEY)
        assert not (tmp_path / "again").exists()
        assert not list(tmp_path.glob(".partial-*"))

    def test_a_cut_file(self, saved, tmp_path):
        saved.write_bytes(saved.read_bytes()[:-30000])
        with pytest.raises(UsageError, match="damaged"):
            backup.restore(saved, Layout(tmp_path / "again"), KEY)

    def test_a_member_that_points_outside(self, tmp_path):
        with tarfile.open(tmp_path / "bad.tar", "w") as archive:
            archive.add(__file__, arcname="data/../../outside")
        with pytest.raises(UsageError, match="no backup"):
            backup.restore(tmp_path / "bad.tar", Layout(tmp_path / "again"), None)
        assert not (tmp_path / "outside").exists()

    def test_a_backup_of_a_newer_version(self, here, saved, tmp_path, monkeypatch):
        monkeypatch.setattr(schema, "SCHEMA", 0)
        with pytest.raises(UsageError, match="newer version"):
            backup.restore(saved, Layout(tmp_path / "again"), KEY)

    def test_a_target_below_the_data_root_and_an_existing_one(self, here, saved):
        with pytest.raises(UsageError, match="lies under the data root"):
            backup.back_up(here, here.root / "backup.tar", None)
        with pytest.raises(UsageError, match="exists already"):
            backup.back_up(here, saved, None)

    def test_while_a_withdrawal_is_not_finished(self, here, tmp_path):
        files.write_json(here.withdrawal_under_way, {})
        with pytest.raises(UsageError, match="broken off"):
            backup.back_up(here, tmp_path / "backup.tar", None)


class TestWhoWithdrewSince:
    @pytest.fixture
    def tombstones(self, original, here, saved, tmp_path):
        """She withdraws from the platform after the backup was made; its record is kept apart."""
        small.carry_out(small.Small(here, original.drop, original.first, original.second))
        kept = tmp_path / "kept.jsonl"
        shutil.copy(here.tombstones, kept)
        return kept

    def test_is_due_again_and_nothing_runs_until_it_is_done(self, original, saved, tombstones, tmp_path):
        again = Layout(tmp_path / "again")
        backup.restore(saved, again, KEY, tombstones)
        with pytest.raises(UsageError, match="withdrew after the backup"):
            refuse_unfinished(again)
        people = {original.pseudonym_of(one) for one in (HERS, small.HIS, small.STRANGER)}
        assert due(again, people, KEY) == [original.pseudonym_of(HERS)]

    def test_and_can_be_taken_out_of_it_as_before(self, original, here, saved, tombstones, tmp_path):
        again = Layout(tmp_path / "again")
        backup.restore(saved, again, KEY, tombstones)
        place = small.Small(again, original.drop, original.first, original.second)
        found = withdraw.look(original.pseudonym_of(HERS), again, KEY, workers=1)
        again.withdrawals_due.unlink()
        small.finish(place, found)
        assert again.tombstones.read_text() == here.tombstones.read_text()
        words = original.her_words - {"case_0001"}
        assert small.files_with(again.root, words) == []

    def test_a_file_that_is_no_record_of_tombstones_is_refused(self, saved, tmp_path):
        (tmp_path / "wrong.jsonl").write_text(json.dumps({"some": "line"}) + "\n")
        with pytest.raises(UsageError, match="no record of tombstones"):
            backup.restore(saved, Layout(tmp_path / "again"), KEY, tmp_path / "wrong.jsonl")
        assert not (tmp_path / "again").exists()
