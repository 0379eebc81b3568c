import uuid

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from ct_assets.identity.key import SecretKey
from ct_assets.identity.uids import is_own, new_uid
from ct_assets_tests.deid.made import KEY

uids = st.lists(st.integers(0, 10**9), min_size=3, max_size=6).map(
    lambda parts: "1." + ".".join(map(str, parts))
)


@given(uids)
def test_a_new_uid_is_a_valid_uuid_uid(old):
    new = new_uid(KEY, old)
    assert UID(new).is_valid
    assert len(new) <= 64
    made = uuid.UUID(int=int(new.removeprefix("2.25.")))
    assert (made.version, made.variant) == (4, uuid.RFC_4122)


@given(uids)
def test_padding_makes_no_other_uid(old):
    assert new_uid(KEY, old + "\0") == new_uid(KEY, old) == new_uid(KEY, f" {old} ")


@given(uids, uids)
def test_different_uids_stay_different(first, second):
    assert (first == second) == (new_uid(KEY, first) == new_uid(KEY, second))


def test_the_standards_own_uids_are_never_replaced():
    for known in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.4.1.1"):
        assert new_uid(KEY, known) == known
    assert new_uid(KEY, "") == ""


@given(uids)
def test_our_uids_prove_themselves_to_our_key_alone(old):
    new = new_uid(KEY, old)
    assert is_own(KEY, new)
    assert not is_own(SecretKey(bytes(range(1, 33))), new)
    assert not is_own(KEY, old)


def test_foreign_uuids_are_not_taken_for_ours():
    foreign = [
        f"2.25.{uuid.UUID(int=(n * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128).int}" for n in range(500)
    ]
    assert not any(is_own(KEY, uid) for uid in foreign)
    assert not is_own(KEY, "2.25.not-a-number")
    assert not is_own(KEY, "2.25." + "9" * 60)
