"""The token cache in the graph: partitions of studies, work only where something changed."""

import shutil

import dagster as dg
import pytest

from ct_assets.defs.engine import partitions, provenance
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.platform import Platform
from ct_assets.systems.neuro.example import make_example


@pytest.fixture
def raw(settings):
    data_dir = settings.data_root / "neuro"
    modes = make_example(data_dir, studies=2)
    (data_dir / "raw" / "unnamed").mkdir()
    (data_dir / "modes.csv").write_text("study_id,mode\n" + "".join(f"{s},{m}\n" for s, m in modes.items()))
    return data_dir


def run(definitions, instance, *names, partition=None):
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in names],
        partition_key=partition,
        instance=instance,
        raise_on_error=False,
    )


def test_from_studies_to_the_page(settings, raw):
    definitions, platform = build_definitions(settings), Platform(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(definitions, instance, "neuro_studies")
        assert first.success
        assert instance.get_dynamic_partitions(partitions.STUDY) == ["study_000", "study_001"]
        assert all(check.passed for check in first.get_asset_check_evaluations())
        for study in ("study_000", "study_001"):
            assert run(definitions, instance, "neuro_cache", partition=study).success
            assert provenance.is_current(provenance.Records(instance), platform, "neuro_cache", study)
        assert run(definitions, instance, "neuro_statistics", "neuro_preview").success
        assert (settings.data_root / "reports/neuro/index.html").read_text().count("<figure>") == 3
        assert (raw / "processed/streams.parquet").is_file()

        # A study that is delivered again makes its own partition stale, and nobody else's.
        shutil.copy(raw / "raw/study_001/T1.nii.gz", raw / "raw/study_001/T2.nii.gz")
        assert not provenance.is_current(provenance.Records(instance), platform, "neuro_cache", "study_001")
        assert provenance.is_current(provenance.Records(instance), platform, "neuro_cache", "study_000")
        again = run(definitions, instance, "neuro_cache", partition="study_001")
        (made,) = again.get_asset_materialization_events()
        metadata = made.materialization.metadata
        assert (metadata["made"].value, metadata["current"].value) == (1, 1)

        # A study that goes leaves the partitions.
        shutil.rmtree(raw / "raw/study_000")
        run(definitions, instance, "neuro_studies")
        assert instance.get_dynamic_partitions(partitions.STUDY) == ["study_001"]


def test_without_a_mode_mapping_nothing_is_guessed(settings, raw):
    (raw / "modes.csv").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(build_definitions(settings), instance, "neuro_studies")
        (event,) = failed.get_step_failure_events()
        assert "modes.csv" in event.step_failure_data.user_failure_data.description
