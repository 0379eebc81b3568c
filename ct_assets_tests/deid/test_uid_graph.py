"""The crosswalk of UIDs: one row a UID, its kind, what it lies under, whether anything has it."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.deid.batch import uid_graph
from ct_assets.deid.batch.gather import UidSeen, joined
from ct_assets.identity.uids import new_uid
from ct_assets.settings.deid import DeidProfile
from ct_assets_tests.deid.made import KEY

SEEN = {
    "1.2.1": UidSeen("study", is_object=True),
    "1.2.1.1": UidSeen("series", "1.2.1", is_object=True),
    "1.2.1.1.1": UidSeen("instance", "1.2.1.1", is_object=True),
    "1.2.9.9": UidSeen("instance", "1.2.1.7"),
    "1.2.1.7": UidSeen("series", "1.2.1"),
    "1.2.8": UidSeen("device"),
}


def rows(profile: DeidProfile | None = None) -> dict[str, dict[str, object]]:
    table = uid_graph.build(SEEN, profile or DeidProfile(), KEY)
    return {row["old_uid"]: row for row in table.iter_rows(named=True)}


def test_every_parent_is_a_row_of_the_map_itself() -> None:
    found = rows()
    new = {row["new_uid"] for row in found.values()}
    assert {row["parent_new_uid"] for row in found.values()} - {None} <= new
    assert found["1.2.1.1.1"]["parent_new_uid"] == new_uid(KEY, "1.2.1.1")


def test_objects_are_told_from_references() -> None:
    assert {old: str(row["seen_as"]) for old, row in rows().items() if old in ("1.2.1.1.1", "1.2.9.9")} == {
        "1.2.1.1.1": "instance",
        "1.2.9.9": "reference",
    }


def test_dangling_are_references_to_what_a_batch_could_have_held() -> None:
    dangling = uid_graph.dangling(uid_graph.build(SEEN, DeidProfile(), KEY))
    assert set(dangling["old_uid"]) == {"1.2.9.9", "1.2.1.7"}  # no batch holds a device


def test_the_order_of_what_was_seen_changes_nothing() -> None:
    turned = dict(reversed(SEEN.items()))
    assert uid_graph.build(turned, DeidProfile(), KEY).equals(uid_graph.build(SEEN, DeidProfile(), KEY))


def test_retained_uids_map_to_themselves() -> None:
    found = rows(DeidProfile(retain_uids=True))
    assert all(row["new_uid"] == old for old, row in found.items())
    assert found["1.2.1.1"]["parent_new_uid"] == "1.2.1"


def test_an_empty_batch_has_an_empty_map() -> None:
    assert uid_graph.build({}, DeidProfile(), KEY).is_empty()
    assert isinstance(uid_graph.dangling(uid_graph.build({}, DeidProfile(), KEY)), pl.DataFrame)


seen = st.builds(
    UidSeen,
    st.sampled_from(["instance", "series", "other", "study"]),
    st.sampled_from(["", "1.1", "1.2"]),
    st.booleans(),
)


class TestTwoSightsOfOneUid:
    @given(seen, seen)
    def test_say_the_same_in_either_order(self, first: UidSeen, second: UidSeen) -> None:
        assert joined(first, second) == joined(second, first)

    @given(seen, seen, seen)
    def test_say_the_same_however_three_are_joined_in_kind(
        self, first: UidSeen, second: UidSeen, third: UidSeen
    ) -> None:
        left, right = joined(joined(first, second), third), joined(first, joined(second, third))
        assert left.is_object == right.is_object == any(one.is_object for one in (first, second, third))

    @pytest.mark.parametrize("weak", [UidSeen("other"), UidSeen("instance", "1.9"), UidSeen("study")])
    def test_the_object_says_more_than_references(self, weak: UidSeen) -> None:
        assert joined(weak, UidSeen("series", "1.1", True)) == UidSeen("series", "1.1", True)
