import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.deid.elements.identifiers import Finder, Identifiers, Where


def found(text, *known, owner="P", searched_as="P", where=Where.FREE):
    identifiers = Identifiers()
    for kind, value in known:
        identifiers.add(kind, value, owner)
    finder = Finder(identifiers)
    return {text[start:end] for start, end in finder.spans(text, searched_as, where)}


class TestFindingANames:
    @pytest.mark.parametrize(
        "text",
        ["GROSSENWALD J", "groessenwald", "Größenwald", "xGrößenwaldx", "Größenwald2", "GRO\u0308ßENWALD"],
    )
    def test_in_every_spelling(self, text):
        assert found(text, ("name", "Größenwald^Jürgen"))

    @pytest.mark.parametrize("text", ["CT Hand links", "kidney stone protocol"])
    def test_that_is_an_ordinary_word_only_in_the_patients_own_free_text(self, text):
        name = ("name", "Stone^Hand")
        assert found(text, name)
        assert not found(text, name, searched_as="Q")
        assert not found(text, name, where=Where.KEPT)

    def test_of_two_letters_only_as_a_whole_word(self):
        assert found("scan of Li", ("name", "Li^Bo")) == {"Li"}
        assert not found("Linear", ("name", "Li^Bo"))

    def test_in_ideographs(self):
        assert found("山田さん", ("name", "Yamada^Tarou=山田^太郎=やまだ^たろう")) == {"山田"}

    def test_first_and_last_name_the_other_way_round(self):
        assert found("Mary, Stone", ("name", "Stone^Mary"), searched_as="Q", where=Where.KEPT)


class TestFindingANumber:
    @pytest.mark.parametrize("text", ["nemc-004170", "NEMC004170.", "NEMC 004170", "xNEMC004170"])
    def test_however_it_is_parted(self, text):
        assert found(text, ("id", "NEMC004170"))

    def test_never_inside_a_longer_number(self):
        assert not found("170025231399", ("id", "70025231"))

    @pytest.mark.parametrize(
        "text", ["born 17.04.1961", "1961-04-17", "17 Apr 1961", "4/17/1961", "19610417"]
    )
    def test_of_birth_in_every_usual_form(self, text):
        assert found(text, ("birth_date", "19610417"))

    def test_telephone_numbers_however_they_are_grouped(self):
        assert found("Tel. 01632/960-186", ("id", "01632 960 186"))


@given(st.text(max_size=30), st.text(max_size=30))
def test_spans_are_places_in_the_text(before, after):
    text = f"{before} Quenneville {after}"
    finder_found = found(text, ("name", "Quenneville^Ottoline"))
    assert any("Quenneville" in part for part in finder_found)


def test_placeholders_are_no_identifiers():
    identifiers = Identifiers()
    for value in ("ANONYMIZED", "Unknown", "Patient", "CT", "Radiology"):
        identifiers.add("name", value, "P")
    assert not identifiers.strong("P")
