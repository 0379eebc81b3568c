"""How fast CT slices come in over the DICOM network, beside Orthanc and dcmtk's storescp, in one run.

    python benchmarks/receive.py [--slices 300] [--rounds 3]

Every server runs as a process of its own on loopback, with an empty folder; dcmtk's storescu sends, one
association or three at once. The floor is a copy of the same files with the same care (each file and its
folder flushed to disk before the next). `durable` tells whether a file is on disk before its sender is
answered. Rounds are interleaved, so that whatever else the machine does falls on all; the median is shown.
Needs the Debian packages dcmtk and orthanc; what is not installed is left out.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SENDER, CALLED = "BENCH", "CT_ASSETS"
PDU = ("--max-send-pdu", "131072")


def make_series(folder: Path, slices: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    study, series = (generate_uid(entropy_srcs=[f"{seed}{kind}"]) for kind in ("study", "series"))
    for number in range(slices):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        one.SOPInstanceUID = generate_uid(entropy_srcs=[f"{seed}{number}"])
        one.Modality, one.PatientID, one.PatientName = "CT", f"P{seed}", f"BENCH^{seed}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.InstanceNumber = study, series, number
        one.Rows = one.Columns = 512
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.PixelData = random.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        one.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return folder


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, log: Path) -> Iterator[int]:
    """Run a server until it answers on its port; end it and what it started afterwards."""
    with log.open("wb") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if running.poll() is not None:
                raise SystemExit(f"{command[0]} ended: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield port
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(20)


def tls_files(folder: Path) -> dict[str, str]:
    """An authority and one certificate by it, used on both sides."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca",
        "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
    run(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "one.key",
        "-out",
        "one.csr",
    )
    run("x509", "-req", "-in", "one.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-out", "one.pem")  # fmt: skip
    return {
        "certificate": str(folder / "one.pem"),
        "private_key": str(folder / "one.key"),
        "client_ca": str(folder / "ca.pem"),
    }


@contextmanager
def ours(folder: Path, tls: dict[str, str] | None = None) -> Iterator[int]:
    port = free_port()
    receive = {"senders": [SENDER], "port": port, "quiet_seconds": 1, "keep_free_mb": 100}
    if tls:
        receive["tls"] = tls
    config = folder / "receive.yaml"
    config.write_text(yaml.safe_dump({"data_root": str(folder / "data"), "receive": receive}))
    command = [
        sys.executable,
        "-c",
        "from ct_assets.cli import main; main()",
        "receive",
        "--config",
        str(config),
    ]
    with process(command, port, folder / "log") as running:
        yield running


@contextmanager
def orthanc(folder: Path, *, synced: bool) -> Iterator[int]:
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder / "db"),
        "DicomPort": port,
        "DicomAet": CALLED,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "HttpServerEnabled": False,
        "SyncStorageArea": synced,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = [shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "Orthanc", str(folder / "orthanc.json")]
    with process(command, port, folder / "log") as running:
        yield running


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    port = free_port()
    (folder / "out").mkdir()
    command = [
        "storescp",
        "-q",
        "--fork",
        "-aet",
        CALLED,
        "-pdu",
        "131072",
        "-od",
        str(folder / "out"),
        str(port),
    ]
    with process(command, port, folder / "log") as running:
        yield running


def send(port: int, folders: list[Path], *options: str) -> float:
    """Send each folder in an association of its own, all at once; return the seconds until all are released."""
    command = [
        "storescu",
        "-q",
        "-aet",
        SENDER,
        "-aec",
        CALLED,
        *PDU,
        *options,
        "+sd",
        "127.0.0.1",
        str(port),
    ]
    started = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL) for folder in folders]
    failed = [sender.wait() for sender in senders]
    if any(failed):
        raise SystemExit(f"storescu failed: {failed}")
    return time.perf_counter() - started


def copy_with_care(folders: list[Path], target: Path) -> float:
    started = time.perf_counter()
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY)
    for number, path in enumerate(path for folder in folders for path in sorted(folder.iterdir())):
        with (target / f"{number}.part").open("wb") as written:
            written.write(path.read_bytes())
            written.flush()
            os.fsync(written.fileno())
        (target / f"{number}.part").rename(target / f"{number}.dcm")
        os.fsync(descriptor)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receive-") as name:
        root = Path(name)
        third = arguments.slices // 3
        parts = [make_series(root / f"series{number}", third, number) for number in range(3)]
        whole = root / "whole"
        whole.mkdir()
        for part in parts:
            for path in part.iterdir():
                (whole / f"{part.name}-{path.name}").hardlink_to(path)
        size = sum(path.stat().st_size for path in whole.iterdir()) / 1e6
        tls = tls_files(root / "tls")
        own_tls = ("+tls", tls["private_key"], tls["certificate"], "+cf", tls["client_ca"], "-ic")
        rows: dict[str, tuple[str, Callable[[Path], float]]] = {
            "floor: copy, fsync, rename": ("yes", lambda at: copy_with_care([whole], at / "copy")),
            "ct-assets receive": ("yes", _measured(ours, [whole])),
            "ct-assets receive, 3 senders": ("yes", _measured(ours, parts)),
            "ct-assets receive, mutual TLS": (
                "yes",
                _measured(lambda at: ours(at, tls), [whole], *own_tls),
            ),
        }
        if shutil.which("Orthanc", path="/usr/sbin:/usr/bin"):
            rows["Orthanc"] = ("yes", _measured(lambda at: orthanc(at, synced=True), [whole]))
            rows["Orthanc, 3 senders"] = ("yes", _measured(lambda at: orthanc(at, synced=True), parts))
            rows["Orthanc, unsynced"] = ("no", _measured(lambda at: orthanc(at, synced=False), [whole]))
        if shutil.which("storescp"):
            rows["storescp"] = ("no", _measured(storescp, [whole]))
            rows["storescp, 3 senders"] = ("no", _measured(storescp, parts))
        seconds: dict[str, list[float]] = {row: [] for row in rows}
        for turn in range(arguments.rounds):
            for row, (_, measure) in rows.items():
                at = root / f"{turn}-{len(seconds[row])}-{abs(hash(row))}"
                at.mkdir()
                seconds[row].append(measure(at))
                shutil.rmtree(at)
        base = statistics.median(seconds["ct-assets receive"])
        print(f"{3 * third} CT slices of 512 x 512, {size:.0f} MB, median of {arguments.rounds}")
        print(f"{'':32} {'seconds':>8} {'MB/s':>7} {'x ours':>7}  durable")
        for row, (durable, _) in rows.items():
            middle = statistics.median(seconds[row])
            print(f"{row:32} {middle:8.2f} {size / middle:7.1f} {middle / base:7.2f}  {durable}")


def _measured(
    server: Callable[[Path], object], folders: list[Path], *options: str
) -> Callable[[Path], float]:
    def measure(at: Path) -> float:
        with server(at) as port:  # type: ignore[attr-defined]
            return send(port, folders, *options)

    return measure


if __name__ == "__main__":
    main()
