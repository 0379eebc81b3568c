"""Each step of the graph on a machine that has nothing but what the step's group is said to need."""

import pytest

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.phantom import cohort
from ct_assets.storage import needs, session
from ct_assets.storage.copy import WorkingCopy
from ct_assets.storage.tree import patterns
from ct_assets_tests.defs import platforms
from ct_assets_tests.storage.stores import LocalStore


def test_a_group_that_nobody_named_needs_everything_that_is_not_restricted():
    wanted = patterns(needs.of_group("a new one", None))
    assert all(
        wanted.match(path)
        for path in ("systems/new/x", "brain/raw/1.dcm", "reports/x", "cohort/labels.parquet")
    )
    restricted = (
        "raw/dicom_input/b1/x",
        "inbox/b1/x",
        "quarantine/b1/x",
        "audits/uid/b1/patient_map.parquet",
    )
    assert not any(wanted.match(path) for path in restricted)


@pytest.mark.parametrize("group", sorted({node.group for node in GRAPH.values()} - {"intake", "deid"}))
def test_originals_are_needed_by_intake_and_deidentification_alone(group):
    wanted = patterns(needs.of_group(group, None))
    assert not wanted.match("raw/dicom_input/b1/slice")
    assert not wanted.match("quarantine/b1/object")


@pytest.mark.parametrize("group", ["volumes", "folds", "training", "evaluation", "derived", "neuro", "brain"])
def test_a_training_machine_gets_no_crosswalk(group):
    assert not patterns(needs.of_group(group, None)).match("audits/uid/b1/patient_map.parquet")


@pytest.mark.slow
def test_every_step_from_an_empty_machine_gives_the_same_bytes(tmp_path, monkeypatch):
    """Before each step everything that is safe in the store is removed: what a step misses it must fetch."""
    phantom = cohort.make(tmp_path / "cohort", patients=7, seed=3, faulty=("no_seg",), workers=2)
    platforms.write_settings(tmp_path / "local", phantom.labels_csv)
    local = platforms.settings_of(tmp_path / "local")
    for drop in phantom.drops:
        platforms.take(local, drop)
    platforms.run(local)

    def on_local_disk(settings, patience_seconds=None):
        return WorkingCopy(settings.layout, LocalStore(tmp_path / "store"), left_out=settings.deid.key_file)

    monkeypatch.setattr(session, "working_copy", on_local_disk)
    pull = WorkingCopy.pull

    def pull_into_nothing(copy, needed=("*",)):
        copy.free(kept=needs.DATABASES)
        return pull(copy, needed)

    monkeypatch.setattr(WorkingCopy, "pull", pull_into_nothing)
    platforms.write_settings(tmp_path / "machine", phantom.labels_csv)
    settings = platforms.settings_of(tmp_path / "machine")
    for drop in phantom.drops:
        with session.opened(settings):
            platforms.take(settings, drop)
    platforms.run(settings)
    monkeypatch.setattr(WorkingCopy, "pull", pull)
    session.working_copy(settings).pull()
    assert platforms.digests(settings.data_root) == platforms.digests(local.data_root)
