"""Bundles and `predict`: what a bundle needs, what a prediction writes, what is refused by name."""

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from ct_assets import files
from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.evaluation import calibration
from ct_assets.learning.evaluation.calibration import OperatingPoint
from ct_assets.learning.models import bundle, inference
from ct_assets.learning.models.final_model import Source, _fill
from ct_assets.learning.models.predict import RECORD, predict
from ct_assets.learning.networks import dual_head
from ct_assets.learning.training.train import train_fold
from ct_assets.settings.training import InferenceSettings
from ct_assets_tests.learning import tiny

CONFIG = tiny.config(stages=[{"epochs": 1}], steps_per_epoch=60, optimizer={"learning_rate": 0.03})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("predict"), patients=6, tests=1)


@pytest.fixture(scope="module")
def made(cohort, tmp_path_factory):
    """A bundle of one trained fold, with a temperature and thresholds."""
    arguments = cohort.arguments(CONFIG)
    result = train_fold(**arguments)
    folder = tmp_path_factory.mktemp("bundle") / "final"
    points = tuple(OperatingPoint(stage=s, threshold=0.3, rule="max_f1") for s in tiny.STAGES)
    frozen = calibration.Calibration(kind="temperature", temperature=2.0, operating_points=points)
    source = Source(
        "fold-0", result.weights, arguments["examples"].data.plan, result.best_epoch, result.digest
    )
    report = {"confidence": 0.95, "verdicts": [], "segmentation": {}, "stage": {}}
    _fill(folder, arguments["experiment"], [source], frozen, report)
    return folder


class TestBundle:
    def test_it_needs_nothing_else_to_predict(self, made, cohort):
        opened = bundle.load(made)
        assert {path.name for path in made.iterdir()} == {
            "bundle.json",
            "card.md",
            "fold-0.plan.json",
            "fold-0.safetensors",
        }
        volume = nifti.read(cohort.layout.root / cohort.manifest["image"][2])
        found = bundle.predict(bundle.open_members(made, opened), volume, 0.0)
        assert found.mask.grid.same_as(volume.grid)
        truth = nifti.read(cohort.layout.root / cohort.manifest["label"][2]).array > 0
        assert 2 * (found.mask.array & truth).sum() / (found.mask.array.sum() + truth.sum()) > 0.6

    @pytest.mark.parametrize("name", ["fold-0.safetensors", "fold-0.plan.json", "bundle.json"])
    def test_a_file_that_was_changed_is_refused_by_name(self, made, tmp_path, name):
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in made.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(
            content.replace(b"tiny", b"tinx") if name == "bundle.json" else content[:-9]
        )
        with pytest.raises(UsageError):
            bundle.open_members(copy, bundle.load(copy))

    def test_small_components_are_dropped_by_volume(self):
        mask = np.zeros((5, 5, 5), np.uint8)
        mask[0, 0, 0] = 1
        mask[2:4, 2:4, 2:4] = 1
        kept = bundle.drop_small(mask, voxel_ml=0.5, min_component_ml=1.0)
        assert kept.sum() == 8


class TestSlidingWindow:
    def network(self):
        config = tiny.config(stage_head=None)
        return dual_head.build(config, classes=0, spacing_mm=(1, 1, 1), patch_size=(8, 8, 8)).eval()

    def test_windows_cover_every_voxel_and_overlap_as_asked(self):
        starts = inference.window_starts((20, 8, 5), (8, 8, 8), 0.5)
        assert starts == [(0, 0, 0), (4, 0, 0), (8, 0, 0), (12, 0, 0)]

    def test_a_volume_of_one_window_is_the_network_itself(self):
        import torch

        network = self.network()
        image = torch.randn(1, 8, 8, 8)
        found = self.run(network, image)
        with torch.no_grad():
            assert torch.allclose(found, network.backbone(image[None]).mask_logits[0], atol=1e-5)

    def test_a_volume_smaller_than_a_window_keeps_its_shape(self):
        import torch

        assert self.run(self.network(), torch.randn(1, 5, 8, 3)).shape == (1, 5, 8, 3)

    def test_blending_equals_that_of_monai(self):
        import torch
        from monai.inferers.utils import sliding_window_inference

        network = self.network()
        image = torch.randn(1, 12, 12, 8)
        with torch.no_grad():
            expected = sliding_window_inference(
                image[None],
                (8, 8, 8),
                4,
                lambda windows: network.backbone(windows).mask_logits,
                overlap=0.5,
                mode="gaussian",
            )
        assert torch.allclose(self.run(network, image), expected[0], atol=1e-4)

    def run(self, network, image):
        settings = InferenceSettings(overlap=0.5)
        return inference.run(
            network, image, patch_size=(8, 8, 8), settings=settings, stage_windows=1, outside=0.0
        ).logits


