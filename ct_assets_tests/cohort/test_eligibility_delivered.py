"""From delivered files to eligibility: patient by patient what the deliveries' own answer keys say."""

import csv
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from ct_assets import tables
from ct_assets.cohort import ct_prepro_audit, eligibility, labels
from ct_assets.deid.batch.run import deidentify
from ct_assets.dicom import index
from ct_assets.identity.key import SecretKey
from ct_assets.layout import DeidPaths
from ct_assets.phantom import cohort as phantom_cohort
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.deid import load_profile
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.tables.deid import PatientMap

pytestmark = pytest.mark.slow

REASON_OF_FAULT = {
    "no_label": "no_label",
    "missing_stage": "stage_missing",
    "unknown_stage": "stage_unknown",
    "contradictory_stages": "stage_contradictory",
    "label_of_two_patients": "label_id_shared",
    "no_ct": "no_ct",
    "no_seg": "no_seg",
    "two_segs": "several_segs",
    "seg_of_other_series": "seg_references_other_series",
    "missing_slice": "missing_slices",
    "duplicate_position": "duplicate_positions",
    "two_contents": "missing_slices",
    "seg_misfit": "seg_misfit",
    "empty_mask": "tumour_missing",
    "gantry_tilt": "gantry_tilt",
    "too_thick": "slices_too_thick",
    "too_few_slices": "too_few_slices",
}
REASON_OF_REMARK = {
    "no label row": "no_label",
    "stage is NA": "stage_missing",
    "two SEG objects": "several_segs",
    "SEG references another series": "seg_references_other_series",
    "no SEG": "no_seg",
    "slice missing in the middle": "missing_slices",
    "two slices at the same position": "duplicate_positions",
    "slices too thick": "slices_too_thick",
    "one SOPInstanceUID with two contents": "missing_slices",
    "SEG geometry does not fit the CT": "seg_misfit",
    "contradictory stages": "stage_contradictory",
    "no CT": "no_ct",
    "empty UIDs": "no_seg",
}
LOCALIZER_INSIDE = "localizer inside the series"
"""Excluded, or eligible with the localizer left out by name: both are right."""


@dataclass
class Delivered:
    """Two drops, de-identified each by itself."""

    root: Path
    drops: list[str]
    labels_csv: Path
    key: SecretKey
    settings: Settings

    def paths(self, drop: str) -> DeidPaths:
        return DeidPaths.of_command(self.root / drop)

    def patient_maps(self, drops: list[str]) -> pl.DataFrame:
        maps = [tables.read_table(self.paths(drop).patient_map, PatientMap) for drop in drops]
        return pl.concat(maps).unique(maintain_order=True)

    def judged(self, drops: list[str]) -> pl.DataFrame:
        scans = [
            index.scan(self.paths(drop).dicom, root=self.root, workers=2, previous=None) for drop in drops
        ]
        audit = ct_prepro_audit.build(pl.concat(scans), self.root, self.settings.audit)
        told = self.settings.labels.model_copy(update={"csv": self.labels_csv})
        table, report = labels.build(told, self.key, self.patient_maps(drops))
        return eligibility.judge(
            {
                "labels": table,
                "label_report": report,
                "patients": audit.patients,
                "series": audit.series,
                "masks": audit.masks,
            },
            self.settings.eligibility,
        )

    def by_patient(self, drops: list[str]) -> dict[tuple[str, str], dict]:
        """What is said of each patient, by raw ID and issuer."""
        of_pseudonym = {row["patient_id"]: row for row in self.judged(drops).iter_rows(named=True)}
        return {
            (row["old_patient_id"].strip(), row["issuer"]): of_pseudonym[row["new_patient_id"]]
            for row in self.patient_maps(drops).iter_rows(named=True)
        }


def deidentified(root: Path, drops: list[Path], labels_csv: Path) -> Delivered:
    key = SecretKey.from_hex("0123456789abcdef" * 4)
    made = Delivered(
        root,
        [drop.name for drop in drops],
        labels_csv,
        key,
        load_settings(PROJECT_ROOT / "configs/local.yaml", {}),
    )
    profile = load_profile(PROJECT_ROOT / "configs/deid.yaml")
    for drop in drops:
        deidentify(drop, made.paths(drop.name), profile, key, labels_csv=labels_csv, workers=2)
    return made


def answers(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> phantom_cohort.PhantomCohort:
    return phantom_cohort.make(tmp_path_factory.mktemp("phantom") / "made", workers=2)


@pytest.fixture(scope="module")
def phantom_delivered(phantom, tmp_path_factory) -> Delivered:
    return deidentified(tmp_path_factory.mktemp("deid"), list(phantom.drops), phantom.labels_csv)


@pytest.fixture(scope="module")
def shared(real_data) -> Path:
    return real_data / "lung_cohort"


@pytest.fixture(scope="module")
def real_delivered(shared, tmp_path_factory) -> Delivered:
    drops = sorted((shared / "drops").iterdir())
    return deidentified(tmp_path_factory.mktemp("deid"), drops, shared / "raw_manifest.csv")


class TestThePhantom:
    def test_every_fault_excludes_by_its_own_reason_and_nobody_else_is_excluded(
        self, phantom, phantom_delivered
    ):
        said = phantom_delivered.by_patient(phantom_delivered.drops)
        for expected in answers(phantom.expected_csv):
            if expected["reason"] == "label_without_images":
                continue
            row = said.pop((expected["patient"], expected["issuer"]))
            assert row["is_eligible"] == (expected["eligible"] == "yes"), (expected, row["reasons"])
            if expected["reason"]:
                assert REASON_OF_FAULT[expected["reason"]] in row["reasons"], expected
        assert not said

    def test_after_the_first_drop_alone_its_own_state_holds(self, phantom, phantom_delivered):
        said = phantom_delivered.by_patient(phantom_delivered.drops[:1])
        for expected in answers(phantom.expected_csv):
            if expected["reason"] == "label_without_images":
                continue
            row = said.get((expected["patient"], expected["issuer"]))
            state = expected["after_first_drop"]
            assert (row is None) == (state == "absent")
            # Of two patients who share an ID one may come first: until then the ID is unambiguous.
            if row is not None and expected["reason"] != "label_of_two_patients":
                assert row["is_eligible"] == (state == "yes"), (expected, row["reasons"])

    def test_the_order_of_the_drops_changes_nothing(self, phantom_delivered):
        assert phantom_delivered.judged(phantom_delivered.drops).equals(
            phantom_delivered.judged(phantom_delivered.drops[::-1])
        )


@pytest.mark.real
class TestRealPatients:
    @pytest.mark.parametrize(("weeks", "column"), [(2, "eligible"), (1, "after_week1")])
    def test_are_judged_as_the_answer_key_says(self, shared, real_delivered, weeks, column):
        said = {
            patient: row
            for (patient, _), row in real_delivered.by_patient(real_delivered.drops[:weeks]).items()
        }
        for expected in answers(shared / "expected.csv"):
            state = expected[column]
            if expected["reason"] == LOCALIZER_INSIDE or state == "absent" or expected["patient"] not in said:
                assert expected["reason"] == LOCALIZER_INSIDE or state != "yes"
                continue
            row = said[expected["patient"]]
            assert row["is_eligible"] == (state == "yes"), (expected, row["reasons"])
            if state.startswith("no"):
                remark = state.partition(": ")[2] or expected["reason"]
                assert REASON_OF_REMARK[remark] in row["reasons"], expected
