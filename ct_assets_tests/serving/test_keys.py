"""Keys: shown once, kept as a keyed digest, expiring, rotated and revoked."""

import sqlite3
import time

import pytest

from ct_assets.errors import UsageError
from ct_assets.serving.keys import Keys, Role


@pytest.fixture
def keys(api):
    return api.serving.keys


def test_a_key_has_256_random_bits(keys):
    made = {keys.make("a", Role.VIEWER, 1)[1] for _ in range(20)}
    assert len({key.rpartition("_")[2] for key in made}) == 20
    assert all(len(bytes.fromhex(key.rpartition("_")[2])) == 32 for key in made)


def test_the_database_does_not_hold_the_key(api, keys):
    _, key = keys.make("a", Role.VIEWER, 1)
    folder = api.serving.settings.layout.serving
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert key.rpartition("_")[2].encode() not in kept


def test_a_key_is_worth_nothing_on_another_platform(api, keys, tmp_path):
    _, key = keys.make("a", Role.VIEWER, 1)
    (tmp_path / "other").mkdir()
    assert keys.caller(key).role is Role.VIEWER
    assert Keys(api.serving.store, tmp_path / "other").caller(key) is None


def test_a_key_with_one_digit_changed_is_refused(keys):
    _, key = keys.make("a", Role.ADMIN, 1)
    other = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert keys.caller(key) is not None
    assert keys.caller(other) is None


def test_an_expired_key_is_refused(keys):
    _, key = keys.make("a", Role.VIEWER, 1, now=time.time() - 86401)
    assert keys.caller(key) is None


def test_a_revoked_key_is_refused_at_once(keys):
    key_id, key = keys.make("a", Role.VIEWER, 1)
    keys.revoke(key_id)
    assert keys.caller(key) is None
    with pytest.raises(UsageError, match="revoked already"):
        keys.revoke(key_id)


def test_another_process_hears_of_a_revocation_within_seconds(api, keys, monkeypatch):
    key_id, key = keys.make("a", Role.VIEWER, 1)
    other = Keys(api.serving.store, api.serving.settings.layout.serving)
    assert other.caller(key) is not None
    keys.revoke(key_id)
    before = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: before + 2.1)
    assert other.caller(key) is None


def test_after_a_rotation_both_work_until_the_overlap_ends(keys):
    key_id, old = keys.make("a", Role.OPERATOR, 30)
    _, new = keys.rotate(key_id, 30, overlap_s=60)
    assert keys.caller(old).role is keys.caller(new).role is Role.OPERATOR
    _, newest = keys.rotate(keys.caller(new).key_id, 30, overlap_s=0)
    assert (keys.caller(new), keys.caller(newest).role) == (None, Role.OPERATOR)


def test_folder_database_and_pepper_are_closed_to_others(api):
    folder = api.serving.settings.layout.serving
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (folder, folder / "serving.db", folder / "pepper")
    }
    assert modes == {"serving": 0o700, "serving.db": 0o600, "pepper": 0o600}


def test_the_version_stands_in_a_table_of_its_own(api):
    path = api.serving.settings.layout.serving / "serving.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM serving_alembic_version").fetchall() == [("0001",)]
