"""A known value in every form that a text may give it, and what must not be taken for it."""

import pytest

from ct_assets.deid.elements.identifiers import Finder, Identifiers, Where


def left(text: str, kind: str, value: str, *, owner: str = "P", where: Where = Where.FREE) -> str:
    """Return the text without what is found of another's (owner Q) or the own (P) identifier."""
    known = Identifiers()
    known.add(kind, value, "P")
    spans = Finder(known).spans(text, owner, where)
    return "".join(sign for place, sign in enumerate(text) if not any(a <= place < b for a, b in spans))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Smith^John", "JohnSmith"), ("Smith^John", "SMITHJOHN"), ("Smith^John", "JSmith"), ("Smith^John", "smithj"),
        ("O'Brien^Nuala", "OBrien"), ("van den Berg^Kees", "VandenBerg"), ("Li^Na", "LiNa"),
        ("Ng^Wei Ling", "NgWeiLing"), ("Quorvath^Ildiko", "Quor-vath"), ("Quorvath^Ildiko", "Q U O R V A T H"),
        ("Иванов^Пётр", "Ivanov"), ("Ivanov^Petr", "Иванов"), ("Müller-Groß^Jörg", "MuellerGross"),
        ("Mueller^Joerg", "Müller"), ("张^小东", "張小東"), ("やまだ^たろう", "Yamada"), ("홍^길동", "Gildong"),
        ("Quorvath^Ildiko", "Quоrvаth"), ("Quorvath^Ildiko", "Quor\u200bvath"), ("Παπαδάκης^Γιώργος", "Papadakis"),
        ("Papadopoulos^Nikos", "Παπαδόπουλος"),
    ],
)  # fmt: skip
def test_a_name_goes_in_every_spelling(name, text):
    assert left(text, "name", name) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [("Li^Na", "Lingula"), ("Li^Na", "Nasal line"), ("Ng^Lu", "Lung L"), ("Smith^John", "Hilar mass RUL")],
)
def test_ordinary_words_stay(name, text):
    assert left(text, "name", name) == text


@pytest.mark.parametrize(
    "word", ["Shin", "Chin", "Palm", "Marrow", "Temple", "Groin", "Solid", "Quenneville"]
)
def test_a_single_name_is_searched_in_the_patients_own_objects_only(word):
    assert left(word, "name", f"{word}^Kees") == ""
    assert left(word, "name", f"{word}^Kees", owner="Q") == word


def test_a_whole_name_and_a_long_number_are_searched_in_everybodys_objects_but_not_in_codes():
    assert left("Kees Quenneville", "name", "Quenneville^Kees", owner="Q") == ""
    assert left("QX4471093", "patient_id", "QX4471093", owner="Q") == ""
    assert (
        left("Kees Quenneville", "name", "Quenneville^Kees", owner="Q", where=Where.CODED)
        == "Kees Quenneville"
    )


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("patient_id", "QUORVATH_ILDIKO_1957", "Quorvath"), ("patient_id", "VellmontSaskia57", "Saskia"),
        ("patient_id", "QV-55820", "55820"), ("id", "ACC88120", "88120"), ("id", "CTNORTA1", "ctnorta"),
        ("id", "+49 (89) 555 12-34", "5551234"), ("note", "known as Quilvester", "Quilvester"),
        ("id", "Ollenkamp 17, 99999 Ollendorf", "Ollenkamp"), ("patient_id", "0000044719", "44719"),
        ("patient_id", "4711", "4711"), ("patient_id", "12-34", "12-34"), ("name", "x@nortaclinic.org", "nortaclinic"),
    ],
)  # fmt: skip
def test_each_part_that_identifies_by_itself_goes(kind, value, text):
    assert left(text, kind, value) == ""


def test_a_decimal_number_is_no_short_identifier():
    assert left("4.711 mm", "patient_id", "4711") == "4.711 mm"


@pytest.mark.parametrize("text", ["GTVsmith", "GTVSmith", "GTVsmith2", "PTVjohn_1"])
def test_a_name_glued_to_an_abbreviation_goes_and_the_abbreviation_stays(text):
    assert left(text, "name", "Smith^John").rstrip("_12") in ("GTV", "PTV")
