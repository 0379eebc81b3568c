"""What may be freed is told first; what people made, decided or need never is among it."""

import os
import shutil
from datetime import timedelta

import pytest

from ct_assets import files
from ct_assets.deid.proof.verify import verify_store
from ct_assets.errors import UsageError
from ct_assets.imaging.store import Store
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.intake import batches, deliveries, retired
from ct_assets.layout import Layout
from ct_assets.lifecycle import gc
from ct_assets.settings import Settings
from ct_assets.settings.folds import DerivedSettings
from ct_assets.settings.keeping import KeepingSettings
from ct_assets_tests.lifecycle import small
from ct_assets_tests.lifecycle.small import KEY


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small.platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture
def here(original, tmp_path):
    shutil.copytree(original.layout.root, tmp_path / "data", symlinks=True)
    return small.Small(Layout(tmp_path / "data"), original.drop, original.first, original.second)


def settings_of(here, **keeping: int) -> Settings:
    """Return settings that name the smaller set which is there, with the times given."""
    return Settings(
        data_root=here.layout.root,
        keeping=KeepingSettings(**keeping),
        derived={"home": DerivedSettings(patients=2, spacing=(2.0, 2.0, 3.0), max_mb=500)},
    )


def after(here, days: int):
    """Return a moment so many days after the deliveries were registered."""
    from datetime import datetime

    return datetime.fromisoformat(deliveries.read(here.layout)[-1]["recorded_at"]) + timedelta(days=days)


def volume() -> Volume:
    import numpy as np

    return Volume(np.zeros((4, 4, 4), np.int16), Grid((4, 4, 4), np.eye(4)))


class TestEphemeral:
    def test_volumes_that_no_table_names_are_told_and_only_then_freed(self, here):
        store = Store(here.layout.store)
        store.put("ab" * 16, volume(), {})
        [told] = gc.collect(settings_of(here), remove=False)
        assert (told.what, told.count) == ("volumes in the store that no table names", 1)
        assert store.all_keys() == ["ab" * 16]
        gc.collect(settings_of(here), remove=True)
        assert store.all_keys() == []
        assert gc.collect(settings_of(here), remove=False) == []

    def test_left_overs_go_when_nobody_can_be_writing_them_any_more(self, here):
        young, old = here.layout.root / "nifti/.partial-1-x", here.layout.root / "deid/.old-batch"
        young.write_bytes(b"x")
        (old / "inner").mkdir(parents=True)
        os.utime(old, (0, 0))
        gc.collect(settings_of(here), remove=True)
        assert young.exists()
        assert not old.exists()

    def test_checkpoints_go_where_the_training_is_finished(self, here):
        finished, running = here.layout.root / "models/e/0", here.layout.root / "models/e/1"
        for folder in (finished, running):
            (folder / "last.ckpt").write_bytes(b"state")
            (folder / "best.safetensors").write_bytes(b"weights")
        files.write_json(finished / "result.json", {})
        gc.collect(settings_of(here), remove=True)
        assert sorted(path.name for path in finished.glob("*t*")) == [
            "best.safetensors",
            "predictions",
            "predictions.parquet",
            "result.json",
        ]
        assert (running / "last.ckpt").exists()

    def test_smaller_sets_that_the_settings_no_longer_name_go(self, here):
        [told] = gc.collect(Settings(data_root=here.layout.root), remove=True)
        assert told.what == "smaller sets that the settings no longer name"
        assert not (here.layout.root / "derived/home").exists()


class TestRetention:
    def test_nothing_goes_unless_it_is_set(self, here):
        assert gc.collect(settings_of(here), remove=False, now=after(here, 9999)) == []

    def test_originals_go_after_their_time_and_what_was_released_stays(self, here):
        settings = settings_of(here, raw_days=30)
        assert gc.collect(settings, remove=True, now=after(here, 29)) == []
        [told] = gc.collect(settings, remove=True, now=after(here, 31))
        assert told.what == "originals beyond their time"
        folder = here.layout.raw_batch(here.first)
        assert [path.name for path in folder.iterdir()] == [retired.NOTE_NAME]
        assert verify_store(here.layout).faults == ()

    def test_originals_stay_where_a_released_object_is_not_as_the_audit_says(self, here):
        [path, *_] = sorted(here.layout.deid_batch(here.first).rglob("*.dcm"))
        path.write_bytes(path.read_bytes() + b"x")
        [told] = gc.collect(settings_of(here, raw_days=30), remove=True, now=after(here, 31))
        assert f"{here.first} stays: its released objects are not as the audit says" in told.note
        assert len(list(here.layout.raw_batch(here.first).rglob("IM*"))) > 1

    def test_a_retired_batch_is_still_known_and_the_same_delivery_not_taken_twice(self, here):
        before = batches.registered_batches(here.layout)
        gc.collect(settings_of(here, raw_days=30), remove=True, now=after(here, 31))
        after_it = batches.registered_batches(here.layout)
        assert [(one.batch, one.marker_digest) for one in after_it] == [
            (one.batch, one.marker_digest) for one in before
        ]
        assert batches.ingest(here.drop, here.layout, KEY) == here.first
        assert batches.register(here.layout, here.first).marker_digest == batches.marker_digest(
            here.layout, here.first
        )

    def test_a_person_can_withdraw_whose_originals_went(self, here, original):
        gc.collect(settings_of(here, raw_days=30), remove=True, now=after(here, 31))
        small.carry_out(here, here.pseudonym_of(small.HERS))
        made = {word for word in original.her_words if word.startswith(("2.25.", "P"))}
        assert small.files_with(here.layout.root, made) == []
        assert small.files_with(here.layout.root, {small.HERS}) == []

    def test_held_objects_go_after_their_time_with_what_was_listed_of_them(self, here):
        folder = here.layout.deid_paths(here.first).quarantine
        assert list(folder.glob("*.dcm"))
        [told] = gc.collect(settings_of(here, quarantine_days=30), remove=True, now=after(here, 31))
        assert told.what == "quarantine beyond their time"
        assert not list(folder.glob("*.dcm"))
        assert (folder / "quarantine.jsonl").read_text() == ""

    def test_what_went_is_on_record_without_names(self, here):
        gc.collect(settings_of(here, raw_days=30), remove=True, now=after(here, 31))
        lines = files.read_jsonl(here.layout.retired)
        assert {line["batch"] for line in lines} == {here.first, here.second}
        assert set(lines[0]) == {"what", "batch", "files", "bytes", "retired_at"}


def test_a_setting_of_no_days_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        KeepingSettings(raw_days=0)


def test_an_unknown_key_of_keeping_is_refused(tmp_path):
    from ct_assets.settings import load_settings

    path = tmp_path / "settings.yaml"
    path.write_text("keeping: {raw_weeks: 3}\n")
    with pytest.raises(UsageError, match=r"keeping\.raw_weeks: unknown key"):
        load_settings(path, environ={})
