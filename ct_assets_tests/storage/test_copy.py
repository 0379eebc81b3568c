"""Working copies on one store: what one machine publishes another has, and nothing half ever counts."""

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from ct_assets.errors import UsageError
from ct_assets.intake import markers
from ct_assets_tests.storage.stores import content, machine, write


@pytest.fixture
def two(tmp_path):
    """Two machines on one store."""
    return machine(tmp_path / "one", tmp_path / "store"), machine(tmp_path / "two", tmp_path / "store")


def objects(tmp_path: Path) -> set[str]:
    root = tmp_path / "store"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


class TestWhatIsPublished:
    def test_another_machine_has_the_same_bytes(self, two):
        one, other = two
        write(one, "cohort/splits.parquet", "splits")
        write(one, "nifti/imagesTr/case_0000.nii.gz", os.urandom(5000))
        write(one, "models/lung/0/model.pt", os.urandom(100))
        one.publish()
        other.pull()
        assert content(other) == content(one)

    def test_equal_files_of_one_folder_arrive_together(self, tmp_path, monkeypatch):
        """Empty ones, for instance: they are one object, fetched as often as there are files, at the same time."""
        first, second = (machine(tmp_path / name, tmp_path / "store") for name in ("first", "second"))
        for number in range(24):
            write(first, f"cohort/{number}.complete", b"")
        first.publish()
        second.store.settings = second.store.settings.model_copy(update={"connections": 8})
        fetched = second.store.files.get_file

        def slowly(*arguments, **options):
            fetched(*arguments, **options)
            time.sleep(0.02)

        monkeypatch.setattr(second.store.files, "get_file", slowly)
        second.pull()
        assert content(second) == content(first)

    def test_nothing_new_makes_no_generation(self, two):
        one, _ = two
        write(one, "cohort/splits.parquet", "splits")
        assert one.publish().number == 1
        assert one.publish() is None
        (one.layout.root / "cohort/splits.parquet").touch()
        assert one.publish() is None, "the same bytes are the same file"

    def test_a_change_and_a_removal_arrive(self, two):
        one, other = two
        write(one, "cohort/a", "a")
        write(one, "cohort/b", "b")
        one.publish()
        other.pull()
        write(one, "cohort/a", "changed")
        (one.layout.root / "cohort/b").unlink()
        one.publish()
        other.pull()
        assert content(other) == {"cohort/a": b"changed"}

    def test_moving_a_folder_uploads_nothing_again(self, two, tmp_path):
        one, _ = two
        write(one, "inbox/b1/.complete", "{}")
        write(one, "inbox/b1/slice", os.urandom(3000))
        one.publish()
        before = {name for name in objects(tmp_path) if "objects" in name}
        (one.layout.root / "raw/dicom_input").mkdir(parents=True)
        (one.layout.root / "inbox/b1").rename(one.layout.root / "raw/dicom_input/b1")
        one.publish()
        new = {name for name in objects(tmp_path) if "objects" in name} - before
        assert len(new) == 1, "the list of the new folder alone"

    def test_modes_links_and_odd_names_survive(self, two):
        one, other = two
        path = write(one, "raw/dicom_input/b1/MÜLLER 100%/x", "1")
        path.chmod(0o600)
        Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe")).write_bytes(b"2")
        (path.parent / "link").symlink_to("x")
        one.publish()
        other.pull()
        there = other.layout.root / "raw/dicom_input/b1/MÜLLER 100%"
        assert stat.S_IMODE((there / "x").stat().st_mode) == 0o600
        assert (there / "link").readlink() == Path("x")
        assert {one.name for one in there.iterdir()} == {one.name for one in path.parent.iterdir()}

    def test_a_database_in_use_is_published_whole(self, two):
        one, other = two
        (one.layout.root / "mlflow").mkdir(parents=True)
        with closing(sqlite3.connect(one.layout.root / "mlflow/mlflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE runs (name TEXT)")
            database.execute("INSERT INTO runs VALUES ('first')")
            database.commit()
            one.publish()
            database.execute("INSERT INTO runs VALUES ('second')")
            database.commit()
            assert one.publish() is not None, "what stands in the journal alone is a change too"
        other.pull()
        with closing(sqlite3.connect(other.layout.root / "mlflow/mlflow.db")) as database:
            assert database.execute("SELECT name FROM runs").fetchall() == [("first",), ("second",)]


class TestWhatStaysHere:
    @pytest.mark.parametrize(
        "name",
        [
            "cohort/.partial-12-splits.parquet",
            "nifti/.old-imagesTr/case",
            "inbox/.lock",
            "inbox/.receiving/studies/a/b/c.dcm",
            "inbox/arriving/slice",
            "demo.key",
            ".dagster/dagster.yaml",
            ".dagster/locks/step.lock",
            "mlflow/mlflow.db-wal",
        ],
    )
    def test_what_is_under_way_or_secret(self, two, tmp_path, name):
        one, _ = two
        write(one, name, "secret")
        assert one.publish() is None
        assert objects(tmp_path) == set()

    def test_the_key_file_under_any_name(self, tmp_path):
        from ct_assets.layout import Layout
        from ct_assets.storage.copy import WorkingCopy
        from ct_assets_tests.storage.stores import LocalStore

        key = tmp_path / "one/cohort/innocent"
        copy = WorkingCopy(Layout(tmp_path / "one"), LocalStore(tmp_path / "store"), left_out=key)
        write(copy, "cohort/innocent", "00" * 32)
        assert copy.publish() is None

    def test_a_batch_goes_up_when_its_marker_is_there(self, two):
        one, other = two
        write(one, "inbox/b1/slice", "1")
        assert one.publish() is None
        markers.take(one.layout.inbox / "b1", "taking").write(one.layout.inbox / "b1")
        one.publish()
        other.pull()
        assert (other.layout.inbox / "b1/slice").read_bytes() == b"1"

    def test_originals_and_crosswalk_lie_apart_and_their_names_stand_nowhere_open(self, two, tmp_path):
        one, _ = two
        write(one, "raw/dicom_input/b1/MUSTERFRAU ERIKA/CT1", "original")
        write(one, "audits/uid/b1/uid_map.parquet", "crosswalk")
        write(one, "deid/dicom_output/b1/P1/x.dcm", "released")
        one.publish()
        for name in objects(tmp_path):
            found = (tmp_path / "store" / name).read_bytes()
            assert "restricted/" in name or not any(
                secret in found for secret in (b"MUSTERFRAU", b"original", b"crosswalk")
            )
            assert "MUSTERFRAU" not in name


class TestAMachineThatMustNotSeeIdentities:
    """It is given no access to `restricted/` in the store: here that folder is taken away."""

    @pytest.fixture
    def blind(self, two, tmp_path):
        one, other = two
        write(one, "raw/dicom_input/b1/MUSTERFRAU/CT1", "original")
        write(one, "cohort/splits.parquet", "splits")
        one.publish()
        (tmp_path / "store/restricted").rename(tmp_path / "locked")
        other.store.settings = other.store.settings.model_copy(update={"restricted": False})
        return other

    def test_fetches_the_rest(self, blind):
        blind.pull()
        assert content(blind) == {"cohort/splits.parquet": b"splits"}

    def test_publishes_and_takes_nothing_away(self, two, blind, tmp_path):
        one, _ = two
        blind.pull()
        write(blind, "models/lung/0/model.pt", "weights")
        write(blind, "inbox/b2/.complete", "{}")
        blind.publish()
        (tmp_path / "locked").rename(tmp_path / "store/restricted")
        third = machine(tmp_path / "three", tmp_path / "store")
        third.pull()
        assert content(third) == content(one) | {"models/lung/0/model.pt": b"weights"}

    def test_must_not_sweep(self, blind):
        with pytest.raises(UsageError, match="must not sweep"):
            blind.sweep(older_than_hours=0)


class TestOnlyWhatIsNeeded:
    def test_is_fetched(self, two):
        one, other = two
        write(one, "cohort/splits.parquet", "splits")
        write(one, "raw/dicom_input/b1/slice", "original")
        one.publish()
        assert other.pull(("cohort/*",)) == 1
        assert content(other) == {"cohort/splits.parquet": b"splits"}

    def test_what_was_never_fetched_is_not_taken_for_removed(self, two):
        one, other = two
        write(one, "cohort/splits.parquet", "splits")
        write(one, "raw/dicom_input/b1/slice", "original")
        one.publish()
        other.pull(("cohort/*",))
        write(other, "folds/0/plan.json", "plan")
        other.publish()
        one.pull()
        assert set(content(one)) == {"cohort/splits.parquet", "folds/0/plan.json", "raw/dicom_input/b1/slice"}

    def test_freeing_removes_what_is_safe_and_it_comes_back(self, two):
        one, _ = two
        write(one, "nifti/a", "published")
        one.publish()
        before = content(one)
        write(one, "nifti/b", "not yet")
        one.free()
        assert set(content(one)) == {"nifti/b"}
        one.publish()
        one.pull()
        assert content(one) == before | {"nifti/b": b"not yet"}

    def test_sweeping_removes_what_no_generation_needs(self, two, tmp_path):
        one, other = two
        write(one, "cohort/a", "first")
        write(one, "raw/dicom_input/b1/slice", "a person who withdrew")
        one.publish()
        (one.layout.root / "raw/dicom_input/b1/slice").unlink()
        write(one, "cohort/a", "second")
        one.publish()
        assert one.sweep(older_than_hours=1) == (0, 0), "too young"
        gone, _ = one.sweep(older_than_hours=0)
        assert gone >= 2
        assert not any(b"withdrew" in (tmp_path / "store" / name).read_bytes() for name in objects(tmp_path))
        other.pull()
        assert content(other) == {"cohort/a": b"second"}


class TestTwoMachinesAtOnce:
    def test_different_files_are_both_kept(self, two):
        one, other = two
        write(one, "folds/0/plan.json", "0")
        write(other, "folds/1/plan.json", "1")
        one.publish()
        other.publish()
        one.pull()
        other.pull()
        assert content(one) == content(other) == {"folds/0/plan.json": b"0", "folds/1/plan.json": b"1"}

    def test_the_same_work_done_twice_is_no_conflict(self, two):
        one, other = two
        for each in two:
            write(each, "folds/0/plan.json", "the same")
        assert one.publish().number == 1
        assert other.publish() is None or content(one) == content(other)

    def test_one_file_changed_on_both_is_refused_and_the_stores_is_kept(self, two):
        one, other = two
        write(one, ".dagster/storage/runs.db", "first")
        one.publish()
        other.pull()
        write(one, ".dagster/storage/runs.db", "by one")
        write(other, ".dagster/storage/runs.db", "by the other")
        one.publish()
        with pytest.raises(UsageError, match="changed by another machine"):
            other.publish()
        with pytest.raises(UsageError, match="changed by another machine"):
            other.pull()
        assert content(other) == {".dagster/storage/runs.db": b"by the other"}

    def test_a_generation_that_another_took_in_between_is_gone_on_from(self, two, monkeypatch):
        one, other = two
        write(one, "cohort/a", "a")
        publish = one.store.publish

        def late(generation):
            monkeypatch.setattr(one.store, "publish", publish)
            write(other, "cohort/b", "b")
            other.publish()
            return publish(generation)

        monkeypatch.setattr(one.store, "publish", late)
        assert one.publish().number == 2
        other.pull()
        assert content(other) == {"cohort/a": b"a", "cohort/b": b"b"}


class TestAStoreThatIsAway:
    def test_is_asked_again(self, two, monkeypatch):
        one, other = two
        monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
        write(one, "cohort/a", "a")
        one.store.files.away = 4
        one.publish()
        other.store.files.away = 4
        other.pull()
        assert content(other) == content(one)

    def test_stays_away_and_nothing_is_lost(self, tmp_path):
        one = machine(tmp_path / "one", tmp_path / "store", patience_seconds=0)
        write(one, "cohort/a", "a")
        one.store.files.away = 1000
        with pytest.raises(UsageError, match=r"does not answer.*Nothing is lost"):
            one.publish()
        one.store.files.away = 0
        one.publish()
        other = machine(tmp_path / "two", tmp_path / "store")
        other.pull()
        assert content(other) == {"cohort/a": b"a"}

    def test_an_altered_object_never_becomes_a_file(self, two, tmp_path):
        one, other = two
        write(one, "cohort/a", "as it was")
        one.publish()
        (path,) = (tmp_path / "store/objects").rglob(_digest_of(b"as it was"))
        path.write_bytes(b"altered")
        other.store.settings = other.store.settings.model_copy(update={"patience_seconds": 0})
        with pytest.raises(UsageError, match="not what its name says"):
            other.pull()
        assert content(other) == {}

    def test_another_store_on_the_same_working_copy_is_refused(self, two):
        one, _ = two
        write(one, "cohort/a", "a")
        one.publish()
        one.store.url = "s3://another/folder"
        with pytest.raises(UsageError, match=r"storage\.work_root"):
            one.pull()


def test_killed_at_any_call_the_store_holds_the_old_state_or_the_new(tmp_path):
    """The kill falls on each call to the store in turn; a second machine reads, then the first goes on."""
    old = {"cohort/a": b"old", "nifti/x": b"x"}
    new = {"cohort/a": b"new", "folds/0/plan.json": b"plan"}
    finished = False
    for call in range(1, 40):
        folder = tmp_path / str(call)
        one = machine(folder / "one", folder / "store")
        for name, old_content in old.items():
            write(one, name, old_content)
        one.publish()
        for name, new_content in new.items():
            write(one, name, new_content)
        (one.layout.root / "nifti/x").unlink()
        one.store.files.calls, one.store.files.dies_at = 0, call
        try:
            one.publish()
            finished = True
        except KeyboardInterrupt:
            pass
        reader = machine(folder / "reader", folder / "store")
        reader.pull()
        assert content(reader) in (old, new)
        again = machine(folder / "one", folder / "store")
        again.publish()
        reader.pull()
        assert content(reader) == new
        if finished:
            break
    assert finished
    assert call > 4


def _digest_of(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
