"""Holding the store of released files against the audit: nothing altered, missing or added since.

Belongs here: the comparison by digest, batch by batch. Does not: judging content, which the leak scan did
before release. Reads public audits and released files only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
from blake3 import blake3

from ct_assets import parallel, progress
from ct_assets.layout import Layout

FaultKind = Literal["altered", "missing", "not in the audit"]


@dataclass(frozen=True, order=True)
class Fault:
    """One file that is not as the audit says."""

    batch: str
    path: str
    """Relative to the batch's released folder: new identifiers only."""
    kind: FaultKind


@dataclass(frozen=True)
class Verified:
    """What a look at the store found."""

    files: int
    faults: tuple[Fault, ...]


def verify_store(layout: Layout, workers: int = 1) -> Verified:
    """Read every released file of every batch and compare its BLAKE3 digest with the audit's."""
    faults: list[Fault] = []
    count = 0
    for audit in sorted((layout.root / "audits/deid").glob("*/deid_audit.jsonl")):
        batch = audit.parent.name
        expected = _expected(audit)
        folder = layout.deid_batch(batch)
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        there = sorted(found & expected.keys())
        count += len(there)
        with progress.track(f"verifying {batch}", len(there)) as advance:
            digests = parallel.map_ordered(_blake3_of, [folder / path for path in there], workers=workers)
            for path, digest in zip(there, digests, strict=True):
                if digest != expected[path]:
                    faults.append(Fault(batch, path, "altered"))
                advance(1)
        faults += [Fault(batch, path, "missing") for path in expected.keys() - found]
        faults += [Fault(batch, path, "not in the audit") for path in found - expected.keys()]
    return Verified(count, tuple(sorted(faults)))


def _blake3_of(path: Path) -> str:
    return blake3(path.read_bytes()).hexdigest()


def _expected(audit: Path) -> dict[str, str]:
    """Return path to digest of the released files of one audit, read line by line."""
    expected = {}
    with audit.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            if row["disposition"] == "released":
                levels = (
                    "new_patient_id",
                    "new_study_instance_uid",
                    "new_series_instance_uid",
                    "new_sop_instance_uid",
                )
                expected["/".join(row[level] for level in levels) + ".dcm"] = row["released_blake3"]
    return expected
