"""Deliveries arrive whole or not at all, are verified, are known by opaque names, and nothing is lost."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.intake import batches, deliveries, markers
from ct_assets.layout import Layout

NAME = "Zaunkoenig_Adelheid_4711"


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path / "data")


@pytest.fixture
def key(secret_hex) -> SecretKey:
    return SecretKey.from_hex(secret_hex)


@pytest.fixture
def drop(tmp_path) -> Path:
    return delivery(
        tmp_path / f"export_{NAME}", {f"{NAME}/CT/IM0001": b"first", f"{NAME}/CT/IM0002": b"second"}
    )


def delivery(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".complete"
    }


def everything(layout: Layout) -> dict[str, bytes]:
    """All files of the platform but the record of deliveries, which tells clock times."""
    return {
        name: data
        for name, data in {
            path.relative_to(layout.root).as_posix(): path.read_bytes()
            for path in sorted(layout.root.rglob("*"))
            if path.is_file()
        }.items()
        if not name.endswith((".lock", "deliveries.jsonl"))
    }


class TestIngest:
    def test_copies_the_folder_with_its_marker_and_leaves_it_as_it_was(self, layout, key, drop):
        before = content_of(drop)
        batch = batches.ingest(drop, layout, key)
        assert content_of(layout.inbox_batch(batch)) == before == content_of(drop)
        listed = json.loads((layout.inbox_batch(batch) / ".complete").read_bytes())["files"]
        assert {(row["path"], row["bytes"], row["sha256"]) for row in listed} == {
            (name, len(data), files.hashlib.sha256(data).hexdigest()) for name, data in before.items()
        }

    def test_names_the_batch_by_a_keyed_digest_of_the_list(self, tmp_path, layout, key, drop):
        batch = batches.ingest(drop, layout, key)
        again = batches.ingest(drop, Layout(tmp_path / "elsewhere"), key)
        other_key = batches.ingest(drop, Layout(tmp_path / "other"), SecretKey.from_hex("ab12" * 16))
        assert batch == again != other_key
        assert "Zaun" not in batch
        assert batch.isalnum()

    def test_folder_and_copies_are_closed_to_others(self, layout, key, drop):
        batch = batches.ingest(drop, layout, key)
        for folder in (layout.inbox, layout.raw, layout.inbox_batch(batch)):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in layout.inbox_batch(batch).rglob("IM*")} == {
            0o600
        }

    def test_of_the_same_delivery_again_says_so(self, layout, key, drop, capsys):
        batch = batches.ingest(drop, layout, key)
        assert batches.ingest(drop, layout, key) == batch
        assert "here already" in capsys.readouterr().err
        batches.register(layout, batch)
        assert batches.ingest(drop, layout, key, name="another") == batch
        assert batches.complete_batches(layout) == []

    @pytest.mark.parametrize("name", ["a b", "../raw", "a,b", "Müller", "", "x" * 65, "a/b", "."])
    def test_refuses_a_name_that_no_path_or_database_should_bear(self, layout, key, drop, name):
        with pytest.raises(UsageError, match="letters, digits"):
            batches.ingest(drop, layout, key, name=name)
        assert not layout.inbox.exists()

    def test_refuses_what_is_no_delivery(self, tmp_path, layout, key, drop):
        (tmp_path / "empty").mkdir()
        batches.ingest(drop, layout, key, name="b1")
        for folder, says in {
            tmp_path / "nowhere": "no such folder",
            tmp_path / "empty": "holds no file",
            drop / NAME / "CT/IM0001": "a file",
            layout.root: "data root",
            layout.root.parent: "data root",
            layout.inbox_batch("b1"): "already",
        }.items():
            with pytest.raises(UsageError, match=says):
                batches.ingest(folder, layout, key)

    def test_refuses_before_copying_what_would_not_fit(self, layout, key, drop, monkeypatch):
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3}))
        with pytest.raises(UsageError, match="free"):
            batches.ingest(drop, layout, key)
        assert content_of(layout.inbox) == {}

    def test_refuses_a_file_that_changes_while_it_is_read(self, layout, key, drop, monkeypatch):
        read = markers._digest_and_copy

        def grows(source: Path, copy_to: Path | None) -> str:
            digest = read(source, copy_to)
            with source.open("ab") as opened:
                opened.write(b"more")
            return digest

        monkeypatch.setattr(markers, "_digest_and_copy", grows)
        with pytest.raises(UsageError, match="changed while it was read"):
            batches.ingest(drop, layout, key)
        assert batches.complete_batches(layout) == []
        assert not list(layout.inbox.glob(".partial*"))

    def test_refuses_a_file_that_changes_after_it_was_read(self, layout, key, drop, monkeypatch):
        read, seen = markers._digest_and_copy, []

        def the_one_before_grows(source: Path, copy_to: Path | None) -> str:
            if seen:
                with seen[-1].open("ab") as opened:
                    opened.write(b"more")
            seen.append(source)
            return read(source, copy_to)

        monkeypatch.setattr(markers, "_digest_and_copy", the_one_before_grows)
        with pytest.raises(UsageError, match="changed while it was read"):
            batches.ingest(drop, layout, key)
        assert len(seen) > 1
        assert batches.complete_batches(layout) == []

    def test_refuses_a_folder_in_which_files_still_arrive(self, layout, key, drop, monkeypatch):
        read = markers._digest_and_copy

        def another_comes(source: Path, copy_to: Path | None) -> str:
            (drop / "late").write_bytes(b"late")
            return read(source, copy_to)

        monkeypatch.setattr(markers, "_digest_and_copy", another_comes)
        with pytest.raises(UsageError, match="changed while it was read"):
            batches.ingest(drop, layout, key)

    def test_refuses_an_unreadable_file_and_takes_nothing(self, layout, key, drop, monkeypatch):
        def unreadable(source: Path, copy_to: Path | None) -> str:
            raise PermissionError(13, "Permission denied", str(source))

        monkeypatch.setattr(markers, "_digest_and_copy", unreadable)
        with pytest.raises(UsageError, match="Permission denied") as caught:
            batches.ingest(drop, layout, key)
        assert "IM0001" not in str(caught.value)
        assert batches.complete_batches(layout) == []

    def test_refuses_pipes(self, layout, key, drop):
        os.mkfifo(drop / "pipe")
        with pytest.raises(UsageError, match="pipe"):
            batches.ingest(drop, layout, key)

    def test_delivers_links_as_links_and_does_not_follow_them(self, tmp_path, layout, key, drop):
        (tmp_path / "secret").write_text("not part of the delivery")
        (drop / "link").symlink_to(tmp_path / "secret")
        (drop / "folder").symlink_to(tmp_path)
        batch = batches.ingest(drop, layout, key)
        batches.register(layout, batch)
        assert (layout.raw_batch(batch) / "link").is_symlink()
        assert (layout.raw_batch(batch) / "folder").is_symlink()
        assert not any(b"not part" in data for data in content_of(layout.raw_batch(batch) / NAME).values())

    def test_takes_file_names_that_are_no_text(self, layout, key, drop):
        (Path(os.fsdecode(os.fsencode(drop) + b"/J\xfcrgen"))).write_bytes(b"latin")
        (drop / "50%.dcm").write_bytes(b"percent")
        batch = batches.ingest(drop, layout, key)
        assert batches.register(layout, batch).files == 4
        assert b"latin" in content_of_bytes(layout.raw_batch(batch))


def content_of_bytes(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestRegister:
    def test_moves_the_batch_to_the_originals(self, layout, key, drop):
        batch = batches.ingest(drop, layout, key)
        registered = batches.register(layout, batch)
        assert content_of(layout.raw_batch(batch)) == content_of(drop)
        assert not layout.inbox_batch(batch).exists()
        assert (registered.files, registered.bytes) == (2, 11)
        assert batches.registered_batches(layout) == [registered]
        assert batches.marker_digest(layout, batch) == registered.marker_digest

    def test_again_changes_nothing(self, layout, key, drop):
        batch = batches.ingest(drop, layout, key)
        first = batches.register(layout, batch)
        before = everything(layout)
        assert batches.register(layout, batch) == first
        assert everything(layout) == before
        assert [line["event"] for line in deliveries.read(layout)] == ["registered"]

    def test_refuses_an_unknown_batch(self, layout):
        with pytest.raises(UsageError, match="not in the inbox"):
            batches.register(layout, "b0")

    @pytest.mark.parametrize(
        ("lie", "code"),
        [
            (lambda folder: (folder / NAME / "CT/IM0001").unlink(), "file_not_delivered"),
            (lambda folder: (folder / "more").write_bytes(b"x"), "file_not_listed"),
            (lambda folder: (folder / NAME / "CT/IM0001").write_bytes(b"FIRST"), "file_altered"),
            (lambda folder: (folder / NAME / "CT/IM0001").write_bytes(b"longer"), "file_altered"),
        ],
    )
    def test_refuses_a_marker_that_lies_and_leaves_the_batch_where_it_is(self, layout, key, drop, lie, code):
        batch = batches.ingest(drop, layout, key)
        lie(layout.inbox_batch(batch))
        with pytest.raises(UsageError, match=f"1 x {code}") as caught:
            batches.register(layout, batch)
        assert NAME not in str(caught.value)
        assert layout.inbox_batch(batch).is_dir()
        assert not layout.raw_batch(batch).exists()

    def test_notices_an_original_that_was_changed_after_registration(self, layout, key, drop):
        batch = batches.ingest(drop, layout, key)
        batches.register(layout, batch)
        (layout.raw_batch(batch) / NAME / "CT/IM0002").write_bytes(b"sEcond")
        with pytest.raises(UsageError, match="file_altered"):
            batches.register(layout, batch)

    @pytest.mark.parametrize("path", ["/etc/passwd", "../other/file", "a/../../b", "a\\b", ""])
    def test_refuses_a_marker_that_points_out_of_its_folder(self, layout, drop, path):
        layout.make_restricted()
        folder = delivery(layout.inbox_batch("b1"), {"IM1": b"x"})
        marker = {"format": 1, "files": [{"path": path, "bytes": 1, "sha256": "0" * 64}]}
        (folder / ".complete").write_text(json.dumps(marker))
        assert batches.complete_batches(layout) == []
        assert [one.reason for one in batches.incomplete(layout)] == ["marker_leaves_folder"]
        with pytest.raises(UsageError, match="marker_leaves_folder"):
            batches.register(layout, "b1")

    @pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"files": [1]}', '{"files": [{"path": "a"}]}'])
    def test_refuses_a_marker_that_is_no_list(self, layout, text):
        layout.make_restricted()
        (delivery(layout.inbox_batch("b1"), {"IM1": b"x"}) / ".complete").write_text(text)
        assert [one.reason for one in batches.incomplete(layout)] == ["marker_unreadable"]
        with pytest.raises(UsageError, match="marker_unreadable"):
            batches.register(layout, "b1")


class TestACorrectedDelivery:
    def test_replaces_its_batch_and_keeps_the_old_one_aside(self, tmp_path, layout, key, drop):
        batches.ingest(drop, layout, key, name="b1")
        old = batches.register(layout, "b1")
        corrected = delivery(tmp_path / "corrected", {"IM1": b"corrected"})
        batches.ingest(corrected, layout, key, name="b1")
        assert batches.marker_digest(layout, "b1") != old.marker_digest
        new = batches.register(layout, "b1")
        assert content_of(layout.raw_batch("b1")) == {"IM1": b"corrected"}
        aside = layout.superseded("b1", old.marker_digest[:16])
        assert content_of(aside) == content_of(drop)
        assert [(line["event"], line["marker_digest"]) for line in deliveries.read(layout)] == [
            ("registered", old.marker_digest),
            ("superseded", old.marker_digest),
            ("registered", new.marker_digest),
        ]

    def test_before_registration_replaces_what_waits(self, tmp_path, layout, key, drop):
        batches.ingest(drop, layout, key, name="b1")
        batches.ingest(delivery(tmp_path / "corrected", {"IM1": b"corrected"}), layout, key, name="b1")
        batches.register(layout, "b1")
        assert content_of(layout.raw_batch("b1")) == {"IM1": b"corrected"}
        assert [line["event"] for line in deliveries.read(layout)] == ["superseded", "registered"]

    def test_back_to_the_first_one_is_a_correction_too(self, tmp_path, layout, key, drop):
        corrected = delivery(tmp_path / "corrected", {"IM1": b"corrected"})
        for folder in (drop, corrected, drop):
            batches.ingest(folder, layout, key, name="b1")
            batches.register(layout, "b1")
        assert content_of(layout.raw_batch("b1")) == content_of(drop)

    def test_delivered_unchanged_is_dropped(self, layout, key, drop):
        batches.ingest(drop, layout, key, name="b1")
        first = batches.register(layout, "b1")
        # A sender that copies into the inbox itself does not know what is registered.
        folder = delivery(layout.inbox_batch("b1"), content_of(drop))
        markers.take(folder, "test").write(folder)
        assert batches.register(layout, "b1") == first
        assert not layout.inbox_batch("b1").exists()
        assert len(deliveries.read(layout)) == 1


class TestSettling:
    """Folders that a sender puts into the inbox without a marker."""

    @pytest.fixture
    def folder(self, layout) -> Path:
        layout.make_restricted()
        return delivery(layout.inbox_batch("week3"), {"IM1": b"one"})

    def test_a_folder_that_stopped_changing_becomes_a_batch(self, layout, folder):
        seen = batches.settle(layout, {}, now=1000, settle_seconds=60)
        seen = batches.settle(layout, seen, now=1059, settle_seconds=60)
        assert batches.complete_batches(layout) == []
        assert batches.settle(layout, seen, now=1060, settle_seconds=60) == {}
        assert [one.batch for one in batches.complete_batches(layout)] == ["week3"]
        assert batches.register(layout, "week3").files == 1

    def test_a_folder_that_still_changes_waits(self, layout, folder):
        seen = batches.settle(layout, {}, now=1000, settle_seconds=60)
        (folder / "IM2").write_bytes(b"two")
        seen = batches.settle(layout, seen, now=1060, settle_seconds=60)
        assert batches.complete_batches(layout) == []
        batches.settle(layout, seen, now=1120, settle_seconds=60)
        assert batches.register(layout, "week3").files == 2

    def test_one_look_is_never_enough(self, layout, folder):
        batches.settle(layout, {}, now=1e12, settle_seconds=0)
        assert batches.complete_batches(layout) == []

    def test_an_empty_marker_says_complete(self, layout, folder):
        (folder / ".complete").touch()
        batches.settle(layout, {}, now=1000, settle_seconds=60)
        assert [one.batch for one in batches.complete_batches(layout)] == ["week3"]

    def test_what_is_remembered_names_no_folder(self, layout, folder):
        assert "week3" not in json.dumps(batches.settle(layout, {}, now=1000, settle_seconds=60))

    def test_a_name_that_may_not_be_a_batchs_is_told_without_telling_it(self, layout):
        layout.make_restricted()
        delivery(layout.inbox / "Müller^Hans", {"IM1": b"one"})
        assert batches.settle(layout, {}, now=1000, settle_seconds=0) == {}
        assert [one.reason for one in batches.incomplete(layout)] == ["batch_name_refused"]

    def test_for_a_single_look_the_newest_change_counts(self, layout, folder):
        os.utime(folder / "IM1", (0, 0))  # as copying tools set back times of modification
        assert batches.settled_batches(layout, now=time.time(), settle_seconds=60) == []
        found = batches.settled_batches(layout, now=time.time() + 61, settle_seconds=60)
        assert [one.batch for one in found] == ["week3"]


KILLED = """
import os, sys
from pathlib import Path
from ct_assets.intake import batches, deliveries, markers
from ct_assets.layout import Layout
from ct_assets import files
from ct_assets.identity.key import SecretKey

