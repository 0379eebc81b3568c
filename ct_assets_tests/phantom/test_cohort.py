"""The phantom cohort keeps what it promises, read back with other tools than made it."""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from ct_assets.phantom import cohort, faults

CT, SEG, RTSTRUCT = "CT", "SEG", "RTSTRUCT"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> cohort.PhantomCohort:
    return cohort.make(tmp_path_factory.mktemp("phantom") / "cohort", seed=3, patients=2, workers=2)


@pytest.fixture(scope="module")
def objects(phantom) -> dict[str, list[pydicom.Dataset]]:
    """Every readable object, by trimmed PatientID."""
    found = defaultdict(list)
    for drop in phantom.drops:
        for path in sorted(path for path in drop.rglob("*") if path.is_file()):
            try:
                dataset = pydicom.dcmread(path)
            except InvalidDicomError:
                continue
            found[str(dataset.get("PatientID", "")).strip()].append(dataset)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def of(found: list[pydicom.Dataset], modality: str) -> list[pydicom.Dataset]:
    return [
        one
        for one in found
        if one.get("Modality") == modality and "LOCALIZER" not in one.get("ImageType", "")
    ]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faulty(phantom: cohort.PhantomCohort, objects, fault: str) -> list[pydicom.Dataset]:
    patient = next(row["patient"] for row in rows(phantom.expected_csv) if row["reason"] == fault)
    return objects[patient]


def positions(slices: list[pydicom.Dataset]) -> np.ndarray:
    return np.sort([float(one.ImagePositionPatient[2]) for one in slices])


class TestTheSameArgumentsGiveTheSameBytes:
    def test_whatever_the_workers(self, tmp_path):
        arguments = {"seed": 5, "patients": 2, "faulty": ("two_segs",)}
        one = cohort.make(tmp_path / "one", workers=1, **arguments)
        two = cohort.make(tmp_path / "two", workers=2, **arguments)
        assert digests(one.drops[0].parent) == digests(two.drops[0].parent)

    def test_and_another_seed_other_patients(self, tmp_path):
        first = cohort.make(tmp_path / "first", seed=1, patients=1, faulty=())
        other = cohort.make(tmp_path / "other", seed=2, patients=1, faulty=())
        assert rows(first.expected_csv)[0]["patient"] != rows(other.expected_csv)[0]["patient"]


class TestEveryFaultIsThereOnce:
    def test_and_is_the_only_one_of_its_patient(self, phantom):
        told = [row["reason"] for row in rows(phantom.expected_csv) if row["eligible"] == "no"]
        # The shared ID needs two patients; one label has no images at all.
        assert sorted(told) == sorted([*faults.FAULTS, "label_of_two_patients", "label_without_images"])

    def test_no_ct(self, phantom, objects):
        assert not of(faulty(phantom, objects, "no_ct"), CT)

    def test_no_seg(self, phantom, objects):
        found = faulty(phantom, objects, "no_seg")
        assert not of(found, SEG)
        assert len(of(found, RTSTRUCT)) == 1

    def test_two_segs(self, phantom, objects):
        first, second = of(faulty(phantom, objects, "two_segs"), SEG)
        assert first.SOPInstanceUID != second.SOPInstanceUID

    def test_seg_of_other_series(self, phantom, objects):
        found = faulty(phantom, objects, "seg_of_other_series")
        (seg,) = of(found, SEG)
        delivered = {one.SeriesInstanceUID for one in of(found, CT)}
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID not in delivered

    def test_missing_slice(self, phantom, objects):
        steps = np.diff(positions(of(faulty(phantom, objects, "missing_slice"), CT)))
        assert sorted(steps)[-1] == pytest.approx(2 * sorted(steps)[0])

    def test_duplicate_position(self, phantom, objects):
        slices = of(faulty(phantom, objects, "duplicate_position"), CT)
        assert np.diff(positions(slices)).min() == 0
        assert len({one.SOPInstanceUID for one in slices}) == len(slices)
        assert len({bytes(one.PixelData) for one in slices}) == len(slices) - 1  # it shows its neighbour

    def test_two_contents(self, phantom, objects):
        slices = of(faulty(phantom, objects, "two_contents"), CT)
        assert len({one.SOPInstanceUID for one in slices}) == len(slices) - 1

    def test_seg_misfit(self, phantom, objects):
        found = faulty(phantom, objects, "seg_misfit")
        (seg,) = of(found, SEG)
        assert seg.FrameOfReferenceUID != of(found, CT)[0].FrameOfReferenceUID
        plane = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
        assert (
            abs(float(plane.ImagePositionPatient[0]) - float(of(found, CT)[0].ImagePositionPatient[0])) > 400
        )

    def test_empty_mask(self, phantom, objects):
        (seg,) = of(faulty(phantom, objects, "empty_mask"), SEG)
        assert not seg.pixel_array.any()

    def test_gantry_tilt(self, phantom, objects):
        slices = of(faulty(phantom, objects, "gantry_tilt"), CT)
        rows_y = {float(one.ImagePositionPatient[1]) for one in slices}
        assert len(rows_y) == len(slices)
        assert len({tuple(one.ImageOrientationPatient) for one in slices}) == 1

    def test_too_thick(self, phantom, objects):
        slices = of(faulty(phantom, objects, "too_thick"), CT)
        assert np.diff(positions(slices)) == pytest.approx(10.0)

    def test_two_patients_share_an_id(self, phantom, objects):
        found = faulty(phantom, objects, "label_of_two_patients")
        assert len({one.IssuerOfPatientID for one in found}) == 2
        assert len({str(one.PatientName) for one in found}) == 2


