"""Follow-up phantoms: motion, growth by type, boxes and splits, by their own laws."""

import math

import numpy as np
import pytest

from ct_assets.phantom import followup
from ct_assets.phantom.followup import Exam, Nodule, Patient

STILL = tuple(tuple(float(value) for value in line) for line in np.eye(4))
SHIFTED = tuple(map(tuple, [[1.0, 0, 0, 7.6], [0, 1, 0, 0], [0, 0, 1, -4.4], [0, 0, 0, 1]]))


def patient(kind="solid", rate=0.0):
    nodule = Nodule("g", kind, (46.0, 0.0, 0.0), (10.0, 10.0, 10.0), rate)
    exams = (Exam("e0", 0, 0, STILL), Exam("e1", 1, 400, SHIFTED))
    return Patient("p", "train", (nodule,), (), exams, (0, 0))


def test_a_solid_nodule_doubles_in_400_days_and_a_calcified_one_stays():
    grown = Nodule("g", "solid", (0, 0, 0), (10.0, 10.0, 10.0), math.log(2) / 400)
    assert grown.volume_mm3(0) == pytest.approx(math.pi / 6 * 1000)
    assert grown.volume_mm3(400) == pytest.approx(2 * grown.volume_mm3(0))
    assert grown.radii_mm(400)[0] == pytest.approx(5 * 2 ** (1 / 3))
    kinds = {
        nodule.nodule_type: nodule.rate_per_day
        for one in followup.cohort(20, seed=1)
        for nodule in one.nodules
    }
    assert (kinds["calcified"], kinds["solid"]) == (0.0, pytest.approx(math.log(2) / 400))
    assert kinds["part_solid"] == pytest.approx(math.log(2) / 200)


def test_what_no_model_can_know_grows_on_average_as_the_others_do():
    rates = [
        nodule.rate_per_day
        for one in followup.cohort(50, seed=2)
        for nodule in one.nodules
        if nodule.nodule_type == followup.ERRATIC
    ]
    assert np.std(rates) > 0.6 * followup.MEAN_RATE
    assert np.mean(rates) == pytest.approx(followup.MEAN_RATE, rel=0.2)


def test_a_scan_shows_the_nodule_where_the_motion_carries_it():
    volumes = [followup.scan(patient(), exam) for exam in patient().exams]
    for volume, place in zip(volumes, [(46.0, 0.0, 0.0), (53.6, 0.0, -4.4)], strict=True):
        i, j, k = np.rint(volume.grid.index(np.array(place))).astype(int)
        assert volume.array[k, j, i] > 0
        assert volume.array[k, j, i + 5] < -700
    again = followup.scan(patient(), patient().exams[1])
    assert np.array_equal(again.array, volumes[1].array)


def test_a_box_holds_the_nodule_on_its_exam_rows_first():
    first, second = (followup.voxel_box(patient().nodules[0], exam) for exam in patient().exams)
    column = followup.grid().index(np.array([46.0, 0.0, 0.0]))[0]
    assert first[2] == round(column - 5 / 1.9)
    # 7.6 mm are four columns, 4.4 mm two slices.
    assert np.subtract(second, first).tolist() == [0, 0, 4, 4, -2, -2]


def test_every_patient_has_one_split_and_half_are_for_the_test():
    splits = [one.split for one in followup.cohort(20, seed=0, nodules=1)]
    assert [splits.count(name) for name in ("train", "val", "test")] == [8, 2, 10]


def test_exams_may_skip_a_timepoint_and_keep_their_days():
    schedules = {
        tuple(exam.timepoint for exam in one.exams) for one in followup.cohort(30, seed=0, nodules=1)
    }
    assert schedules == set(followup.SCHEDULES)
