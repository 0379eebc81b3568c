"""Reports over folds and the one reading of the test split, on predictions whose quality is known."""

import numpy as np
import polars as pl
import pytest

from ct_assets import files, tables
from ct_assets.errors import SafetyError, UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.layout import Layout
from ct_assets.learning.evaluation import calibration, evaluate
from ct_assets.learning.evaluation.baselines import headers_only, prevalence, threshold_in_lung
from ct_assets.learning.evaluation.predict_fold import PREDICTIONS_NAME
from ct_assets.learning.evaluation.test_access_log import LEDGER_NAME, Reading, Readings, readings
from ct_assets.learning.models import bundle
from ct_assets.phantom import anatomy
from ct_assets.tables.learning import Predictions
from ct_assets_tests.learning import tiny

CONFIG = tiny.config()


def predict(cohort, fold, *, experiment="tiny", miss=(), stage=lambda row: 0.8):
    """Write predictions of a fold: the reference mask itself, or nothing for cases in `miss`.

    `stage` gives the probability of the true class; the other two share the rest.
    """
    folder = cohort.layout.fold_model(experiment, fold)
    rows = []
    for case in cohort.manifest.filter(pl.col("fold") == int(fold)).iter_rows(named=True):
        truth = nifti.read(cohort.layout.root / case["label"])
        array = np.zeros_like(truth.array) if case["case_id"] in miss else truth.array
        path = folder / "predictions" / case["case_id"] / "mask.nii.gz"
        nifti.write(path, Volume(array, truth.grid))
        own = stage(case)
        probabilities = [own if name == case["stage"] else (1 - own) / 2 for name in tiny.STAGES]
        rows.append(
            {
                "case_id": case["case_id"],
                "patient_id": case["patient_id"],
                "fold": fold,
                "mask": cohort.layout.relative(path),
                "stage": case["stage"],
                "stage_probabilities": probabilities,
                "predicted_ml": 1.0,
                "site": case["site"],
                "scanner": None,
                "model_sha256": "0" * 64,
            }
        )
    tables.write_table(folder / PREDICTIONS_NAME, tables.frame(rows, Predictions), Predictions)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("evaluate"), patients=12)


@pytest.fixture(scope="module")
def report(cohort):
    for fold in "012":
        predict(cohort, fold, miss=("case_0000",))
    return evaluate.cv_report(cohort.begin(CONFIG))