class TestTheClinicsTable:
    def test_is_untidy_in_the_ways_of_such_tables(self, phantom):
        content = phantom.labels_csv.read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        assert content.count(b"\r\n") == content.count(b"\n")

    def test_tells_of_each_label_fault(self, phantom):
        of_patient = defaultdict(list)
        for row in rows(phantom.labels_csv):
            of_patient[row["PatientID"].strip()].append(row["Overall Stage"].strip())
        patients = {row["reason"]: row["patient"] for row in rows(phantom.expected_csv)}
        assert patients["no_label"] not in of_patient
        assert of_patient[patients["missing_stage"]] == ["NA"]
        assert len(set(of_patient[patients["contradictory_stages"]])) == 2
        assert patients["label_without_images"] in of_patient


class TestEligiblePatients:
    def test_seg_lies_on_the_tumour_of_the_ct(self, phantom, objects):
        for row in rows(phantom.expected_csv):
            if row["eligible"] == "no":
                continue
            found = objects[row["patient"]]
            (dataset,) = of(found, SEG)
            seg = hd.seg.Segmentation.from_dataset(dataset)
            slices = {one.SOPInstanceUID: one for one in of(found, CT)}
            referenced = [one for _, _, one in seg.get_source_image_uids()]
            assert set(referenced) == set(slices)
            mask = seg.get_pixels_by_source_instance(referenced, combine_segments=True)
            hu = np.stack(
                [slices[uid].pixel_array * 1.0 + float(slices[uid].RescaleIntercept) for uid in referenced]
            )
            assert hu[mask > 0].mean() > -100
            assert hu[mask > 0].mean() - hu[mask == 0].mean() > 500
            voxel_ml = np.prod(
                [*slices[referenced[0]].PixelSpacing, abs(np.diff(positions(list(slices.values())))[0])]
            )
            assert (mask > 0).sum() * voxel_ml / 1000 == pytest.approx(float(row["tumour_ml"]), rel=1e-3)

    def test_identities_stand_in_the_files(self, phantom, objects):
        for row in rows(phantom.expected_csv):
            if row["eligible"] == "yes":
                text = "\n".join(str(one) for one in objects[row["patient"]])
                tokens = [
                    one["token"] for one in rows(phantom.leak_tokens_csv) if one["patient"] == row["patient"]
                ]
                assert len(tokens) > 8
                assert all(token in text for token in tokens)


class TestWhatTheLabelsSay:
    def test_shuffled_labels_no_longer_follow_the_tumour(self, tmp_path):
        def volumes(stage_signal: bool) -> list[float]:
            made = cohort.make(
                tmp_path / str(stage_signal),
                seed=11,
                patients=8,
                faulty=(),
                stage_signal=stage_signal,
                workers=2,
            )
            return [float(row["tumour_ml"]) for row in rows(made.expected_csv) if row["eligible"] == "yes"]

        ranks = [cohort.STAGES.index(cohort.STAGES[number % 4]) for number in range(8)]
        assert np.corrcoef(ranks, volumes(stage_signal=True))[0, 1] > 0.85
        assert np.corrcoef(ranks, volumes(stage_signal=False))[0, 1] < 0.85

    def test_a_confounded_cohort_has_a_scanner_a_stage(self, tmp_path):
        made = cohort.make(tmp_path / "made", seed=2, patients=5, faulty=(), confounded=True, workers=2)
        kernels = defaultdict(set)
        for path in [path for drop in made.drops for path in drop.rglob("*") if path.is_file()]:
            try:
                dataset = pydicom.dcmread(path, stop_before_pixels=True)
            except InvalidDicomError:
                continue
            if dataset.get("Modality") == CT:
                kernels[str(dataset.PatientID)].add(dataset.ConvolutionKernel)
        stages = {row["patient"]: row["stage"] for row in rows(made.expected_csv)}
        pairs = {(stages[patient], kernel) for patient, found in kernels.items() for kernel in found}
        assert len(pairs) == len({stage for stage, _ in pairs}) == len({kernel for _, kernel in pairs})
