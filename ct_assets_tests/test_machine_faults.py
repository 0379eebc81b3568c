"""Faults of the machine are known by their codes; real ones of real databases, without a full disk."""

import errno
import sqlite3

import pytest

from ct_assets import machine_faults


def sqlite_without_room(path):
    """Return what sqlite raises where its file may not grow: a real one, without a full disk."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rows (content)")
        connection.execute("PRAGMA max_page_count = 2")
        try:
            connection.execute("INSERT INTO rows VALUES (zeroblob(100000))")
        except sqlite3.OperationalError as error:
            return error
        finally:
            connection.rollback()
    raise AssertionError("the file grew")


def recorded_without_room(path):
    try:
        raise sqlite_without_room(path)
    except sqlite3.OperationalError as error:
        raise RuntimeError("while recording") from error


def test_no_room_is_known_by_its_code_however_deep_it_lies(tmp_path):
    with pytest.raises(RuntimeError) as raised:
        recorded_without_room(tmp_path / "full.db")
    assert machine_faults.is_disk_full(raised.value)
    assert machine_faults.is_disk_full(OSError(errno.ENOSPC, "words of any language"))
    assert machine_faults.is_disk_full(OSError(errno.EDQUOT, "words of any language"))


def test_other_faults_of_a_database_or_a_disk_are_not_that(tmp_path):
    with (
        sqlite3.connect(tmp_path / "whole.db") as connection,
        pytest.raises(sqlite3.OperationalError) as raised,
    ):
        connection.execute("SELECT * FROM nothing")
    assert not machine_faults.is_disk_full(raised.value)
    assert not machine_faults.is_disk_full(OSError(errno.EIO, "Input/output error"))
    assert not machine_faults.is_disk_full(PermissionError(errno.EACCES, "denied"))
    assert machine_faults.told(raised.value) is None


def test_a_database_that_another_process_keeps_locked_does_not_answer(tmp_path):
    path = tmp_path / "locked.db"
    with sqlite3.connect(path) as holder:
        holder.execute("CREATE TABLE rows (content)")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(path, timeout=0).execute("SELECT * FROM rows")
    holder.close()
    assert machine_faults.told(raised.value) == machine_faults.DATABASE_AWAY


def test_a_database_server_that_is_gone_does_not_answer():
    psycopg2 = pytest.importorskip("psycopg2", reason="the extra `postgres` is not installed here")
    with pytest.raises(psycopg2.OperationalError) as raised:
        psycopg2.connect("postgresql://ct@127.0.0.1:1/ct", connect_timeout=2)  # nobody listens on port 1
    assert machine_faults.told(raised.value) == machine_faults.DATABASE_AWAY


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
def test_a_place_that_may_not_be_written_is_named_with_a_remedy(number):
    cause = OSError(number, "words of any language", "/srv/platform/reports")
    try:
        raise RuntimeError("a step failed") from cause
    except RuntimeError as error:
        message = machine_faults.told(error)
    assert message.startswith("/srv/platform/reports: ")
    assert "CT_ASSETS_DATA" in message


def test_a_missing_file_is_no_such_place():
    assert machine_faults.unwritable(FileNotFoundError(errno.ENOENT, "", "/srv/x")) is None