root, drop, key, what, place = sys.argv[1:]
calls = 0

def counted(function):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(place):
            os._exit(9)
        return function(*arguments, **named)
    return call

# Everything that changes the disk: die instead of the n-th of these calls.
Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
batches.shutil.rmtree = counted(batches.shutil.rmtree)
markers.read_entry = counted(markers.read_entry)
layout = Layout(Path(root))
if what == "ingest":
    batches.ingest(Path(drop), layout, SecretKey.from_hex(key), name="b1")
else:
    batches.register(layout, "b1")
"""


class TestAKilledProcess:
    """After a kill at any change of the disk, doing it again gives what an undisturbed run gives."""

    @pytest.fixture
    def corrected(self, tmp_path) -> Path:
        return delivery(tmp_path / "corrected", {"IM1": b"corrected", "IM2": b"two"})

    def killed_at(self, place: int, layout: Layout, drop: Path, secret_hex: str, what: str) -> bool:
        arguments = [str(layout.root), str(drop), secret_hex, what, str(place)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
        assert done.returncode in (0, 9), done.stderr.decode()
        return done.returncode == 9

    @pytest.mark.parametrize("what", ["ingest", "register"])
    def test_is_gone_on_with(self, tmp_path, key, secret_hex, drop, corrected, what):
        def prepared(root: Path) -> Layout:
            layout = Layout(root)
            batches.ingest(drop, layout, key, name="b1")
            batches.register(layout, "b1")
            if what == "register":
                batches.ingest(corrected, layout, key, name="b1")
            return layout

        def gone_through(layout: Layout) -> None:
            batches.ingest(corrected, layout, key, name="b1")
            batches.register(layout, "b1")

        undisturbed = prepared(tmp_path / "undisturbed")
        gone_through(undisturbed)
        wanted, told = everything(undisturbed), [line["event"] for line in deliveries.read(undisturbed)]
        assert told == ["registered", "superseded", "registered"]
        place = 0
        while True:
            place += 1
            layout = prepared(tmp_path / f"killed_{place}")
            was_killed = self.killed_at(place, layout, corrected, secret_hex, what)
            for onlooker in batches.complete_batches(layout):
                assert onlooker.batch == "b1"
            gone_through(layout)
            assert everything(layout) == wanted, place
            assert [line["event"] for line in deliveries.read(layout)] == told, place
            if not was_killed:
                break
        assert place > 3
