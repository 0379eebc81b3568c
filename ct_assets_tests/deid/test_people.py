"""Who is who: numbers of several people, people of several numbers."""

import pytest

from ct_assets.deid.batch import people
from ct_assets.deid.batch.gather import FileFacts

ADLER = {"name": "Adler^Ruth", "birth_date": "19500101"}
BOSKO = {"name": "Bosko^Ivo", "birth_date": "19780303"}


def codes(*given: dict[str, str]) -> tuple[set[str], set[str]]:
    """Return codes of what is held, and of what is warned, for files with these facts."""
    facts = [
        FileFacts(str(place), **({"patient_id": "A-1", "study": f"1.{place}"} | one))
        for place, one in enumerate(given)
    ]
    held, warned = people.reasons(facts)
    return {code for found in held.values() for code in found}, {
        code for found in warned.values() for code in found
    }


def test_one_person_is_nothing_special():
    assert codes(ADLER, ADLER | {"name": "ADLER^R"}, {"name": "Adler^Ruth"}) == (set(), set())


def test_a_new_name_or_a_mistyped_birth_date_is_the_same_person():
    assert codes(ADLER, ADLER | {"birth_date": "19500110"}, ADLER | {"name": "Ruth Kestrel"}) == (
        set(),
        set(),
    )


def test_two_people_of_one_number_are_held():
    assert codes(ADLER, BOSKO)[0] == {people.SEVERAL_PEOPLE}


@pytest.mark.parametrize("number", ["ANONYMIZED", "000000", "Unknown", "test 1"])
def test_a_placeholder_is_warned_of(number):
    assert codes(ADLER | {"patient_id": number}) == (set(), {people.PLACEHOLDER})


def test_one_study_under_two_issuers_is_held():
    study = {"study": "1.5"}
    held, _ = codes(ADLER | study | {"issuer": "A"}, ADLER | study | {"issuer": "B"})
    assert held == {people.ISSUERS_OF_STUDY}


def test_two_people_in_one_study_are_held_and_two_numbers_of_one_person_warned_of():
    study = {"study": "1.5"}
    assert codes(ADLER | study, BOSKO | study | {"patient_id": "B-2"})[0] == {people.MIXED_STUDY}
    assert codes(ADLER | study, ADLER | study | {"patient_id": "B-2"}) == (set(), {people.IDS_OF_STUDY})