class TestCvReport:
    def test_perfect_masks_but_one_missed(self, report):
        pooled = report.figures["segmentation"]["model"]["pooled"]
        assert pooled["dice"]["value"] == pytest.approx(11 / 12, abs=1e-6)
        assert pooled["lesion_miss_rate"]["value"] == pytest.approx(1 / 12, abs=1e-6)
        assert pooled["case_miss_rate"]["patients"] == 12
        diagonal = 4.0 * np.sqrt(15**2 + 19**2 + 19**2)
        assert pooled["hd95_mm"]["value"] == pytest.approx(diagonal / 12, abs=1e-3)

    def test_every_figure_has_an_interval_that_holds_it(self, report):
        for figure in report.figures["segmentation"]["model"]["pooled"].values():
            if figure["low"] is None:
                assert figure["method"].startswith("none:")
                continue
            assert figure["low"] <= figure["value"] + 1e-9
            assert figure["value"] <= figure["high"] + 1e-9
            assert figure["high"] - figure["low"] > 0.01

    def test_folds_and_strata_are_told(self, report):
        ours = report.figures["segmentation"]["model"]
        assert set(ours["folds"]) == {"0", "1", "2"}
        assert set(ours["strata"]["stage"]) == set(tiny.STAGES)
        assert set(ours["strata"]["site"]) == {"north", "south"}
        assert ours["folds"]["0"]["dice"]["value"] < ours["folds"]["1"]["dice"]["value"] == 1.0

    def test_stages_told_apart_are_perfect_and_prevalence_is_chance(self, report):
        stage = report.figures["stage"]
        assert stage["model"]["pooled"]["auroc_macro"]["value"] == 1.0
        assert stage["prevalence"]["pooled"]["auroc_macro"]["value"] == 0.5
        assert stage["model"]["confusion"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]

    def test_it_says_plainly_whether_baselines_are_beaten(self, report):
        lines = report.figures["verdicts"]
        assert any(line.startswith("dice: the model beats threshold_in_lung") for line in lines)
        # four of a stage are too few to say more about stages
        assert any(
            line.startswith("auroc_macro against prevalence: no verdict from 12 patients") for line in lines
        )

    def test_a_model_that_guesses_does_not_beat_prevalence(self, cohort):
        rng = np.random.default_rng(0)
        for fold in "012":
            predict(cohort, fold, experiment="guess", stage=lambda row: float(rng.uniform(0.2, 0.5)))
        lines = evaluate.cv_report(cohort.begin(CONFIG, "guess")).figures["verdicts"]
        assert not any("beats prevalence" in line for line in lines)

    def test_calibration_and_thresholds_are_frozen_in_a_file(self, report, cohort):
        kept = files.read_json(cohort.layout.experiment("tiny") / evaluate.CALIBRATION_NAME)
        fitted = calibration.Calibration.model_validate(kept)
        assert fitted.fitted_on == "out_of_fold"
        assert [point.stage for point in fitted.operating_points] == tiny.STAGES
        assert all(point.f1 == 1.0 for point in fitted.operating_points)

    def test_the_same_predictions_give_the_same_report(self, report, cohort):
        again = evaluate.cv_report(cohort.begin(CONFIG))
        assert again.figures == report.figures
        assert again.page.read_bytes() == report.page.read_bytes()

    def test_a_patient_without_a_prediction_is_named(self, cohort):
        predict(cohort, "0", experiment="partial")
        with pytest.raises(UsageError, match=r"6 training cases have no out-of-fold prediction.*case_0003"):
            evaluate.cv_report(cohort.begin(CONFIG, "partial"))

    def test_a_patient_predicted_by_two_folds_is_named(self, cohort):
        for fold in "012":
            predict(cohort, fold, experiment="double")
        folder = cohort.layout.fold_model("double", "3")
        files.write_bytes(
            folder / PREDICTIONS_NAME,
            (cohort.layout.fold_model("double", "0") / PREDICTIONS_NAME).read_bytes(),
        )
        with pytest.raises(UsageError, match=r"predicted by two folds: case_0000"):
            evaluate.cv_report(cohort.begin(CONFIG, "double"))

    def test_two_experiments_are_compared_patient_by_patient(self, report, cohort):
        for fold in "012":
            predict(cohort, fold, experiment="worse", miss=("case_0000", "case_0001", "case_0002"))
        evaluate.cv_report(cohort.begin(CONFIG, "worse"))
        found = evaluate.compare_experiments(cohort.layout, "tiny", "worse", CONFIG)
        assert found["dice"]["difference"] == pytest.approx(2 / 12)
        assert found["hd95_mm"]["difference"] < 0
        assert found["dice"]["low"] < 0 < found["dice"]["high"]  # two of twelve show nothing


def test_noise_of_single_precision_in_a_reference_is_no_tumour(tmp_path):
    voxels = np.zeros((3, 8, 8), np.uint8)
    voxels[1, 2:5, 2:5] = 1
    grid = Grid.of(voxels.shape, (1.0, 1.0, 1.0))
    nifti.write(tmp_path / "mask.nii.gz", Volume(voxels, grid))
    nifti.write(tmp_path / "label.nii.gz", Volume(np.where(voxels, 0.9999, 1e-4).astype(np.float32), grid))
    names = ("patient_id", "fold", "stage", "site", "scanner")
    case = {"case_id": "a", "mask": "mask.nii.gz", **dict.fromkeys(names, "x")}
    manifest = pl.DataFrame({"case_id": ["a"], "label": ["label.nii.gz"]})
    scores = evaluate.score_cases(pl.DataFrame([case]), manifest, Layout(tmp_path), CONFIG, "model")
    assert scores["dice"].to_list() == [1.0]