class TestNiftiInput:
    def test_mask_stage_overlay_and_record(self, made, cohort, tmp_path):
        image = cohort.layout.root / cohort.manifest["image"][0]
        lines = predict(made, image, tmp_path)
        assert lines == files.read_jsonl(tmp_path / RECORD)
        folder = tmp_path / "case_0000"
        mask = nifti.read(folder / "mask.nii.gz")
        assert mask.grid.same_as(nifti.read(image).grid)
        assert set(np.unique(mask.array)) <= {0, 1}
        stage = files.read_json(folder / "stage.json")
        assert sum(stage["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
        assert stage["predicted"] == max(stage["probabilities"], key=stage["probabilities"].get)
        assert stage["calls"] == {name: p >= 0.3 for name, p in stage["probabilities"].items()}
        assert (folder / "overlay.png").read_bytes().startswith(b"\x89PNG")
        assert lines[0]["tumour_ml"] == pytest.approx(mask.array.sum() * 0.064, abs=1e-4)

    def test_an_oblique_flipped_image_gives_its_mask_on_its_own_grid(self, made, tmp_path):
        turn = np.radians(12)
        direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]])
        grid = Grid.of((14, 18, 22), (3.0, 5.0, 4.0), (10.0, -20.0, 300.0), direction)
        hu = np.full(grid.shape, -800, np.int16)
        hu[4:9, 5:12, 6:15] = 40
        nifti.write(tmp_path / "in/odd.nii.gz", Volume(hu, grid))
        predict(made, tmp_path / "in", tmp_path / "out")
        assert nifti.read(tmp_path / "out/odd/mask.nii.gz").grid.same_as(grid)

    def test_the_same_input_gives_the_same_bytes(self, made, cohort, tmp_path):
        image = cohort.layout.root / cohort.manifest["image"][1]
        for name in ("one", "two"):
            predict(made, image, tmp_path / name)
        for path in (tmp_path / "one").rglob("*"):
            if path.is_file():
                twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
                assert path.read_bytes() == twin.read_bytes(), path.name

    def test_an_unreadable_image_is_a_line_and_the_others_are_predicted(self, made, cohort, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/broken.nii.gz").write_bytes(b"no image")
        image = cohort.layout.root / cohort.manifest["image"][0]
        (tmp_path / "in/good.nii.gz").write_bytes(image.read_bytes())
        lines = predict(made, tmp_path / "in", tmp_path / "out")
        assert [(line["series"], line["status"]) for line in lines] == [
            ("broken", "refused"),
            ("good", "predicted"),
        ]
        assert lines[0]["reasons"] == ["prediction_refused", "unreadable_image"]


@pytest.fixture(scope="module")
def predicted(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    chest(folder / "in")
    return folder, predict(made, folder / "in", folder / "out")


class TestDicomInput:
    def test_no_warning_quotes_the_patient(self, made, tmp_path, recwarn, capfd):
        """A name of one component, a birth date that is none: what the libraries complain of, value and all."""
        chest(tmp_path / "in")
        for path in (tmp_path / "in").rglob("*"):
            slice_ = dcmread(path)
            slice_.PatientName, slice_.PatientBirthDate = "Quillmereth", "19610314"
            slice_["PatientBirthDate"]._value = "14.3.Quillmereth"
            slice_.save_as(path)
        recwarn.clear()
        (line, *_) = predict(made, tmp_path / "in", tmp_path / "out")
        assert line["status"] == "predicted"
        said = [str(one.message) for one in recwarn] + list(capfd.readouterr())
        assert not [text for text in said if "Quillmereth" in text]

    def test_the_seg_refers_to_the_series_and_holds_the_mask(self, predicted):
        folder, lines = predicted
        line = lines[0]
        assert (line["status"], line["seg"]) == ("predicted", f"{line['series']}/mask.dcm")
        seg = dcmread(folder / "out" / line["seg"])
        first = dcmread(sorted((folder / "in").iterdir())[0])
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
        assert (seg.PatientID, seg.StudyInstanceUID) == (first.PatientID, first.StudyInstanceUID)
        mask = nifti.read(folder / "out" / line["mask"]).array
        assert seg.pixel_array.sum() == mask.sum()
        frames = {
            float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            for frame in seg.PerFrameFunctionalGroupsSequence
        }
        assert frames <= {float(dcmread(path).ImagePositionPatient[2]) for path in (folder / "in").iterdir()}

    def test_a_validator_of_the_standard_finds_no_error(self, predicted):
        import shutil
        import subprocess

        if shutil.which("dciodvfy") is None:
            pytest.skip("dciodvfy is not here")
        folder, lines = predicted
        found = subprocess.run(
            ["dciodvfy", str(folder / "out" / lines[0]["seg"])], capture_output=True, text=True, check=False
        )
        assert [line for line in found.stderr.splitlines() if line.startswith("Error")] == []


def chest(folder):
    """Write a CT series of a bright ball as a hospital would, with what a SEG must copy."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    study, series, frame = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "frame"))
    k, j, i = np.indices((16, 20, 20))
    hu = np.where((k - 8) ** 2 + (j - 10) ** 2 + (i - 10) ** 2 < 20, 60, -800)
    for number in range(16):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
        slice_.SOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=[f"slice {number}"])
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.PatientID, slice_.PatientName, slice_.PatientBirthDate = "P1", "Ball^Bright", "19600101"
        slice_.PatientSex, slice_.StudyID, slice_.AccessionNumber = "O", "1", "1"
        slice_.StudyDate, slice_.StudyTime, slice_.ReferringPhysicianName = "20260101", "120000", ""
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.PositionReferenceIndicator, slice_.Laterality = "", ""
        slice_.Modality, slice_.SeriesNumber, slice_.InstanceNumber = "CT", 1, number + 1
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.Manufacturer, slice_.KVP, slice_.AcquisitionNumber = "maker", "120", 1
        slice_.ImagePositionPatient = [-38.0, -38.0, 4.0 * number]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.SliceThickness = [4.0, 4.0], 4.0
        slice_.Rows, slice_.Columns = 20, 20
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, 0
        slice_.PixelData = hu[number].astype(np.int16).tobytes()
        slice_.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)


class TestTheCommand:
    def test_it_predicts_and_writes_timings(self, made, cohort, tmp_path):
        image = cohort.layout.root / cohort.manifest["image"][0]
        result = CliRunner().invoke(app, ["predict", str(made), str(image), str(tmp_path), "--workers", "1"])
        assert result.exit_code == 0, result.output
        steps = [step["step"] for step in files.read_json(tmp_path / "timings.json")]
        assert steps == ["model", "inputs", "predict"]

    @pytest.mark.parametrize("missing", ["model", "input"])
    def test_what_is_not_there_is_named(self, made, tmp_path, missing):
        model = tmp_path / "none" if missing == "model" else made
        with pytest.raises(UsageError, match="no such"):
            predict(model, tmp_path / "nothing", tmp_path / "out")

    def test_an_unknown_registered_name_is_refused(self, cohort, tmp_path):
        with pytest.raises(UsageError, match="not in the register"):
            predict("models:/nobody@champion", tmp_path, tmp_path, tracking_uri=tiny.tracking_uri())
