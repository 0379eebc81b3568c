"""Sizes at which searching text could explode: time stays linear, and what is larger than stated goes."""

import struct
import time

import pytest
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ct_assets import progress
from ct_assets.deid.batch import raw_items
from ct_assets.deid.elements import text
from ct_assets.deid.elements.cleaning import LONGEST_TEXT_BYTES
from ct_assets.deid.elements.identifiers import Finder, Identifiers
from ct_assets_tests.deid.made import Deidentified, as_bytes, ct, item

UNBROKEN = 120_000
SECONDS = 2.0
"""A quadratic search takes a minute and more over so many characters, a linear one a tenth of a second."""


@pytest.mark.parametrize("piece", ["aB3", "1.", "a@", "a-", "Dr ", "12.03.2020 ", "www.", "7", " ", "a@b."])
def test_unbroken_text_is_searched_in_linear_time(piece):
    identifiers = Identifiers()
    identifiers.add("name", "Quenneville^Ottoline", "P")
    value = piece * (UNBROKEN // len(piece))
    start = time.process_time()
    known = Finder(identifiers).spans(value, "P")
    text.clean_description(value, known)
    text.without_spans(value, text.pattern_spans(value))
    assert time.process_time() - start < SECONDS


class TestLongText:
    def test_a_text_of_the_stated_size_is_cleaned_as_ever(self):
        harmless = "Lung nodule " * ((LONGEST_TEXT_BYTES - 12) // 12)
        made = Deidentified(as_bytes(ct(TextValue=harmless)))
        assert made.dataset.TextValue == harmless.strip()

    def test_a_longer_one_goes_and_the_audit_says_so(self):
        made = Deidentified(as_bytes(ct(TextValue="Lung nodule " * (LONGEST_TEXT_BYTES // 12 + 1))))
        assert made.dataset.TextValue == ""
        assert made.fates["TextValue"]["action"] == "emptied"
        assert made.dataset.PixelData == ct().PixelData

    def test_long_lists_of_numbers_stay(self):
        contour = [f"{number / 7:.4f}" for number in range(LONGEST_TEXT_BYTES // 8)]
        made = Deidentified(as_bytes(ct(ContourData=contour), ImplicitVRLittleEndian))
        assert [f"{number:.4f}" for number in made.dataset.ContourData] == contour


@pytest.mark.parametrize(
    ("spans", "joined"),
    [
        ([(5, 7), (0, 2)], [(0, 2), (5, 7)]),
        ([(0, 4), (2, 3), (4, 6)], [(0, 6)]),
        ([], []),
    ],
)
def test_spans_that_touch_are_one(spans, joined):
    assert text.merged(spans) == joined


def test_a_word_overlaps_a_span_only_where_they_share_a_character():
    spans = text.merged([(2, 4), (8, 9)])
    overlapping = [start for start in range(12) if text.overlaps(spans, start, start + 1)]
    assert overlapping == [2, 3, 8]
    assert text.overlaps(spans, 0, 12)


class TestSequencesOfVeryManyItems:
    def items(self, count: int, **more: object) -> Sequence:
        several = [item(CodeValue=f"T-{number % 3}", CodingSchemeDesignator="99X") for number in range(count)]
        several[count // 2].update(item(**more))
        return Sequence(several)

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_each_item_is_treated_as_in_a_short_one(self, syntax):
        hidden = {"PatientName": "Quenneville^Ottoline", "StudyDate": "20200117"}
        many, few = (
            Deidentified(as_bytes(ct(AnatomicRegionSequence=self.items(count, **hidden)), syntax))
            for count in (raw_items.MANY + 2, 40)
        )
        new, short = many.dataset.AnatomicRegionSequence, few.dataset.AnatomicRegionSequence
        assert [one.CodeValue for one in new] == [f"T-{number % 3}" for number in range(raw_items.MANY + 2)]
        assert new[raw_items.MANY // 2 + 1].StudyDate == short[20].StudyDate != "20200117"
        assert new[raw_items.MANY // 2 + 1].PatientName == many.person.pseudonym

    def test_the_audit_names_each_item_that_changed(self):
        several = Sequence([item(CodeValue="T", PatientName="Quenneville") for _ in range(raw_items.MANY)])
        made = Deidentified(as_bytes(ct(AnatomicRegionSequence=several)))
        changed = [path for path in made.fates if path.endswith("].PatientName")]
        assert changed == [
            f"AnatomicRegionSequence[{number}].PatientName" for number in range(raw_items.MANY)
        ]

    def test_items_without_lengths_are_left_to_the_ordinary_reader(self):
        delimited = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        assert raw_items.parted(delimited) is None
        whole = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"1234"
        assert raw_items.parted(whole * 2) == [(8, 12), (20, 24)]
        assert raw_items.parted(whole[:-1]) is None

    def test_progress_is_shown_within_them(self):
        lines: list[str] = []
        with progress.lines_to(lines.append):
            assert list(progress.each("items", range(7), 7, least=5)) == list(range(7))
            assert list(progress.each("others", range(4), 4, least=5)) == list(range(4))
        assert lines == ["items: 7/7"]
