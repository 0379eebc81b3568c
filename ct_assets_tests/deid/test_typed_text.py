"""What people type is searched at once for everybody of the batch and of the clinic's table, and never repeated."""

import pytest

from ct_assets import files
from ct_assets.deid.batch import review
from ct_assets.deid.proof.typed_text import KnownPeople
from ct_assets.errors import SafetyError, UsageError
from ct_assets_tests.deid.corpus import cases_pixels
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People
from ct_assets_tests.deid.runs import KEY, run

KNOWN = KnownPeople(
    {
        ("name", "Quenneville^Ottoline", "QX-44", ""),
        ("patient_id", "QX-44", "QX-44", ""),
        ("id", "00417733", "QX-44", ""),
        ("birth_date", "19610417", "QX-44", ""),
    },
    {"1.2.840.99.5.17"},
)


@pytest.mark.parametrize(
    "text",
    [
        "same person as QUENNEVILLE", "see qx-44.", "Ottoline's scan", "order 417733", "born 17.04.1961",
        "born 1961-04-17", "of study 1.2.840.99.5.17", "quenneville-lung",
    ],
)  # fmt: skip
def test_an_identifier_in_any_form_is_refused_and_never_repeated(text):
    with pytest.raises(UsageError, match="--why: repeats") as refused:
        KNOWN.refuse({"--why": text})
    assert not any(
        part in str(refused.value).casefold() for part in ("quenneville", "qx-44", "417733", "1961")
    )


@pytest.mark.parametrize(
    "text",
    ["a scale bar only", "44 slices, left lower lobe", "seen on 2026-03-01", "segmentation v1.2.3.4", ""],
)
def test_ordinary_reasons_pass(text):
    KNOWN.refuse({"--why": text})


class TestQuarantine:
    @pytest.fixture
    def ran(self, tmp_path):
        self.held, self.other = (
            next(one for one in cases_pixels.text_in_pixels(People(seed), Uids(seed)) if one.path == path)
            for seed, path in ((5, "pixels/us_denied"), (6, "pixels/us_clean"))
        )
        for thing in (self.held, self.other):
            thing.write(tmp_path / "input")
        return run(tmp_path / "input", tmp_path / "output")

    def decide(self, ran, why, **where):
        [one] = review.held({"": ran.paths})
        return review.decide(one, "reject", who="Officer", why=why, key=KEY, **where)

    def test_a_reason_may_not_name_another_patient_of_the_batch(self, ran):
        assert self.other.person.patient_id != self.held.person.patient_id
        for token in (self.other.person.family, self.other.person.patient_id):
            with pytest.raises(UsageError, match="repeats an identifier"):
                self.decide(ran, f"belongs to {token}", originals=ran.input)
        assert not ran.paths.review.exists()

    def test_a_reason_may_not_name_somebody_of_the_clinics_table(self, ran, tmp_path):
        table = tmp_path / "labels.csv"
        table.write_text("PatientID,Surname,Stage\nQX44,Quenneville,II\n")
        for token in ("quenneville", "QX44"):
            with pytest.raises(UsageError, match="repeats an identifier"):
                self.decide(ran, f"belongs to {token}", labels_csv=table)

    def test_the_leak_scan_searches_decisions_that_were_written_by_hand(self, ran):
        self.decide(ran, "not needed")
        [row] = files.read_jsonl(ran.paths.review)
        files.write_jsonl(ran.paths.review, [row | {"why": f"it is {self.other.person.family}"}])
        with pytest.raises(SafetyError, match=r"quarantine_review.jsonl: line 1 repeats") as stopped:
            run(ran.input, ran.output)
        assert self.other.person.family not in str(stopped.value)
