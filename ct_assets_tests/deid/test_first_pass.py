"""What the first pass reads of files: enough, and no more."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest

from ct_assets.deid.batch import first_pass
from ct_assets.deid.batch.gather import BEGINNING_BYTES
from ct_assets.identity.withdrawn import Withdrawn
from ct_assets_tests.deid.made import ct, save
from ct_assets_tests.deid.runs import run

SIDE = 256
NOBODY = Withdrawn()


def large(**values: object) -> pydicom.Dataset:
    """A slice of which the first read holds the header and no more than a part of the pixels."""
    pixels = np.random.default_rng(1).integers(900, 1100, (SIDE, SIDE)).astype(np.uint16).tobytes()
    assert len(pixels) > BEGINNING_BYTES
    return ct(**{"Rows": SIDE, "Columns": SIDE, "PixelData": pixels, **values})


def gathered(folder: Path, **options: bool):
    facts, everything = first_pass.gather(
        folder, NOBODY, with_digests=options.get("with_digests", False), workers=1, preload=()
    )
    return {one.path: one for one in facts}, everything


def test_the_beginning_of_a_file_tells_all_that_the_whole_tells(tmp_path) -> None:
    save(large(), tmp_path / "im")
    short, of_beginning = gathered(tmp_path)
    whole, of_whole = gathered(tmp_path, with_digests=True)
    assert short["im"].sha256 is None
    short["im"].sha256 = whole["im"].sha256
    assert short == whole
    assert (of_beginning.values, of_beginning.uids) == (of_whole.values, of_whole.uids)


def test_files_that_share_a_uid_or_have_none_are_digested_at_once(tmp_path) -> None:
    save(large(SOPInstanceUID="1.2.3.1"), tmp_path / "a")
    save(large(SOPInstanceUID="1.2.3.1", KVP="80"), tmp_path / "b")
    save(large(SOPInstanceUID="1.2.3.2"), tmp_path / "c")
    save(large(SOPInstanceUID=None), tmp_path / "d")
    found, _ = gathered(tmp_path)
    for name in ("a", "b", "d"):
        assert found[name].sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert found["c"].sha256 is None


@pytest.mark.parametrize("cut", [1, 100, 2 * SIDE * SIDE - 1])
def test_a_large_file_that_ends_inside_its_pixels_is_truncated(tmp_path, cut) -> None:
    path = save(large(), tmp_path / "im")
    path.write_bytes(path.read_bytes()[:-cut])
    assert gathered(tmp_path)[0]["im"].code == "truncated"


def test_identifiers_behind_the_pixels_are_found_too(tmp_path) -> None:
    dataset = large()
    dataset.add_new(0x7FE10011, "LO", "MAKER")
    dataset.add_new(0x7FE11101, "PN", "Fennimarsh^Leopold")
    save(dataset, tmp_path / "im")
    _, everything = gathered(tmp_path)
    assert "Fennimarsh^Leopold" in {value for _, value, *_ in everything.values}


def test_the_whole_run_names_every_file_by_its_digest(tmp_path) -> None:
    for number in range(3):
        save(large(SOPInstanceUID=f"1.2.3.{number}"), tmp_path / f"in/im{number}")
    save(large(SOPInstanceUID="1.2.3.0"), tmp_path / "in/copy")
    save(large(SOPInstanceUID="1.2.3.9", PatientID=None), tmp_path / "in/nobody")
    made = run(tmp_path / "in", tmp_path / "out")
    table = {row["path"]: row for row in pl.read_parquet(made.paths.files).iter_rows(named=True)}
    assert {row["disposition"] for row in table.values()} == {"released", "rejected", "quarantined"}
    for name, row in table.items():
        content = (tmp_path / "in" / name).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        if row["disposition"] == "quarantined":
            assert (made.paths.quarantine / f"{row['sha256']}.dcm").read_bytes() == content


def test_a_file_that_is_gone_before_it_is_read_again_is_a_line_and_no_crash(tmp_path, monkeypatch) -> None:
    paths = [save(large(SOPInstanceUID=f"1.2.3.{n}"), tmp_path / f"in/im{n}") for n in range(2)]
    right = first_pass.gather

    def then_gone(*args, **options):
        found = right(*args, **options)
        paths[0].unlink()
        return found

    monkeypatch.setattr(first_pass, "gather", then_gone)
    made = run(tmp_path / "in", tmp_path / "out")
    table = {row["path"]: row for row in pl.read_parquet(made.paths.files).iter_rows(named=True)}
    assert (table["im0"]["disposition"], list(table["im0"]["reasons"])) == ("rejected", ["unreadable_file"])
    assert table["im1"]["disposition"] == "released"
