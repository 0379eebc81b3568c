"""SEG and SR of findings: read back by highdicom, with the measures and tracking UIDs that went in."""

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import findings, report_objects
from ct_assets_tests.dicom.factory import ct_slice

SHAPE = (6, 16, 20)
GRID = Grid.of(SHAPE, (0.5, 0.75, 2.0), (-3.0, -2.0, 100.0))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    paths = []
    for number in reversed(range(SHAPE[0])):
        facts = {
            "Rows": SHAPE[1], "Columns": SHAPE[2], "PixelSpacing": [0.75, 0.5], "SliceThickness": 2.0,
            "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "StudyID": "", "StudyDate": "20200101",
            "StudyTime": "000000", "AccessionNumber": "", "ReferringPhysicianName": "", "PositionReferenceIndicator": "",
            "SeriesNumber": 1,
        }  # fmt: skip
        one = ct_slice(number + 1, (-3.0, -2.0, 100.0 + 2.0 * number), **facts)
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        paths.append(folder / f"{number}.dcm")
    return paths


def masks():
    first, second = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    first[1:3, 2:6, 3:8] = True
    second[2:5, 4:9, 10:14] = True
    return [first, second]


def written(tmp_path, sources, drawn):
    image = Volume(np.full(SHAPE, 30, dtype=np.int16), GRID)
    found = [findings.measure(mask, image, confidence=0.25 * n) for n, mask in enumerate(drawn, start=1)]
    found = findings.with_tracking(found, scan_id="1.2", model="m")
    paths = tmp_path / "mask.dcm", tmp_path / "findings.dcm"
    report_objects.write(*paths, found, drawn, GRID, sources, model="m")
    return found, paths


def test_segments_lie_where_the_masks_do(tmp_path, sources):
    found, (seg_path, _) = written(tmp_path, sources, masks())
    seg = hd.seg.segread(seg_path)
    assert [seg.get_segment_description(n).tracking_uid for n in (1, 2)] == [
        one.tracking_uid for one in found
    ]
    by_uid = seg.get_pixels_by_source_instance(
        [dcmread(path).SOPInstanceUID for path in sorted(sources)], assert_missing_frames_are_empty=True
    )
    for number, mask in enumerate(masks()):
        assert (by_uid[..., number].astype(bool) == mask).all()


def test_the_report_has_a_group_a_finding_with_its_measures(tmp_path, sources):
    found, (seg_path, sr_path) = written(tmp_path, sources, masks())
    report = hd.sr.srread(sr_path)
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_uid for group in groups] == [one.tracking_uid for one in found]
    for number, (group, finding) in enumerate(zip(groups, found, strict=True), start=1):
        values = {value.name.meaning: (value.value, value.unit.value) for value in group.get_measurements()}
        assert values["Diameter"] == (round(finding.diameters_mm[0], 3), "mm")
        assert values["Volume"] == (round(finding.volume_mm3, 3), "mm3")
        assert values["Attenuation Coefficient"] == (30, "[hnsf'U]")
        assert values["Certainty of Finding"] == (25 * number, "%")
        segment = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert segment.ReferencedSOPInstanceUID == dcmread(seg_path).SOPInstanceUID
        assert segment.ReferencedSegmentNumber == number


def test_without_findings_there_is_a_report_and_no_segmentation(tmp_path, sources):
    _, (seg_path, sr_path) = written(tmp_path, sources, [])
    assert not seg_path.exists()
    content = hd.sr.srread(sr_path).content
    assert content.get_volumetric_roi_measurement_groups() == []
    (group,) = content.get_image_measurement_groups()
    assert [row.value.meaning for row in group.get_qualitative_evaluations()] == ["Not detected"]


def test_overlapping_masks_are_kept_whole(tmp_path, sources):
    both = [masks()[0], masks()[0]]
    _, (seg_path, _) = written(tmp_path, sources, both)
    assert hd.seg.segread(seg_path).number_of_segments == 2


def test_equal_predictions_have_equal_uids(tmp_path, sources):
    uids = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _, paths = written(tmp_path / name, sources, masks())
        uids.append([dcmread(path).SOPInstanceUID for path in paths])
    assert uids[0] == uids[1]
