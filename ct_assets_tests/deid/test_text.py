import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.deid.elements import derive, spelling, text


class TestCleaningADescription:
    @pytest.mark.parametrize(
        "harmless",
        [
            "CT Thorax", "Thorax 1.25 B30f", "5.1 CHEST W/O CONTRAST", "THX/ABD 2.0 I41f 3", "GTV_Mass_CT",
            "Lung^01_LungRoutine (Adult)", "Kopf nativ 4mm", "T2 FLAIR ax", "PET/CT 3D",
            "Abdomen p.v. 5.0", "AXIAL 2.5mm STND", "L5S1 Th12L1", "PTV 6600/33",
        ],
    )  # fmt: skip
    def test_harmless_text_stays_exactly(self, harmless):
        assert text.clean_description(harmless, []) == harmless

    @pytest.mark.parametrize(
        ("telling", "cleaned"),
        [
            ("CT Thorax Quenneville", "CT Thorax"),
            ("CT vom 12.03.2024 Kopf", "CT Kopf"),
            ("Thorax 20240312", "Thorax"),
            ("Thorax 2019", "Thorax"),
            ("Chest, call 01632 960186", "Chest"),
            ("Thorax MRN70252313", "Thorax"),
            ("CT Thorax Mrs Hester Grey", "CT Thorax"),
            ("Thorax mail a.b@example.org", "Thorax"),
            ("GTV by Underhaye", "GTV"),
            ("beekeeper", ""),
            ("CT AB12CD34", "CT"),
            ("CT 123.456.789-09", "CT"),
            ("Study 1.2.826.0.1.3680043.99.1", "Study"),
        ],
    )
    def test_what_tells_goes(self, telling, cleaned):
        assert text.clean_description(telling, []) == cleaned

    def test_known_identifiers_go_even_where_they_are_ordinary_words(self):
        value = "CT Hand Stone"
        assert text.clean_description(value, [(8, 13)]) == "CT Hand"

    @given(st.text(max_size=40))
    def test_cleaning_again_changes_nothing(self, value):
        once = text.clean_description(value, [])
        assert text.clean_description(once, []) == once


class TestATechnicalValue:
    @pytest.mark.parametrize(
        "value", ["15.5.11", "syngo 7654321", "https://github.com/example/tool.git", "12-34"]
    )
    def test_versions_and_products_are_no_pattern(self, value):
        assert text.pattern_spans(value, is_value=True) == []

    @pytest.mark.parametrize(
        "value", ["14.03.2019", "tel 089 5551234", "q@clin.example", "http://clinic.example/x"]
    )
    def test_dates_telephones_and_addresses_are(self, value):
        assert text.pattern_spans(value, is_value=True)


class TestFolding:
    @pytest.mark.parametrize(
        ("value", "folded"),
        [
            ("O'Brien^Mary-Jane", "o brien mary jane"),
            ("Größenwald", "grossenwald"),
            ("ŁUKASIEWICZ", "lukasiewicz"),
            ("  A..B ", "a b"),
            ("Yamada=山田", "yamada 山田"),
        ],
    )
    def test_spellings_are_made_comparable(self, value, folded):
        assert spelling.fold(value) == folded

    def test_umlauts_are_known_written_out_too(self):
        assert derive.spellings("Jürgen") == {"jurgen", "juergen"}

    @given(st.text())
    def test_each_folded_character_knows_its_place(self, value):
        for character, place in spelling.folded_with_places(value):
            assert character == " " or spelling.fold(value[place])


@pytest.mark.parametrize("value", ["PTV 6600/33", "PTV 45.0/25", "PTV 60-66", "levels 12 14", "Iso 5000-25"])
def test_doses_and_ranges_are_no_telephone_numbers(value):
    assert text.pattern_spans(value) == []


@pytest.mark.parametrize("value", ["call 12-34", "tel. 5512/34", "555-1234", "12 34 56", "089 551234"])
def test_telephone_numbers_have_seven_digits_three_groups_or_a_word_before_them(value):
    assert text.pattern_spans(value)
