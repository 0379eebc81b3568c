"""The head phantom: anatomy where it belongs, lesions of the contrast asked for, labels that tell the truth."""

import csv
import hashlib

import numpy as np
import pydicom
import pytest

from ct_assets.phantom import head, head_anatomy
from ct_assets.phantom.head_anatomy import Head


def points(*places):
    return np.array(places, dtype=np.float32)


class TestAnatomy:
    made = Head.invent(np.random.default_rng(0), lesions=1, contrast_hu=40)

    def test_air_skull_brain_and_ventricles(self):
        size = self.made.size
        hu = head_anatomy.hounsfield(
            self.made,
            points([110, 0, 0], [69.5 * size, 0, 0], [0, -75 * size, -20], [13 * size, 0, 10 * size]),
            0.5,
        )
        assert hu[0] == -1000
        assert hu[1] == head_anatomy.SKULL_HU
        assert hu[2] == head_anatomy.BRAIN_HU
        assert hu[3] == head_anatomy.FLUID_HU

    @pytest.mark.parametrize("contrast", [10.0, 45.0, -15.0])
    def test_a_lesion_differs_from_the_brain_by_its_contrast(self, contrast):
        made = Head.invent(np.random.default_rng(0), lesions=1, contrast_hu=contrast)
        centre = np.array(made.lesions[0].centre_mm) * made.size
        hu = head_anatomy.hounsfield(made, points(centre), 0.5)
        assert hu[0] == pytest.approx(head_anatomy.WHITE_HU + contrast)
        assert head_anatomy.lesion_mask(made, points(centre))[0]

    def test_lesions_lie_inside_the_brain(self):
        for seed in range(30):
            made = Head.invent(np.random.default_rng(seed), lesions=2, contrast_hu=40)
            for one in made.lesions:
                inside = sum(
                    (c / r) ** 2 for c, r in zip(one.centre_mm, head_anatomy.BRAIN.radii_mm, strict=True)
                )
                assert inside < 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return head.make(tmp_path_factory.mktemp("heads") / "set", patients=10, matrix=48)


def labels_of(data):
    with data.labels_csv.open(newline="") as opened:
        return {row["ID"]: int(row["Label"]) for row in csv.DictReader(opened)}


def digest(data):
    files = sorted(path for path in data.root.rglob("*") if path.is_file())
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


class TestDataSet:
    def test_every_file_has_its_row_and_every_row_its_file(self, made):
        assert set(labels_of(made)) == {path.stem for path in (made.root / made.cts).iterdir()}
        assert all(name.startswith("ID_") for name in labels_of(made))

    def test_the_share_of_patients_with_a_lesion_is_the_one_asked_for(self, made):
        positive = {
            pydicom.dcmread(made.root / made.cts / f"{name}.dcm", stop_before_pixels=True).PatientID
            for name, label in labels_of(made).items()
            if label
        }
        assert len(positive) == 4

    def test_several_vendors_and_ways_of_lying(self, made):
        headers = [
            pydicom.dcmread(path, stop_before_pixels=True) for path in (made.root / made.cts).iterdir()
        ]
        assert len({one.Manufacturer for one in headers}) >= 4
        assert len({tuple(one.ImageOrientationPatient) for one in headers}) >= 4

    def test_the_same_arguments_give_the_same_bytes(self, tmp_path):
        one, other = (head.make(tmp_path / name, patients=3, matrix=32) for name in ("a", "b"))
        assert digest(one) == digest(other)

    def test_shuffled_labels_keep_their_number_and_lose_their_truth(self, tmp_path):
        honest = labels_of(head.make(tmp_path / "a", patients=24, matrix=32, most_slices=1))
        shuffled = labels_of(head.make(tmp_path / "b", patients=24, matrix=32, most_slices=1, shuffled=True))
        assert set(honest) == set(shuffled)
        assert sum(honest.values()) == sum(shuffled.values()) == round(0.4 * 24)
        assert honest != shuffled

    def test_a_positive_slice_shows_its_lesion(self):
        rng = np.random.default_rng(3)
        for number in range(5):
            patient = head.invent(number, rng, is_positive=True, contrast_hu=45)
            for k in patient.slices:
                grid, hu, mask = head.scan(patient, np.random.default_rng(0), only=k)
                assert mask.sum() * grid.spacing_mm[0] ** 2 >= head.LEAST_LESION_MM2 / 2
                assert hu[mask].mean() > head_anatomy.BRAIN_HU + 10
