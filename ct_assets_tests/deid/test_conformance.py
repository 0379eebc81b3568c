"""The output conforms no less than the input did, held against validators that are not ours."""

import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ct_assets_tests.deid.runs import Run, run

needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed"
)


def kinds_of_errors(path: Path) -> set[str]:
    """Return the kinds of errors dciodvfy finds: its messages without values, numbers and indices."""
    told = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    errors = (line for line in (told.stderr + told.stdout).splitlines() if line.startswith("Error"))
    return {re.sub(r"<[^>]*>|\[\d+\]|\b\d+\b|'[^']*'", "", line).strip() for line in errors}


def released_pairs(ran: Run) -> list[tuple[Path, Path]]:
    """Return each released file with its original."""
    by_name = {path.stem: path for path in (ran.output / "dicom").rglob("*.dcm")}
    rows = pl.read_parquet(ran.paths.files).filter(pl.col("disposition") == "released")
    return [
        (ran.input / row["path"], by_name[row["new_sop_instance_uid"]]) for row in rows.iter_rows(named=True)
    ]


def new_kinds(pairs: list[tuple[Path, Path]]) -> dict[str, set[str]]:
    found = {after.stem: kinds_of_errors(after) - kinds_of_errors(before) for before, after in pairs}
    return {name: kinds for name, kinds in found.items() if kinds}


@needs_dciodvfy
def test_the_corpus_gains_no_kind_of_error(corpus_run):
    pairs = released_pairs(corpus_run)
    inflated = [pair for pair in pairs if not is_deflated(pair[0])]  # which dciodvfy cannot read
    assert len(inflated) == len(pairs) - 1
    assert new_kinds(inflated) == {}


def is_deflated(path: Path) -> bool:
    return pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID == DeflatedExplicitVRLittleEndian


@needs_dciodvfy
@pytest.mark.slow
@pytest.mark.real
def test_real_files_gain_no_kind_of_error(real_data, tmp_path):
    week = real_data / "lung_cohort/drops/2024-03-week1"
    ran = run(week, tmp_path / "cohort", workers=2)
    samples = run(real_data / "deid_samples", tmp_path / "samples")
    assert new_kinds(released_pairs(ran)[::7]) == {}
    assert new_kinds(released_pairs(samples)) == {}


def test_highdicom_opens_every_segmentation_and_finds_its_images(corpus_run):
    import highdicom as hd

    released = [pydicom.dcmread(path) for path in (corpus_run.output / "dicom").rglob("*.dcm")]
    images = {dataset.SOPInstanceUID: dataset for dataset in released if dataset.Modality == "CT"}
    masks = [dataset for dataset in released if dataset.Modality == "SEG"]
    assert masks
    for mask in masks:
        seg = hd.seg.Segmentation.from_dataset(mask)
        sources = [uid for _, _, uid in seg.get_source_image_uids()]
        assert sources
        for uid in sources:
            assert images[uid].FrameOfReferenceUID == seg.FrameOfReferenceUID
            assert images[uid].PatientID == seg.PatientID
        pixels = seg.get_pixels_by_source_instance(sources, combine_segments=True)
        assert pixels.shape == (len(sources), 64, 64)
        assert (pixels[:, 20:30, 20:30] == 1).all()
