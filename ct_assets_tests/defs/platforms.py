"""Platforms over the phantom cohort, for tests that run the graph for real."""

import csv
import hashlib
import json
from pathlib import Path

import polars as pl
import yaml

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.launch import run_platform
from ct_assets.defs.engine.pipeline import Outcome
from ct_assets.identity.key import SecretKey
from ct_assets.intake.batches import ingest
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.load import PROJECT_ROOT

KEY_HEX = "00112233445566778899aabbccddeeff" * 2
PRODUCTS = ("deid", "audits", "cohort", "nifti", "folds", "quarantine")
"""Folders that a run makes and that hold no clock time outside `*_at`."""


def write_settings(folder: Path, labels_csv: Path, *, shipped: str = "demo", **changes: object) -> Path:
    """Write a settings file whose data root is `folder / "data"`, all else as in the shipped ones."""
    base = yaml.safe_load((PROJECT_ROOT / f"configs/{shipped}.yaml").read_text())
    content = {
        **base,
        "data_root": str(folder / "data"),
        "deid": {"profile": str(PROJECT_ROOT / "configs/deid.yaml"), "key_file": str(folder / "key")},
        "eligibility": {
            **base.get("eligibility", {}),
            "query": str(PROJECT_ROOT / "configs/eligibility.sql"),
        },
        "labels": {**base["labels"], "csv": str(labels_csv)},
        "training": str(PROJECT_ROOT / "configs/train/demo.yaml"),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key").write_text(KEY_HEX)
    (folder / "key").chmod(0o600)
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def settings_of(folder: Path) -> Settings:
    return load_settings(folder / "settings.yaml", environ={})


def take(settings: Settings, drop: Path, name: str | None = None) -> str:
    return ingest(drop, settings.layout, SecretKey.load(settings.deid.key_file, environ={}), name)


def run(settings: Settings, **options: object) -> Outcome:
    return run_platform(settings, **options)


def instance_of(settings: Settings):
    return open_instance(settings)


def digests(root: Path, folders: tuple[str, ...] = PRODUCTS) -> dict[str, str]:
    """Return the digest of every product; tables without their clock columns."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                found[path.relative_to(root).as_posix()] = _digest(path)
    return found


def expected_of(expected_csv: Path) -> list[dict[str, str]]:
    with expected_csv.open(newline="") as opened:
        return list(csv.DictReader(opened))


def pseudonyms(settings: Settings) -> dict[tuple[str, str], str]:
    """Return pseudonyms by raw patient ID and issuer, as the crosswalk has them."""
    maps = [
        pl.read_parquet(path) for path in (settings.data_root / "audits/uid").glob("*/patient_map.parquet")
    ]
    rows = pl.concat(maps).iter_rows(named=True)
    return {(row["old_patient_id"].strip(), row["issuer"]): row["new_patient_id"] for row in rows}


def _digest(path: Path) -> str:
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
        clocks = [column for column in table.columns if column.endswith("_at")]
        if path.name == "splits.parquet":
            clocks += ["row_digest"]  # covers the clock of its row
        return hashlib.sha256(table.drop(clocks).write_ndjson().encode()).hexdigest()
    if path.name == "deliveries.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{key: value for key, value in row.items() if not key.endswith("_at")} for row in rows]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
