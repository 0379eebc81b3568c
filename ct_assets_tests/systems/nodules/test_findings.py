"""Findings: measures of balls and ellipsoids, filters with reasons, the JSON."""

from dataclasses import replace

import numpy as np
import pytest

from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.reasons import reason
from ct_assets.systems.nodules import findings, findings_json

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1.0]])
GRIDS = {
    "fine": Grid.of((50, 60, 60), (0.5, 0.5, 0.6), (-15.0, -15.0, 100.0)),
    "oblique": Grid.of((40, 60, 60), (0.5, 0.5, 0.8), (0.0, -20.0, 130.0), TURN),
}


def ellipsoid(grid, axes, centre_kji=(20, 30, 30)):
    """An ellipsoid with diameters `axes` along the patient's x, y, z."""
    k, j, i = np.indices(grid.shape)
    world = grid.world(np.stack([i, j, k], axis=-1).astype(float))
    centre = grid.world(np.array(centre_kji[::-1], dtype=float))
    mask = (((world - centre) / (np.array(axes) / 2)) ** 2).sum(axis=-1) <= 1
    return mask, Volume(np.where(mask, 40, -800).astype(np.int16), grid), centre


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("axes", [(10.0, 10.0, 10.0), (14.0, 10.0, 7.0), (6.0, 9.0, 12.0)])
def test_an_ellipsoid_measures_what_it_is(grid, axes):
    mask, image, centre = ellipsoid(grid, axes)
    found = findings.measure(mask, image, confidence=0.5)
    assert found.diameters_mm == pytest.approx(sorted(axes, reverse=True), rel=0.03)
    assert found.volume_mm3 == pytest.approx(np.pi / 6 * np.prod(axes), rel=0.05)
    assert found.centre_lps_mm == pytest.approx(centre, abs=0.1)
    assert found.mean_hu == 40
    low, high = np.array(found.box_kji)
    assert mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].sum() == mask.sum()
    assert found.centre_kji == pytest.approx(findings.on_grid(found, grid))


def test_one_voxel():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, 2] = True
    found = findings.measure(mask, Volume(np.zeros((3, 3, 3)), Grid.of((3, 3, 3), (1, 1, 1))), confidence=1)
    assert found.box_kji == ((1, 1, 2), (2, 2, 3))
    assert found.volume_mm3 == pytest.approx(1)
    with pytest.raises(ValueError, match="voxel"):
        findings.measure(
            np.zeros((3, 3, 3), dtype=bool),
            Volume(np.zeros((3, 3, 3)), Grid.of((3, 3, 3), (1, 1, 1))),
            confidence=1,
        )


def finding(x=0.0, confidence=0.5, diameter=8.0):
    return findings.Finding(
        (x, 0.0, 0.0), (0.0, 0.0, x), confidence, (diameter,) * 3, 100.0,
        ((0, 0, int(x)), (4, 4, int(x) + 4)), -20.0, None, "2.25.1",
    )  # fmt: skip


def outcome(found, filters, **options):
    kept, left_out = findings.select(found, filters, **options)
    assert all(reason(row.reason) for row in left_out)
    return [one.centre_lps_mm[0] for one in kept], [
        (row.finding.centre_lps_mm[0], row.reason) for row in left_out
    ]


def test_every_finding_remains_or_has_its_reason():
    lungs = np.zeros((4, 4, 80), dtype=bool)
    lungs[:, :, :70] = True
    found = [
        finding(0, 0.1),
        finding(20, 0.9, 2.0),
        finding(30, 0.9, 50.0),
        finding(72, 0.9),
        finding(40),
        finding(44, 0.4),
    ]
    kept, left_out = outcome(found, findings.Filters(least_confidence=0.2), lungs=lungs)
    assert kept == [40]
    assert dict(left_out) == {
        0: "finding_below_confidence", 20: "finding_too_small", 30: "finding_too_large",
        72: "finding_outside_lungs", 44: "finding_suppressed",
    }  # fmt: skip


def test_suppression_by_overlap_and_the_limit():
    # boxes of 4: two apart overlap by 1/3
    found = [finding(0, 0.9), finding(2, 0.8), finding(4, 0.7), finding(40, 0.6)]
    kept, left_out = outcome(found, findings.Filters(suppress="iou", iou=0.3, most=2))
    assert kept == [0, 4]
    assert left_out == [(2, "finding_suppressed"), (40, "finding_beyond_limit")]


def test_a_finding_that_goes_itself_takes_no_other_out():
    kept, _ = outcome([finding(0, 0.9, 60.0), finding(2, 0.5)], findings.Filters())
    assert kept == [2]


def test_tracking_uids_follow_from_the_prediction():
    found = [finding(0), finding(9)]
    first = findings.with_tracking(found, scan_id="1.2", model="m")
    assert first == findings.with_tracking(found, scan_id="1.2", model="m")
    assert len({one.tracking_uid for one in first}) == 2
    assert first[0].tracking_uid != findings.with_tracking(found, scan_id="1.3", model="m")[0].tracking_uid


class TestJson:
    def form(self, *probabilities):
        found = [replace(finding(9 * n), triage=p) for n, p in enumerate(probabilities)]
        return findings_json.form(found, GRIDS["fine"], scan_id="1.2", model="m", version="1")

    def test_it_reads_what_it_wrote(self, tmp_path):
        path = tmp_path / "findings.json"
        findings_json.write(path, self.form(0.1, None))
        content = findings_json.read(path)
        assert content.findings[1].center_world_mm.x == 9
        assert content.findings[1].center_voxel.i == 9
        assert (content.spacing_mm.k, content.spacing_mm.i, content.shape.k) == (0.6, 0.5, 50)

    def test_bands(self):
        summary = self.form(0.29, 0.3, 0.69, 0.7, None).summary
        assert (summary.low, summary.intermediate, summary.high, summary.not_determined) == (1, 2, 1, 1)

    def test_no_findings(self):
        assert self.form().summary.largest_diameter_mm is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"confidence": 0.5', '"confidence": 1.5'),
            ('"findings": 1', '"findings": 2'),
            ('"1.0"', '"2.0"'),
            ('"scan_id"', '"scan"'),
        ],
    )
    def test_another_form_is_refused_by_field(self, tmp_path, old, new):
        path = tmp_path / "findings.json"
        findings_json.write(path, self.form(0.1))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(UsageError, match=r"findings\.json"):
            findings_json.read(path)

    def test_the_schema_names_every_field(self):
        assert "center_voxel" in str(findings_json.schema())
