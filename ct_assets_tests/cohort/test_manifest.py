"""The manifest holds every eligible patient once; case numbers are for ever."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets import tables
from ct_assets.cohort import case_numbers, manifest, splits
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables.cohort import CaseNumbers, CohortManifest, Eligibility
from ct_assets_tests.cohort.audit_tables import cohort_of

NOW = datetime(2024, 3, 1, tzinfo=UTC)


class Cohort:
    """A cohort that grows and shrinks, judged, split and written as the graph does it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.ledger: pl.DataFrame | None = None

    def run(self, eligible: str, excluded: str = "", **changes) -> pl.DataFrame:
        names = sorted([*eligible, *excluded])
        made = cohort_of(*names, **changes)
        judged = tables.frame(
            [
                {
                    "patient_id": name,
                    "is_eligible": name in eligible,
                    "reasons": [] if name in eligible else ["no_ct"],
                }
                for name in names
            ],
            Eligibility,
        )
        patients = manifest.patients_to_split(judged, made["labels"])
        self.ledger = splits.extend(self.ledger, patients, SplitSettings(), NOW)
        built = manifest.build(
            eligibility=judged,
            splits=self.ledger,
            layout=self.layout,
            **{name: made[name] for name in ("labels", "patients", "series", "masks")},
        )
        manifest.write(built, self.layout)
        return tables.read_table(self.layout.cohort_manifest, CohortManifest)


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    return Cohort(Layout(tmp_path))


def numbers_of(table: pl.DataFrame) -> dict[str, str]:
    return dict(table.select("patient_id", "case_id").iter_rows())


class TestTheManifest:
    def test_has_a_row_an_eligible_patient_and_none_else(self, cohort):
        assert set(cohort.run("ABCDEF", excluded="XY")["patient_id"]) == set("ABCDEF")

    def test_names_files_by_split(self, cohort):
        for row in cohort.run("ABCDEFGH").iter_rows(named=True):
            part = {"train": "Tr", "test": "Ts"}[row["split"]]
            assert row["image"] == f"nifti/images{part}/{row['case_id']}.nii.gz"
            assert row["label"] == f"nifti/labels{part}/{row['case_id']}.nii.gz"
            assert (row["fold"] is None) == (row["split"] == "test")

    def test_joins_what_labels_and_audits_say(self, cohort):
        table = cohort.run(
            "ABC", A={"label": {"stage": "IIIb", "sex": "F"}, "mask": {"tumour_segment_number": 2}}
        )
        row = table.filter(patient_id="A").row(0, named=True)
        assert (row["stage"], row["sex"], row["site"]) == ("IIIb", "F", "site_a")
        assert (row["image_series_id"], row["mask_sop_instance_uid"]) == ("2.25.1.A", "2.25.2.A")
        assert row["tumour_segment_number"] == 2

    def test_input_digest_changes_with_the_mask_not_with_the_label(self, cohort):
        before = cohort.run("ABC")
        relabelled = cohort.run("ABC", A={"label": {"stage": "I"}})
        remasked = cohort.run(
            "ABC", A={"patient": {"seg_sop_instance_uid": "2.25.9"}, "mask": {"sop_instance_uid": "2.25.9"}}
        )
        assert before["input_digest"].equals(relabelled["input_digest"])
        assert (before["input_digest"] != remasked["input_digest"]).to_list() == [True, False, False]

    def test_is_the_same_bytes_again(self, cohort):
        cohort.run("ABCDE")
        before = cohort.layout.cohort_manifest.read_bytes()
        cohort.run("ABCDE")
        assert cohort.layout.cohort_manifest.read_bytes() == before

    def test_of_nobody_is_empty(self, cohort):
        assert cohort.run("", excluded="A").height == 0

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"label": {"stage": None}}, "a stage"),
            ({"patient": {"principal_series_id": None}}, "a principal CT series"),
            ({"patient": {"seg_sop_instance_uid": None}}, "exactly one SEG"),
        ],
    )
    def test_refuses_an_eligibility_that_asks_for_too_little(self, cohort, changes, says):
        with pytest.raises(UsageError, match=f"1 eligible patients are without {says}"):
            cohort.run("ABC", A=changes)


class TestCaseNumbers:
    def test_stay_as_the_cohort_grows_and_shrinks(self, cohort):
        first = numbers_of(cohort.run("CDE"))
        assert sorted(first.values()) == ["case_0000", "case_0001", "case_0002"]
        grown = numbers_of(cohort.run("ABCDE"))
        assert {patient: grown[patient] for patient in first} == first
        shrunk = numbers_of(cohort.run("ABE", excluded="CD"))
        assert shrunk == {patient: grown[patient] for patient in "ABE"}
        assert numbers_of(cohort.run("ABCDEF")) == {**grown, "F": "case_0005"}

    def test_of_patients_who_left_are_nobody_elses(self, cohort):
        left = numbers_of(cohort.run("AB"))["B"]
        assert left not in numbers_of(cohort.run("ACDE", excluded="B")).values()

    def test_do_not_depend_on_the_order_of_rows(self):
        assert case_numbers.extend(None, ["C", "A", "B"]).equals(
            case_numbers.extend(None, ["B", "C", "A", "A"])
        )

    def test_have_four_digits_or_more(self):
        assert case_numbers.case_id(7) == "case_0007"
        assert case_numbers.case_id(12345) == "case_12345"

    def test_of_withdrawn_patients_stay_taken_and_never_come_back(self):
        numbers = case_numbers.extend(None, ["A", "B", "C"])
        numbers = case_numbers.withdraw(numbers, "B", "stone-B")
        again = case_numbers.extend(
            numbers, ["A", "B", "C", "D"], tombstone=lambda patient: f"stone-{patient}"
        )
        assert again["patient_id"].to_list() == ["A", "stone-B", "C", "D"]
        assert again["is_withdrawn"].to_list() == [False, True, False, False]
        with pytest.raises(UsageError):
            case_numbers.withdraw(again, "B", "stone-B")

    def test_that_were_changed_are_refused(self, cohort):
        cohort.run("ABC")
        numbers = tables.read_table(cohort.layout.case_numbers, CaseNumbers)
        swapped = numbers.with_columns(patient_id=pl.Series(["B", "A", "C"]))
        with pytest.raises(UsageError, match="case numbers were changed"):
            case_numbers.refuse_rewritten(numbers, swapped)
        case_numbers.refuse_rewritten(numbers, case_numbers.withdraw(numbers, "A", "stone"))

    @given(st.lists(st.sets(st.sampled_from("ABCDEFGHIJ")), max_size=6))
    @settings(deadline=None)
    def test_never_change_whatever_comes(self, arrivals):
        numbers, given_before = None, {}
        for patients in arrivals:
            numbers = case_numbers.extend(numbers, patients)
            now = dict(numbers.select("patient_id", "case_id").iter_rows())
            assert given_before.items() <= now.items()
            assert set(patients) <= set(now)
            assert len(set(now.values())) == len(now)
            given_before = now
