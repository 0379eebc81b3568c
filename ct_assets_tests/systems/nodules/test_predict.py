"""`ct-assets predict` with a nodule bundle: the files of every series, whatever lies beside it."""

import json
from dataclasses import replace

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest

from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.training import checkpoints
from ct_assets.phantom import headers, objects, people, scanner
from ct_assets.progress import Timings
from ct_assets.settings import Settings
from ct_assets.settings.nodules import NoduleConfig, NoduleSampling
from ct_assets.systems import predict
from ct_assets.systems.nodules import bundle, findings_json, train
from ct_assets.systems.nodules.classical import Classical
from ct_assets.systems.nodules.decisions import Decisions
from ct_assets.systems.nodules.mark_calibration import MarkCalibration
from ct_assets.systems.nodules.network import NoduleNetwork
from ct_assets_tests.systems.nodules.test_classical import NODULES, chest

GRID = Grid.of((44, 64, 88), (1.5, 1.5, 2.0), (-65.25, -47.25, -43.0))
DECISIONS = Decisions(
    threshold=0.3, false_marks_per_scan=1.0, sensitivity=1.0, false_marks=0.5, scans=2,
    calibration=MarkCalibration(kind="temperature", temperature=2.0, scans=10),
)  # fmt: skip
CONFIG = NoduleConfig(
    widths=(4, 4, 4, 4), sampling=NoduleSampling(patch_size=(16, 16, 16)), accelerator="cpu"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    weights = folder / "weights.safetensors"
    checkpoints.save_weights(weights, NoduleNetwork(CONFIG.widths).state_dict(), {})
    bundle.build(
        folder / "bundle", experiment="tiny", config=CONFIG, weights=weights, data_digest="0" * 64,
        decisions=DECISIONS,
    )  # fmt: skip
    return folder / "bundle"


@pytest.fixture(scope="module")
def predicted(model, tmp_path_factory):
    """A DICOM series, a NIfTI image of the same chest, a truncated file and an image that is no chest."""
    folder, output = tmp_path_factory.mktemp("input"), tmp_path_factory.mktemp("output")
    volume = chest(GRID, nodule_mm=9.0)
    volume.array[:, 8:10, 42:46] = 600  # a spine, or it would be no chest
    machine = replace(scanner.SCANNERS[0], matrix=64, is_signed=True, intercept=0)
    person = people.invent(1, np.random.default_rng(0))
    study = headers.study_header(person, "20240110", "101112", "p")
    slices = objects.ct_slices(
        study, headers.ct_header(person, machine, "p", "Thorax"), machine, GRID, volume.array, "p"
    )
    for number, one in enumerate(slices):
        objects.save(one, folder / "series" / f"{number}.dcm")
    nifti.write(folder / "same.nii.gz", volume)
    nifti.write(
        folder / "water.nii.gz", Volume(np.zeros((40, 40, 40), np.int16), GRID.of((40,) * 3, (1.0,) * 3))
    )
    (folder / "cut.nii.gz").write_bytes((folder / "same.nii.gz").read_bytes()[:3000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "open_detector", lambda *_: Classical(spacing_mm=1.5))
        lines = predict(str(model), folder, output, settings=Settings(), workers=1, timings=Timings())
    return folder, output, {line["series"]: line for line in lines}, slices


def test_every_input_has_a_line_and_a_bad_one_ends_no_other(predicted):
    _, output, lines, slices = predicted
    assert set(lines) == {str(slices[0].SeriesInstanceUID), "same", "water", "cut"}
    assert lines["same"]["status"] == "predicted"
    assert lines["cut"]["status"] == "refused"
    assert lines["water"]["status"] == "refused"
    assert lines["water"]["reasons"][0] == "prediction_refused"
    assert len(lines["water"]["reasons"]) > 1
    assert not (output / "water").exists()
    written = [json.loads(line) for line in (output / "prediction.jsonl").read_text().splitlines()]
    assert {line["series"]: line for line in written} == lines


def test_a_series_gets_all_files_and_they_agree(predicted):
    _, output, lines, slices = predicted
    uid = str(slices[0].SeriesInstanceUID)
    folder = output / uid
    assert {"findings.json", "findings.txt", "findings.dcm", "mask.nii.gz", "mask.dcm", "overlay.png"} == {
        path.name for path in folder.iterdir()
    }
    content = findings_json.read(folder / "findings.json")
    assert len(content.findings) == lines[uid]["findings"] >= 2
    for centre in NODULES.values():
        away = [
            np.linalg.norm(
                np.subtract((one.center_world_mm.x, one.center_world_mm.y, one.center_world_mm.z), centre)
            )
            for one in content.findings
        ]
        assert min(away) < 1.5
    uids = [one.tracking_uid for one in content.findings]
    segmentation = hd.seg.segread(folder / "mask.dcm")
    assert [str(one.TrackingUID) for one in segmentation.SegmentSequence] == uids
    report = hd.sr.srread(folder / "findings.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [str(group.tracking_uid) for group in groups] == uids
    assert str(pydicom.dcmread(folder / "findings.dcm").StudyInstanceUID) == str(slices[0].StudyInstanceUID)


def test_findings_are_in_voxels_of_the_input_and_their_masks_lie_there(predicted):
    _, output, _, _ = predicted
    content = findings_json.read(output / "same" / "findings.json")
    labels = np.asarray(nib.load(output / "same" / "mask.nii.gz").dataobj).transpose(2, 1, 0)
    assert labels.shape == GRID.shape
    for one in content.findings:
        mask = labels == one.id
        low, high = one.box_voxel.low, one.box_voxel.high
        box = mask[int(low.k) : int(high.k), int(low.j) : int(high.j), int(low.i) : int(high.i)]
        assert box.sum() == mask.sum() > 0
        assert one.volume_mm3 == pytest.approx(mask.sum() * 1.5 * 1.5 * 2.0)
        world = GRID.world(np.array([one.center_voxel.i, one.center_voxel.j, one.center_voxel.k]))
        assert world == pytest.approx((one.center_world_mm.x, one.center_world_mm.y, one.center_world_mm.z))
        # A temperature of 2 brings a confidence nearer to one half.
        assert one.confidence >= DECISIONS.probability(DECISIONS.threshold)


def test_the_shipped_network_opens_and_a_changed_bundle_is_refused(model, tmp_path):
    opened = bundle.load(model)
    detector = train.open_detector(opened.config, model / opened.weights)
    assert not detector.network.training
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = json.loads((model / "bundle.json").read_text())
    changed["decisions"]["threshold"] = 0.1
    (tmp_path / "bundle.json").write_text(json.dumps(changed))
    with pytest.raises(UsageError, match="digest"):
        bundle.load(tmp_path)
