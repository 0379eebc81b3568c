"""Any system through the learning path: trained folds, report, bundle, one test evaluation; shown with the toy system."""

import numpy as np
import polars as pl
import pytest

from ct_assets import files, registry
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation import out_of_fold, report
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.models import bundle_files, final
from ct_assets.learning.training.train import train_fold
from ct_assets_tests.learning import tiny
from ct_assets_tests.systems.toy import TOY
from ct_assets_tests.systems.toy.predict import predict
from ct_assets_tests.systems.toy.system import SYSTEM, ToyConfig, write_cohort


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with registry.registered(TOY):
        yield


def begin(root, config=None, classes=("small", "large")):
    cohort = pl.read_parquet(root / "toy/cohort.parquet")
    return Experiment.begin(
        "e", config or ToyConfig(), manifest=cohort, classes=classes, layout=Layout(root), system="toy"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three folds of the toy system, trained and predicted, with their report and final model."""
    root = tmp_path_factory.mktemp("toy")
    write_cohort(root)
    experiment = begin(root)
    for fold in experiment.folds:
        train_fold(
            SYSTEM,
            experiment,
            fold=fold,
            examples=SYSTEM.examples(experiment, fold),
            tracking_uri=tiny.tracking_uri(),
        )
        out_of_fold.predict(SYSTEM, experiment, fold)
    report.cv_report(SYSTEM, experiment)
    final.build(SYSTEM, experiment, tracking_uri=tiny.tracking_uri())
    return experiment


def test_everything_lies_in_the_systems_own_folder(trained):
    assert trained.folder == trained.layout.root / "toy/models/e"
    assert trained.folds == ["0", "1", "2"]
    assert not (trained.layout.root / "models/e").exists()


def test_each_training_names_its_own_patients(trained):
    listed = files.read_json(trained.fold("1") / "patients.json")
    assert listed["validation"] == ["P01", "P04", "P07", "P10"]
    assert sorted(listed["train"] + listed["validation"]) == [f"P{number:02d}" for number in range(12)]


def test_the_report_is_of_every_training_example_once(trained):
    content = files.read_json(trained.folder / report.CV_NAME)
    scores = pl.read_parquet(trained.folder / report.SCORES_NAME)
    assert (content["patients"], content["examples"], content["folds"]) == (12, 12, ["0", "1", "2"])
    assert sorted(scores["patient_id"]) == [f"P{number:02d}" for number in range(12)]
    # Six large numbers are large; of six small ones patient 0 has a large number and is called too.
    assert content["sensitivity"] == 1
    assert content["specificity"] == pytest.approx(5 / 6)


def test_the_threshold_is_frozen_in_the_bundle_and_used_on_the_test(trained):
    record = bundle_files.load(trained.folder / "final")
    assert record.decisions == files.read_json(trained.folder / report.DECISIONS_NAME)
    assert [member.name for member in record.members] == ["fold-0", "fold-1", "fold-2"]
    tested = report.test_report(SYSTEM, trained)
    assert (tested.figures["sensitivity"], tested.figures["specificity"]) == (1, 1)
    assert (tested.figures["patients"], tested.figures["is_forced"]) == (4, False)
    assert report.test_report(SYSTEM, trained).figures == tested.figures


def test_the_bundle_predicts_the_mean_of_its_members(trained, tmp_path):
    (tmp_path / "input.txt").write_text("0.5")
    model = bundle_files.open_model(SYSTEM, trained.folder / "final")
    from safetensors.numpy import load_file

    lines = [load_file(member.weights) for member in model.members]
    means = [1 / (1 + np.exp(-(line["weight"][0, 0] * 0.5 + line["bias"][0]))) for line in lines]
    found = predict(trained.folder / "final", tmp_path / "input.txt", tmp_path)[0]["prob"]
    assert found == pytest.approx(np.mean(means), abs=1e-6)
    assert [member.payload["trained_on.txt"] for member in model.members] == [b"8", b"8", b"8"]


def test_a_changed_small_file_of_a_bundle_is_refused_by_name(trained, tmp_path):
    import shutil

    copy = shutil.copytree(trained.folder / "final", tmp_path / "final")
    (copy / "fold-1.trained_on.txt").write_bytes(b"9")
    with pytest.raises(
        UsageError, match=r"fold-1.trained_on.txt: is missing or not what the bundle was made with"
    ):
        bundle_files.load(copy)


def test_another_order_of_classes_is_refused(trained):
    with pytest.raises(UsageError, match="experiment_mismatch"):
        begin(trained.layout.root, classes=("large", "small"))


def test_changed_evaluation_settings_refuse_the_old_report_and_model(trained):
    stricter = ToyConfig().evaluation.model_copy(update={"confidence": 0.9})
    changed = begin(trained.layout.root, ToyConfig().model_copy(update={"evaluation": stricter}))
    try:
        with pytest.raises(UsageError, match=r"cv_report.json was made under others \(evaluation settings\)"):
            final.build(SYSTEM, changed, tracking_uri=tiny.tracking_uri())
        with pytest.raises(UsageError, match=r"final model was made under others \(evaluation settings\)"):
            report.test_report(SYSTEM, changed)
    finally:
        begin(trained.layout.root)


def test_predictions_of_other_weights_are_stale(trained):
    path = trained.fold("2") / out_of_fold.RECORD_NAME
    record = files.read_json(path)
    files.write_json(path, record | {"model": "0" * 64})
    try:
        with pytest.raises(UsageError, match="predictions of fold 2 are stale"):
            report.cv_report(SYSTEM, trained)
    finally:
        files.write_json(path, record)


def test_patients_on_both_sides_of_a_fold_are_refused(trained):
    examples = SYSTEM.examples(trained, "0")
    twice = pl.concat(
        [
            examples.table,
            examples.table.filter(pl.col("role") == "train").head(1).with_columns(role=pl.lit("validation")),
        ]
    )
    with pytest.raises(UsageError, match="1 patients are in training and validation"):
        train_fold(SYSTEM, trained, fold="9", examples=type(examples)(twice))


def test_a_single_final_model_learns_from_all_training_patients(trained):
    single = ToyConfig().final.model_copy(update={"kind": "single"})
    changed = begin(trained.layout.root, ToyConfig().model_copy(update={"final": single}))
    try:
        built = final.build(SYSTEM, changed, tracking_uri=tiny.tracking_uri())
        assert [member.name for member in built.record.members] == ["single"]
        assert len(files.read_json(changed.folder / "single/patients.json")["train"]) == 12
        assert built.record.decisions["is_transferred"] is True
    finally:
        final.build(SYSTEM, begin(trained.layout.root), tracking_uri=tiny.tracking_uri())
