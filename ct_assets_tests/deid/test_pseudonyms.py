import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id, pseudonym, shift_days
from ct_assets_tests.deid.made import KEY


class TestOnePerson:
    @pytest.mark.parametrize("spelling", ["NEMC-1 ", " nemc-1", "NEMC-1\0", "ＮＥＭＣ-1"])
    def test_is_one_whatever_the_padding_and_case(self, spelling):
        assert pseudonym(KEY, spelling, "A") == pseudonym(KEY, "NEMC-1", "a ")
        assert shift_days(KEY, spelling, "A") == shift_days(KEY, "NEMC-1", "A")

    def test_of_another_issuer_is_another(self):
        assert pseudonym(KEY, "1", "A") != pseudonym(KEY, "1", "B") != pseudonym(KEY, "1", None)

    def test_leading_zeros_and_inner_blanks_count(self):
        assert len({normalise_patient_id(raw) for raw in ("007", "7", "0 07")}) == 3


@given(st.text(min_size=1))
def test_a_pseudonym_holds_no_word_and_no_number(raw):
    assert re.fullmatch(r"P[BCDFGHJ-NP-T]{20}", pseudonym(KEY, raw, "A"))


@given(st.text(min_size=1), st.text())
def test_a_shift_is_whole_days_into_the_past_and_never_zero(raw, issuer):
    assert -1825 <= shift_days(KEY, raw, issuer) <= -30


def test_without_the_key_nothing_follows():
    other = SecretKey(bytes(range(1, 33)))
    assert pseudonym(KEY, "1", "") != pseudonym(other, "1", "")
    assert [shift_days(KEY, str(n), "") for n in range(20)] != [
        shift_days(other, str(n), "") for n in range(20)
    ]
