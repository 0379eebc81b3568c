"""Senders for tests of the receiver: small CT objects, an association in Python, dcmtk's storescu."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from ct_assets.intake import markers
from ct_assets.layout import Layout
from ct_assets_tests.dicom.factory import base

SENDER, CALLED = "MODALITY", "CT_ASSETS"
PATIENT = "MUSTERFRAU^ERIKA"


def ct(number: int, series: str = "ct", patient: str = PATIENT, size: int = 16, **tags: object) -> Dataset:
    """One CT slice of `size` x `size` pixels."""
    one = base(str(number), "1.2.840.10008.5.1.4.1.1.2", "CT", series, patient)
    one.PatientName = patient
    one.InstanceNumber = number
    one.Rows = one.Columns = size
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 0
    pixels = np.random.default_rng(number).integers(0, 4096, (size, size), dtype=np.uint16)
    one.add_new(0x7FE00010, "OW", pixels.tobytes())
    for keyword, value in tags.items():
        setattr(one, keyword, value)
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    return one


def write_series(folder: Path, count: int, size: int = 512, **options: str) -> Path:
    """Write a series as files, as storescu takes them."""
    folder.mkdir(parents=True)
    for number in range(count):
        ct(number, size=size, **options).save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return folder


@contextmanager
def association(port: int, sender: str = SENDER, called: str = CALLED, **options: object) -> Iterator:
    """An association that may store CT images and echo."""
    from pynetdicom import AE

    entity = AE(ae_title=sender)
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", ExplicitVRLittleEndian)
    entity.add_requested_context("1.2.840.10008.1.1")
    opened = entity.associate("127.0.0.1", port, ae_title=called, **options)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def send(port: int, objects: Iterable[Dataset]) -> list[int]:
    """Send objects in one association and return the status of each."""
    with association(port) as opened:
        return [opened.send_c_store(one).Status for one in objects]


def storescu(port: int, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start dcmtk's sender over a folder."""
    command = ["storescu", "-q", "-aet", SENDER, "-aec", CALLED, *options, "+sd", "127.0.0.1", str(port)]
    return subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL)


def has_dcmtk() -> bool:
    return shutil.which("storescu") is not None


def delivered(layout: Layout) -> dict[str, list[str]]:
    """Return the file digests of each batch in the inbox; each is checked against the file itself."""
    found = {}
    for folder in sorted(layout.inbox.iterdir()):
        if folder.name.startswith("."):
            continue
        marker = markers.read(folder)
        assert marker is not None, "what stands in the inbox is complete"
        assert markers.differences(folder, marker, "checking") == {}
        found[folder.name] = sorted(entry.sha256 for entry in marker.entries)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
