"""A setting or table that an asset's body reads decides its input digest."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ct_assets.defs.engine import provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.platform import Platform
from ct_assets.learning.experiment import Experiment
from ct_assets.settings import Settings
from ct_assets_tests.learning import tiny


class Recorded:
    """An instance in which everything is materialized, and one experiment has begun."""

    instance = SimpleNamespace(get_dynamic_partitions=lambda name: ["e"])

    def data_versions(self, name, keys):
        return {str(key): "version" for key in keys}


def digest(name, settings, partition):
    return provenance.input_digest(Recorded(), Platform(settings), name, partition)


BASE = Settings(data_root=Path("none"))
REVERSED = BASE.model_copy(
    update={"labels": BASE.labels.model_copy(update={"stages": tuple(reversed(BASE.labels.stages))})}
)
PARTITIONS = {
    "fold_model": "e|0",
    "fold_predictions": "e|0",
    "cv_report": "e",
    "final_model": "e",
    "test_report": "e",
}


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_class_order_decides_every_asset_of_a_training(name):
    assert digest(name, BASE, PARTITIONS[name]) != digest(name, REVERSED, PARTITIONS[name])


def test_another_spelling_of_a_label_trains_nothing_again():
    spelt = BASE.model_copy(
        update={"labels": BASE.labels.model_copy(update={"spellings": {BASE.labels.stages[0]: ("first",)}})}
    )
    assert digest("fold_model", BASE, "e|0") == digest("fold_model", spelt, "e|0")
    assert digest("labels", BASE, None) != digest("labels", spelt, None)


def test_the_audit_of_batches_decides_brain_features():
    source = {"brain": BASE.brain.model_copy(update={"source": "batches"})}
    changed = {"audit": BASE.audit.model_copy(update={"mask_position_tolerance_mm": 9.0})}
    before, after = BASE.model_copy(update=source), BASE.model_copy(update=source | changed)
    assert digest("brain_features", before, None) != digest("brain_features", after, None)


@pytest.mark.parametrize("name", ["derived_set", "cv_report", "test_report"])
def test_what_reads_header_factors_declares_the_audit(name):
    assert "ct_prepro_audit" in GRAPH[name].deps


def test_evaluation_settings_make_reports_stale_and_no_training(tmp_path):
    cohort = tiny.make(tmp_path, patients=6, tests=1, folds=2)
    settings = Settings(data_root=tmp_path)
    about = {"manifest": cohort.manifest, "classes": tiny.STAGES, "layout": cohort.layout}
    config = tiny.config()
    Experiment.begin("e", config, **about)
    before = {name: digest(name, settings, key) for name, key in PARTITIONS.items()}
    stricter = config.evaluation.model_copy(update={"nsd_tolerance_mm": 9.0})
    Experiment.begin("e", config.model_copy(update={"evaluation": stricter}), **about)
    after = {name: digest(name, settings, key) for name, key in PARTITIONS.items()}
    assert {name for name in PARTITIONS if before[name] != after[name]} == {
        "cv_report",
        "final_model",
        "test_report",
    }
