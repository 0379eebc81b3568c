"""Folders are swapped in whole, or not at all; a disk without room is told from other faults."""

import errno
import sqlite3

import pytest

from ct_assets import files


def test_a_folder_that_could_not_be_filled_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    files.replace_directory(tmp_path / "cases", lambda folder: (folder / "case").touch())

    def fails(folder):
        (folder / "another").touch()
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.replace_directory(tmp_path / "cases", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["case"]


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
    assert files.is_disk_full(raised.value)
    assert files.is_disk_full(OSError(errno.ENOSPC, "words of any language"))
    assert files.is_disk_full(OSError(errno.EDQUOT, "words of any language"))


def test_other_faults_of_a_database_or_a_disk_are_not_that(tmp_path):
    with (
        sqlite3.connect(tmp_path / "whole.db") as connection,
        pytest.raises(sqlite3.OperationalError) as raised,
    ):
        connection.execute("SELECT * FROM nothing")
    assert not files.is_disk_full(raised.value)
    assert not files.is_disk_full(OSError(errno.EIO, "Input/output error"))
    assert not files.is_disk_full(PermissionError(errno.EACCES, "denied"))
