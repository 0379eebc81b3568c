import pickle

import pytest

from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey, check_record, hold_to_record, make_key_file


class TestLoadingAKey:
    def test_the_environment_comes_before_the_file(self, tmp_path, secret_hex):
        make_key_file(tmp_path / "key")
        loaded = SecretKey.load(tmp_path / "key", {"CT_ASSETS_DEID_KEY": secret_hex})
        assert loaded == SecretKey.from_hex(secret_hex)

    @pytest.mark.parametrize(
        ("text", "said"),
        [("", "no key"), ("ab" * 31, "found 62"), ("zz" * 32, "other characters"), ("00" * 32, "no secret")],
    )
    def test_a_key_that_is_none_is_refused_with_the_mend(self, text, said):
        with pytest.raises(UsageError, match=said) as refused:
            SecretKey.load(None, {"CT_ASSETS_DEID_KEY": text})
        assert "key new" in str(refused.value)
        assert not text or text not in str(refused.value)

    def test_a_key_file_open_to_others_is_refused(self, tmp_path):
        make_key_file(tmp_path / "key")
        (tmp_path / "key").chmod(0o644)
        with pytest.raises(UsageError, match="chmod 600"):
            SecretKey.load(tmp_path / "key", {})

    def test_a_missing_or_binary_key_file_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="no such key file"):
            SecretKey.load(tmp_path / "none", {})
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "binary").chmod(0o600)
        with pytest.raises(UsageError, match="64 hex digits"):
            SecretKey.load(tmp_path / "binary", {})


class TestMakingAKey:
    def test_it_is_for_its_owner_only_and_never_made_twice(self, tmp_path):
        make_key_file(tmp_path / "key")
        before = (tmp_path / "key").read_text()
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        with pytest.raises(UsageError, match="exists already"):
            make_key_file(tmp_path / "key")
        assert (tmp_path / "key").read_text() == before
        assert len(SecretKey.load(tmp_path / "key", {}).secret) == 32


class TestTheSecret:
    def test_never_shows(self, secret_hex):
        key = SecretKey.from_hex(secret_hex)
        assert secret_hex not in repr(key)
        assert secret_hex not in key.fingerprint

    def test_domains_and_parts_are_kept_apart(self, secret_hex):
        key = SecretKey.from_hex(secret_hex)
        assert key.digest("uid", "x") != key.digest("pseudonym", "x")
        assert key.digest("uid", "ab", "c") != key.digest("uid", "a", "bc")

    def test_a_copy_in_another_process_gives_the_same(self, secret_hex):
        key = SecretKey.from_hex(secret_hex)
        key.digest("uid", "x")
        assert pickle.loads(pickle.dumps(key)).digest("uid", "x") == key.digest("uid", "x")


class TestTheRecord:
    def test_another_key_is_refused_where_one_was_used(self, tmp_path, secret_hex):
        hold_to_record(tmp_path / "record.json", SecretKey.from_hex(secret_hex))
        check_record(tmp_path / "record.json", SecretKey.from_hex(secret_hex))
        with pytest.raises(UsageError, match="another key"):
            check_record(tmp_path / "record.json", SecretKey(bytes(range(32))))
