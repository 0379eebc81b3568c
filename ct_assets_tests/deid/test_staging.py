"""Several folders become visible together, or not at all."""

from pathlib import Path

import pytest

from ct_assets.deid.batch.staging import Staging
from ct_assets.layout import DeidPaths

PLACES = ("dicom", "audit", "uid_dir", "quarantine", "report")


def fill(paths: DeidPaths, word: str) -> None:
    for folder in (paths.dicom, paths.uid_dir, paths.quarantine):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "content").write_text(word)
    for file in (paths.audit, paths.report):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(word)


def shown(paths: DeidPaths) -> set[str]:
    """The words that stand in the places that people look at."""
    files = [paths.dicom / "content", paths.uid_dir / "content", paths.quarantine / "content"]
    return {path.read_text() for path in (*files, paths.audit, paths.report) if path.exists()}


def hidden(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith((".partial-", ".old-"))]


@pytest.fixture
def target(tmp_path) -> DeidPaths:
    return DeidPaths.of_command(tmp_path / "out")


def test_a_release_shows_everything_at_once_and_leaves_nothing_beside(target, tmp_path) -> None:
    fill(target, "old")
    staging = Staging.beside(target)
    fill(staging.staged, "new")
    assert shown(target) == {"old"}
    staging.release()
    assert shown(target) == {"new"}
    assert not hidden(tmp_path)
    assert not staging.journal.exists()


def test_what_is_cleared_was_never_there(target, tmp_path) -> None:
    fill(target, "old")
    staging = Staging.beside(target)
    fill(staging.staged, "new")
    staging.clear()
    assert shown(target) == {"old"}
    assert not hidden(tmp_path)


def test_staged_restricted_folders_are_for_their_owner_from_the_start(target) -> None:
    staged = Staging.beside(target).staged
    assert {folder.stat().st_mode & 0o777 for folder in (staged.uid_dir, staged.quarantine)} == {0o700}


def test_left_overs_of_a_killed_run_are_not_mixed_into_the_next(target) -> None:
    fill(Staging.beside(target).staged, "killed before its release")
    again = Staging.beside(target)
    assert not list(again.staged.dicom.iterdir())
    assert not again.staged.audit.exists()


@pytest.mark.parametrize("done", range(len(PLACES) + 1))
def test_a_swap_that_was_killed_at_any_rename_is_finished_by_the_next_run(target, monkeypatch, done) -> None:
    fill(target, "old")
    staging = Staging.beside(target)
    fill(staging.staged, "new")
    right, count = Path.rename, iter(range(100))

    def killed(path: Path, to: Path) -> Path:
        if next(count) >= 2 * done:
            raise KeyboardInterrupt
        return right(path, to)

    monkeypatch.setattr(Path, "rename", killed)
    try:
        staging.release()
    except KeyboardInterrupt:
        assert done < len(PLACES)
    monkeypatch.undo()
    Staging.beside(target).clear()
    assert shown(target) == {"new"}