class TestBaselines:
    def test_prevalence_counts_one_more_of_each(self):
        assert prevalence(["I", "I", "II", None], ["I", "II", "III"]).tolist() == pytest.approx(
            [3 / 6, 2 / 6, 1 / 6]
        )

    def test_headers_that_tell_the_stage_are_found_out_and_others_are_not(self):
        rng = np.random.default_rng(0)
        truth = [tiny.STAGES[n % 3] for n in range(60)]
        folds = [str(n // 3 % 4) for n in range(60)]
        told = pl.DataFrame({"manufacturer": [f"maker {stage}" for stage in truth]})
        right = np.array([tiny.STAGES.index(stage) for stage in truth])
        found = headers_only(told, truth, folds, tiny.STAGES)
        assert (found.argmax(1) == right).all()
        noise = pl.DataFrame({"kvp_kv": rng.normal(120, 10, 60)})
        assert (headers_only(noise, truth, folds, tiny.STAGES).argmax(1) == right).mean() < 0.6

    def test_headers_that_are_all_alike_say_nothing(self):
        assert (
            headers_only(pl.DataFrame({"kvp_kv": [120.0] * 4}), ["I"] * 4, list("0011"), ["I", "II"]) is None
        )

    def test_the_threshold_rule_finds_a_tumour_in_the_lung(self):
        chest = anatomy.Chest.invent("II", np.random.default_rng(3))
        volume, mask = _scan(chest)
        found = threshold_in_lung(volume)
        assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.5

    def test_without_lungs_it_finds_nothing(self):
        volume, _ = _scan(anatomy.Chest.invent("II", np.random.default_rng(3)))
        solid = Volume(np.full(volume.grid.shape, 40, np.int16), volume.grid)
        assert not threshold_in_lung(solid).any()


def _scan(chest):
    from ct_assets.imaging.volume import Grid

    grid = Grid.of((36, 90, 90), (4.0, 4.0, 5.0), (-178.0, -178.0, -87.5))
    k, j, i = np.indices(grid.shape)
    points = grid.world(np.stack([i, j, k], axis=-1)).astype(np.float32)
    hu = np.rint(anatomy.hounsfield(chest, points, 4.0)).astype(np.int16)
    return Volume(hu, grid), anatomy.tumour_mask(chest, points)


class TestTheOneReading:
    READING = Reading(experiment="e", model_digest="m", test_digest="t", settings_digest="s")

    def test_the_first_is_written_down_and_the_same_again_is_no_second(self, tmp_path):
        Readings(tmp_path).open(self.READING, force=False)
        again = Readings(tmp_path)
        again.open(self.READING, force=False)
        assert again.count() == 1
        assert not again.is_forced(self.READING)

    @pytest.mark.parametrize("changed", ["experiment", "model_digest", "test_digest", "settings_digest"])
    def test_a_second_with_anything_else_is_refused_and_a_forced_one_marked_for_ever(self, tmp_path, changed):
        Readings(tmp_path).open(self.READING, force=False)
        other = self.READING.model_copy(update={changed: "other"})
        with pytest.raises(UsageError, match="test_already_read"):
            Readings(tmp_path).open(other, force=False)
        Readings(tmp_path).open(other, force=True)
        assert Readings(tmp_path).is_forced(other)
        assert not Readings(tmp_path).is_forced(self.READING)
        assert Readings(tmp_path).count() == 2

    def test_a_first_reading_is_not_forced_however_it_is_asked_for(self, tmp_path):
        Readings(tmp_path).open(self.READING, force=True)
        assert not Readings(tmp_path).is_forced(self.READING)

    def test_a_ledger_changed_by_hand_is_not_trusted(self, tmp_path):
        Readings(tmp_path).open(self.READING, force=False)
        path = tmp_path / LEDGER_NAME
        path.write_text(path.read_text().replace('"is_forced":false', '"is_forced":true'))
        with pytest.raises(SafetyError, match="changed by hand"):
            Readings(tmp_path)


@pytest.mark.slow
def test_from_training_to_the_test_report_and_a_forced_second_reading(tmp_path):
    """The whole way on a tiny cohort: folds, report, final models of both kinds, the one reading."""
    from ct_assets.learning.evaluation.predict_fold import predict as predict_fold
    from ct_assets.learning.models import final_model
    from ct_assets.learning.training.train import train_fold
    from ct_assets.learning.volumes.plan import FINAL

    cohort = tiny.make(tmp_path)
    for fold in "012":
        train_fold(**cohort.arguments(CONFIG, fold))
        predict_fold(**cohort.predicted(CONFIG, fold))
    evaluate.cv_report(cohort.begin(CONFIG))
    uri = {"tracking_uri": tiny.tracking_uri()}
    made = final_model.build(cohort.begin(CONFIG), **uri)
    assert made.bundle.kind == "fold_ensemble"
    assert len(made.bundle.members) == 3
    assert made.registered_as.startswith("models:/lung/")
    assert final_model.build(cohort.begin(CONFIG), **uri).registered_as == made.registered_as
    first = evaluate.test_report(cohort.begin(CONFIG))
    assert first.figures["patients"] == 2
    assert not first.figures["is_forced"]
    assert evaluate.test_report(cohort.begin(CONFIG)).figures == first.figures

    tiny.make_fold(cohort.layout, cohort.manifest, FINAL)
    single = CONFIG.model_copy(update={"final": CONFIG.final.model_copy(update={"kind": "single"})})
    other = final_model.build(cohort.begin(single), **uri)
    assert [member.name for member in other.bundle.members] == ["single"]
    assert other.bundle.calibration.is_transferred
    assert bundle.load(other.folder) == other.bundle
    with pytest.raises(UsageError, match="test_already_read"):
        evaluate.test_report(cohort.begin(single))
    forced = evaluate.test_report(cohort.begin(single), force=True)
    assert forced.figures["is_forced"]
    assert "This reading was forced" in forced.page.read_text()
    assert [reading.forced for reading in readings(cohort.layout)] == [False, True]


@pytest.mark.slow
def test_an_experiment_on_a_smaller_set_is_judged_under_its_own_plans(tmp_path):
    """The full set has other plans, of the same folds; they must not be taken for those of the smaller set."""
    from ct_assets import tables
    from ct_assets.learning.evaluation.predict_fold import predict as predict_fold
    from ct_assets.learning.models import final_model
    from ct_assets.learning.training.lung_task import LungTraining, examples_of
    from ct_assets.learning.training.train import train_fold
    from ct_assets.learning.volumes import derived, final_sets
    from ct_assets.learning.volumes.plan import FINAL, Plan
    from ct_assets.settings.folds import DerivedSettings
    from ct_assets.tables.folds import FoldVolumes

    cohort = tiny.make(tmp_path)
    layout, manifest = cohort.layout, cohort.manifest
    chosen = DerivedSettings(patients=6, spacing=(5.0, 5.0, 5.0), crop="none", patch_size=(16, 16, 16))
    derived.build(
        "home", chosen, manifest, layout.root, layout.derived("home"), layout.store, 1,
        plan_settings=tiny.PLAN,
    )  # fmt: skip
    drawn = pl.read_parquet(layout.derived("home") / "manifest.parquet")["case_id"].to_list()
    part = manifest.filter(pl.col("case_id").is_in(drawn) | (pl.col("split") == "test"))
    single = CONFIG.model_copy(
        update={
            "derived_set": "home",
            "final": CONFIG.final.model_copy(update={"kind": "single", "registered_name": "home"}),
        }
    )
    opened = cohort.begin(single, "home", manifest=part)
    for fold in sorted({str(fold) for fold in part["fold"].drop_nulls()}):
        place = derived.source(layout.root, fold, "home")
        volumes = tables.read_table(place.volumes, FoldVolumes)
        examples = examples_of(fold, Plan.load(place.plan), volumes, place.store, tiny.STAGES)
        train_fold(LungTraining(), opened, fold=fold, examples=examples, tracking_uri=tiny.tracking_uri())
        predict_fold(opened, fold=fold, examples=examples)
    evaluate.cv_report(opened)
    ensemble = single.model_copy(update={"final": CONFIG.final})
    for config in (ensemble, single):
        if config is single:
            plan = Plan.load(derived.source(layout.root, FINAL, "home").plan)
            folder = derived.final_dirs(layout.root, "home")[0]
            final_sets.build_train(part, plan, layout.root, folder, layout.store, 1)
            assert not layout.final_train.exists()
        made = final_model.build(
            cohort.begin(config, "home", manifest=part), tracking_uri=tiny.tracking_uri()
        )
        assert {Plan.load(made.folder / member.plan).target_spacing_mm for member in made.bundle.members} == {
            (5.0, 5.0, 5.0)
        }
    assert evaluate.test_report(cohort.begin(single, "home", manifest=part)).figures["patients"] == 2
