"""Every coding of pixels that a CT may come in: written by independent encoders, audited, converted, equal."""

import base64
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from ct_assets import files
from ct_assets.cohort import ct_prepro_audit
from ct_assets.dicom import index as headers
from ct_assets.dicom.pixels import FrameReader, PixelFormat
from ct_assets.imaging import nifti
from ct_assets.imaging.convert_tree import convert
from ct_assets.settings import Settings
from ct_assets_tests.imaging.ct_factory import ct_series

SHAPE = (4, 40, 56)
HTJ2K_PLANE = base64.b64decode(
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wA"
    "EyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAF0AAf+TwAAmXfcFB3QAAADAABNA"
    "ABMAFPsDB3QAKP4Ch3QAwAATwAATgHbZ9QKCdAAII/wAg1QAwAAqoAAVYGzYsGHzqnICdQBYsbCw/sAxgey2AP/Z"
)
"""An 8 x 8 plane of (311 i + 173 j) mod 4096 as OpenJPH codes it without loss: no encoder is at hand here."""


def stored_values(signed: bool) -> np.ndarray:
    """Smooth tissue with noise over the whole range of twelve bits."""
    noise = np.random.default_rng(4).normal(0, 60, SHAPE)
    ramp = np.linspace(-1000 if signed else 0, 2000 if signed else 4000, SHAPE[2])
    return np.clip(ramp + noise, -1024 if signed else 0, 2047 if signed else 4095).astype(int)


def converted(folder: Path, output: Path) -> tuple[np.ndarray, dict]:
    """Audit and convert a folder of one series; return its voxels and its line of the record."""
    settings = Settings()
    index = headers.scan(folder, root=folder, workers=1)
    audit = ct_prepro_audit.build(index, folder, settings.audit)
    assert audit is not None
    convert(folder, output, settings, workers=1)
    (line,) = files.read_jsonl(output / "conversion.jsonl")
    assert line["status"] == "converted", line
    return nifti.read(output / line["path"]).array, line


def coded_by_gdcm(source: Path, target: Path, kind: str) -> None:
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def coded_by_dcmtk(source: Path, target: Path, *options: str) -> None:
    if not shutil.which("dcmcjpeg"):
        pytest.skip("dcmcjpeg (Debian: dcmtk) is not installed")
    subprocess.run(["dcmcjpeg", *options, str(source), str(target)], check=True, capture_output=True)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("JPEGLosslessProcess14", "1.2.840.10008.1.2.4.57"),
        ("JPEGLosslessProcess14_1", "1.2.840.10008.1.2.4.70"),
        ("JPEGLSLossless", "1.2.840.10008.1.2.4.80"),
        ("JPEG2000Lossless", "1.2.840.10008.1.2.4.90"),
        ("RLELossless", "1.2.840.10008.1.2.5"),
        ("ExplicitVRBigEndian", "1.2.840.10008.1.2.2"),
        ("DeflatedExplicitVRLittleEndian", "1.2.840.10008.1.2.1.99"),
    ],
)
def test_what_loses_nothing_gives_every_value_back(tmp_path, kind, syntax, signed) -> None:
    stored = stored_values(signed)
    series = ct_series(shape=SHAPE, stored=stored, signed=signed, bits=12, intercept=-24)
    source = series.save(tmp_path / "source")
    (tmp_path / "coded").mkdir()
    for path in source.iterdir():
        coded_by_gdcm(path, tmp_path / "coded" / path.name, kind)
    assert pydicom.dcmread(tmp_path / "coded/im0000").file_meta.TransferSyntaxUID == UID(syntax)
    voxels, line = converted(tmp_path / "coded", tmp_path / "out")
    np.testing.assert_array_equal(voxels, stored - 24)
    assert "lossy_compression" not in line["warnings"]


@pytest.mark.parametrize("option", ["+el", "+e1"], ids=["process 14", "first-order prediction"])
def test_another_encoder_of_lossless_jpeg(tmp_path, option) -> None:
    stored = stored_values(signed=False)
    source = ct_series(shape=SHAPE, stored=stored, bits=12, intercept=-1024).save(tmp_path / "source")
    (tmp_path / "coded").mkdir()
    for path in source.iterdir():
        coded_by_dcmtk(path, tmp_path / "coded" / path.name, option)
    np.testing.assert_array_equal(converted(tmp_path / "coded", tmp_path / "out")[0], stored - 1024)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_jpeg_extended_of_twelve_bits_is_read_as_dcmtk_reads_it_and_told_as_lossy(tmp_path, signed) -> None:
    source = ct_series(shape=SHAPE, stored=stored_values(signed), signed=signed, bits=12).save(
        tmp_path / "in"
    )
    (tmp_path / "coded").mkdir()
    for path in source.iterdir():
        coded = tmp_path / "coded" / path.name
        coded_by_dcmtk(path, coded, "+ee", "+q", "95")
        subprocess.run(["dcmdjpeg", str(coded), str(tmp_path / "plain")], check=True, capture_output=True)
        values, _ = FrameReader().read(coded, PixelFormat.of(pydicom.dcmread(coded)))
        np.testing.assert_array_equal(values, pydicom.dcmread(tmp_path / "plain").pixel_array)
    voxels, line = converted(tmp_path / "coded", tmp_path / "out")
    assert "lossy_compression" in line["warnings"]
    assert np.abs(voxels - (stored_values(signed) - 1024.0)).max() < 60


@pytest.mark.parametrize("syntax", ["201", "202", "203"])
def test_high_throughput_jpeg_2000(tmp_path, syntax) -> None:
    row, column = np.mgrid[:8, :8]
    plane = (column * 311 + row * 173) % 4096
    series = ct_series(shape=(4, 8, 8), stored=np.stack([plane] * 4), intercept=0)
    for slice_ in series.slices:
        slice_.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{syntax}")
        slice_.PixelData = encapsulate([HTJ2K_PLANE])
        slice_["PixelData"].VR, slice_["PixelData"].is_undefined_length = "OB", True
    voxels, _ = converted(series.save(tmp_path / "in"), tmp_path / "out")
    np.testing.assert_array_equal(voxels, np.stack([plane] * 4))


def test_a_syntax_without_decoder_is_refused_by_name(tmp_path) -> None:
    series = ct_series(shape=(4, 8, 8))
    for slice_ in series.slices:
        slice_.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.103")  # MPEG-4: no picture of a CT
        slice_.PixelData = encapsulate([b"\0" * 64])
        slice_["PixelData"].VR, slice_["PixelData"].is_undefined_length = "OB", True
    convert(series.save(tmp_path / "in"), tmp_path / "out", Settings(), workers=1)
    (line,) = files.read_jsonl(tmp_path / "out/conversion.jsonl")
    assert (line["status"], line["reasons"]) == ("refused", ["transfer_syntax_unsupported"])
