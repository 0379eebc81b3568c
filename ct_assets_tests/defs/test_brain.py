"""Brain CT classification in the graph: from a folder of slices to the one test, work only where something changed."""

import dagster as dg
import numpy as np
import polars as pl
import pytest

from ct_assets import files
from ct_assets.defs.assets.brain import place_of
from ct_assets.defs.engine import partitions, provenance
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.pipeline import Pipeline
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.brain_demo import run_graph
from ct_assets.learning.evaluation.test_access_log import readings
from ct_assets.phantom import head
from ct_assets.settings.brain import BrainConfig, BrainSettings
from ct_assets.systems.brain import stages
from ct_assets_tests.defs import platforms
from ct_assets_tests.systems.brain.factories import data_set, dicom

SETTINGS = BrainSettings(
    k_folds=2, batch_size=8, num_workers=0, out_size=32, test_size=0.25, holdout_frac=0.25, prep_plot_n=1,
    bootstrap_samples=100, threads=1, config=BrainConfig(epochs_head=1, epochs_ft=1, lr_ft=1e-3),
    candidates={"more_dropout": {"dropout_p": 0.5}},
)  # fmt: skip


@pytest.fixture
def brain(settings):
    platform = settings.model_copy(update={"brain": SETTINGS})
    data_set(platform.layout.brain / "raw", patients=24)
    return platform


def run(definitions, instance, *names, partition=None, run_config=None):
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in names],
        partition_key=partition,
        instance=instance,
        raise_on_error=False,
        run_config=run_config,
    )


def failure(result):
    (event,) = result.get_step_failure_events()
    return event.step_failure_data.user_failure_data.description


def test_features_and_splits_with_their_checks(brain):
    definitions, platform = build_definitions(brain), Platform(brain)
    dicom(brain.layout.brain / "raw/CTs/ID_0000.dcm", RescaleSlope=None)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions, instance, "brain_features", "brain_splits")
        assert result.success
        checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        assert checks["every_slice_has_a_row"]
        assert checks["no_patient_in_two_splits"]
        assert checks["tables_match_their_schemas"]
        records = provenance.Records(instance)
        assert provenance.is_current(records, platform, "brain_splits", None)
        # A file that is delivered again makes the features stale.
        dicom(brain.layout.brain / "raw/CTs/ID_0000.dcm")
        assert not provenance.is_current(provenance.Records(instance), platform, "brain_features", None)


def test_a_missing_file_fails_in_words(brain):
    (brain.layout.brain / "raw/CTs/ID_0050.dcm").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        assert "1 IDs have no file in CTs: ID_0050" in failure(
            run(build_definitions(brain), instance, "brain_features")
        )


def test_nothing_is_scored_before_something_is_selected(brain):
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = build_definitions(brain)
        assert "nothing is selected yet" in failure(run(definitions, instance, "brain_test_report"))
        assert "no places yet" in failure(run(definitions, instance, "brain_selection"))


@pytest.mark.slow
def test_head_ct_of_the_platforms_own_batches(tmp_path):
    """Series of a delivery, de-identified, labelled by a kept column of the clinic's table."""
    rows = ["PatientID,Overall Stage,Lesion"]
    for number in range(8):
        patient = head.invent(number, np.random.default_rng(number), is_positive=number % 2 == 1, matrix=48)
        head.write_series(tmp_path / f"drop/{number}", patient, f"s{number}")
        rows.append(f"{patient.person.patient_id},,{'yes' if number % 2 else 'no'}")
    (tmp_path / "clinic.csv").write_text("\n".join(rows) + "\n")
    keep = {"brain_label": {"column": "Lesion", "values": {"0": ["no"], "1": ["yes"]}}}
    platforms.write_settings(
        tmp_path, tmp_path / "clinic.csv", brain={"source": "batches", "k_folds": 2, "test_size": 0.25},
        labels={"csv": str(tmp_path / "clinic.csv"), "keep": keep},
    )  # fmt: skip
    settings = platforms.settings_of(tmp_path)
    platforms.take(settings, tmp_path / "drop")
    # Each of the two can be asked for alone.
    for name in ("labels", "metadata_audit"):
        assert name in [made for made, _ in platforms.run(settings, until=name).made]
    with open_instance(settings) as instance:
        pipeline = Pipeline(settings, instance)
        pipeline.refresh(["brain_features", "brain_first_look", "brain_splits"], [None])
        pipeline.outcome.raise_failures()
        table = stages.read_features(place_of(Platform(settings)))
        assert table.height == 8 * 11
        assert table["error"].null_count() == table.height
        assert table["group_id"].n_unique() == table["series_id"].n_unique() == 8
        assert table.group_by("group_id").agg(pl.col("label").n_unique())["label"].max() == 1
        assert table["label"].sum() == 4 * 11
        again = Pipeline(settings, instance)
        again.refresh(["brain_features", "brain_first_look", "brain_splits"], [None])
        assert not again.outcome.made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_the_folder_to_the_one_test(brain):
    run_graph(brain, ("default", "more_dropout"))
    layout = brain.layout
    chosen = files.read_json(layout.brain / "selection/selection.json")
    assert chosen["configuration"] in ("default", "more_dropout")
    assert (layout.brain / "models" / chosen["configuration"] / "fresh/1/result.json").exists()
    assert (layout.brain / "final/bundle.json").exists()
    assert (
        files.read_json(layout.brain / "models" / chosen["configuration"] / "registered.json")["name"]
        == "brain"
    )
    for name in ("data", "default", "more_dropout", "selected", "test"):
        assert (layout.reports / "brain" / name / "index.html").exists(), name
    assert [reading.experiment for reading in readings(layout)] == ["brain/brain"]
    with open_instance(brain) as instance:
        platform, records = Platform(brain), provenance.Records(instance)
        for name in ("brain_features", "brain_selection", "brain_final_model", "brain_test_report"):
            assert provenance.is_current(records, platform, name, None), name
        key = partitions.brain_fold_key("default", "1")
        assert provenance.is_current(records, platform, "brain_fold_model", key)
        # The test set is read once: another threshold after that is refused, and marked for ever where forced.
        other = brain.model_copy(
            update={
                "brain": SETTINGS.model_copy(update={"threshold_strategy": "max_f1", "sens_target": 0.99})
            }
        )
        definitions = build_definitions(other)
        assert run(definitions, instance, "brain_selection").success
        again = files.read_json(layout.brain / "selection/selection.json")
        assert again["threshold"]["strategy"] == "max_f1"
        assert "test_already_read" in failure(run(definitions, instance, "brain_test_report"))
        forced = run(
            definitions, instance, "brain_test_report",
            run_config={"ops": {"brain_test_report": {"config": {"force": True}}}},
        )  # fmt: skip
        checks = {check.check_name: check.passed for check in forced.get_asset_check_evaluations()}
        assert checks["brain_test_set_was_read_once"] is False
        assert "This reading was forced" in (layout.reports / "brain/test/index.html").read_text()
