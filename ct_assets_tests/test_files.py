"""Folders are swapped in whole, or not at all."""

import pytest

from ct_assets import files


def test_a_folder_that_could_not_be_filled_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    files.replace_directory(tmp_path / "cases", lambda folder: (folder / "case").touch())

    def fails(folder):
        (folder / "another").touch()
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.replace_directory(tmp_path / "cases", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["case"]
