"""The experiment record: written once, opened everywhere, differences named."""

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.evaluate import check_report
from ct_assets.learning.experiment import CONFIGURATION_NAME, RECORD_NAME, Experiment
from ct_assets.settings.training import TrainingConfig, load_training_config
from ct_assets_tests.learning import tiny

CONFIG = tiny.config()
STRICTER = CONFIG.model_copy(
    update={"evaluation": CONFIG.evaluation.model_copy(update={"nsd_tolerance_mm": 9.0})}
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("experiment"), patients=6, tests=1, folds=2)


@pytest.fixture
def cohort(everything, tmp_path):
    """The manifest with an empty folder of models."""
    return tiny.TinyCohort(type(everything.layout)(tmp_path), everything.manifest)


def opened(cohort, **changes):
    about = {
        "manifest": cohort.manifest,
        "classes": tiny.STAGES,
        "layout": cohort.layout,
        "config": TrainingConfig,
    }
    about |= changes
    return Experiment.open("tiny", **about)


def test_the_record_has_the_complete_configuration_and_is_written_once(cohort):
    begun = cohort.begin(CONFIG)
    record = begun.folder / RECORD_NAME
    assert TrainingConfig.model_validate(files.read_json(record)["config"]) == CONFIG
    before = record.read_bytes()
    cohort.begin(STRICTER)
    assert record.read_bytes() == before


def test_one_that_has_not_begun_is_refused(cohort):
    with pytest.raises(UsageError, match="tiny: has not begun"):
        opened(cohort)


class TestWhatIsOtherNow:
    def test_classes_in_another_order_are_refused_by_name(self, cohort):
        cohort.begin(CONFIG)
        with pytest.raises(UsageError, match=r"experiment_mismatch.*vocabulary.*I, II, III.*III, II, I now"):
            opened(cohort, classes=tiny.STAGES[::-1])

    def test_a_corrected_label_is_another_manifest(self, cohort):
        cohort.begin(CONFIG)
        corrected = cohort.manifest.with_columns(stage=cohort.manifest["stage"].scatter(0, "III"))
        with pytest.raises(UsageError, match="manifest_changed: experiment tiny"):
            opened(cohort, manifest=corrected)

    def test_another_training_is_refused_naming_each_setting(self, cohort):
        cohort.begin(CONFIG)
        other = tiny.config(optimizer={"learning_rate": 0.02}, steps_per_epoch=4)
        with pytest.raises(
            UsageError, match=r"optimizer.learning_rate is 0.02, was 0.01; steps_per_epoch is 4, was 3"
        ):
            cohort.begin(other)

    def test_changed_evaluation_settings_are_in_force_and_reported(self, cohort, capsys):
        cohort.begin(CONFIG)
        cohort.begin(STRICTER)
        assert "evaluation.nsd_tolerance_mm is 9.0, was 2.0" in capsys.readouterr().err
        assert opened(cohort).config.evaluation.nsd_tolerance_mm == 9.0

    def test_a_report_made_under_other_evaluation_settings_builds_no_final_model(self, cohort):
        experiment = cohort.begin(CONFIG)
        report = {
            "config_digest": CONFIG.digest,
            "settings_digest": CONFIG.evaluation.digest,
            "manifest_digest": experiment.manifest_digest,
            "stages": tiny.STAGES,
        }
        check_report(report, experiment)
        with pytest.raises(UsageError, match=r"cv_report.json.*settings_digest.*cv_report again"):
            check_report(report, cohort.begin(STRICTER))

    def test_a_configuration_of_another_training_put_beside_the_record_is_refused(self, cohort):
        experiment = cohort.begin(CONFIG)
        other = tiny.config(steps_per_epoch=4).model_dump(mode="json")
        files.write_json(experiment.folder / CONFIGURATION_NAME, other)
        with pytest.raises(UsageError, match=r"configuration.json configures another training"):
            opened(cohort)


class TestRecordsOfEarlierVersions:
    def first_form(self, cohort):
        experiment = cohort.begin(CONFIG)
        content = {
            "experiment": "tiny",
            "config_digest": CONFIG.digest,
            "manifest_digest": experiment.manifest_digest,
            "stages": tiny.STAGES,
        }
        files.write_json(experiment.folder / RECORD_NAME, content)
        return experiment

    def test_are_read_with_the_configuration_beside_them(self, cohort):
        self.first_form(cohort)
        assert opened(cohort).config == CONFIG
        assert cohort.begin(CONFIG).classes == tuple(tiny.STAGES)

    def test_without_it_are_refused_by_name(self, cohort):
        (self.first_form(cohort).folder / CONFIGURATION_NAME).unlink()
        with pytest.raises(UsageError, match=r"experiment.json: was written by an earlier version"):
            opened(cohort)


def test_weights_to_start_from_count_by_content_not_by_folder(tmp_path):
    for place in ("here", "there"):
        files.write_bytes(tmp_path / place / "w.safetensors", b"weights")
        files.write_text(tmp_path / place / "c.yaml", "pretrained: {path: w.safetensors}\n")
    here, there = (load_training_config(tmp_path / place / "c.yaml") for place in ("here", "there"))
    assert here.pretrained.path != there.pretrained.path
    assert here.digest == there.digest
    files.write_bytes(tmp_path / "there/w.safetensors", b"others")
    assert load_training_config(tmp_path / "there/c.yaml").digest != here.digest
