"""Longitudinal nodules in the graph: from outside tables to the test report, each step once."""

import json

import dagster as dg
import pytest

from ct_assets.defs.assets.longitudinal_graph import NODES
from ct_assets.defs.engine import provenance
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.platform import Platform
from ct_assets.phantom import followup
from ct_assets.settings.longitudinal import (
    AutoencoderConfig,
    CohortInputs,
    FlowConfig,
    LoadingSettings,
    LongitudinalSettings,
    PatchSettings,
)
from ct_assets.settings.training import TrainingStage

ONE_EPOCH = {
    "stages": (TrainingStage(epochs=1),),
    "channels": (4, 8),
    "sampling": LoadingSettings(batch_size=8),
}


def run(definitions, instance, *names):
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in names], instance=instance, raise_on_error=False
    )


def test_without_tables_from_outside_the_first_asset_says_what_is_missing(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(build_definitions(settings), instance, "longitudinal_tables")
        (event,) = [event for event in failed.all_events if event.is_step_failure]
        assert "longitudinal.inputs.exams" in event.step_failure_data.user_failure_data.description


@pytest.mark.slow
def test_from_tables_to_the_report_and_stale_where_an_image_changes(settings, tmp_path):
    # One later exam a patient keeps the registrations to three.
    drawn = (followup.Patient.invent(0, number, nodules=4) for number in range(40))
    two_exams = [one for one in drawn if len(one.exams) == 2][:3]
    patients = [
        followup.Patient.invent(*one.seed, split, nodules=4)
        for one, split in zip(two_exams, ("train", "val", "test"), strict=True)
    ]
    cohort = followup.write(tmp_path / "phantom", patients)
    longitudinal = LongitudinalSettings(
        inputs=CohortInputs(exams=cohort.exams, tracking=cohort.tracking, images=cohort.images),
        patches=PatchSettings(shape=(12, 12, 12), spacing_mm=(2.0, 2.0, 2.0)),
        autoencoder=AutoencoderConfig(**ONE_EPOCH),
        flow=FlowConfig(**ONE_EPOCH, embedding=8, steps=1),
    )
    settings = settings.model_copy(update={"longitudinal": longitudinal})
    definitions, platform = build_definitions(settings), Platform(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(definitions, instance, *NODES)
        assert done.success
        assert all(check.passed for check in done.get_asset_check_evaluations())
        assert {check.check_name for check in done.get_asset_check_evaluations()} >= {
            "every_later_exam_has_a_result",
            "the_interval_is_trained",
            "test_set_was_read_once",
        }
        folder = settings.data_root / "reports/longitudinal/default"
        report = json.loads((folder / "report.json").read_text())
        assert report["pairs"] == len(patients[2].nodules)
        assert "is not shown to beat" in (folder / "index.html").read_text()
        records = provenance.Records(instance)
        assert all(provenance.is_current(records, platform, name, None) for name in NODES)

        image = next(cohort.images.iterdir())
        image.write_bytes(image.read_bytes() + b" ")
        assert not provenance.is_current(records, platform, "longitudinal_registrations", None)
        assert provenance.is_current(records, platform, "longitudinal_tables", None)
