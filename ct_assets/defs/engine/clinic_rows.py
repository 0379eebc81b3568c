"""Which rows of the clinic's table decide the de-identification of a batch.

Belongs here: the digest of what the table says of a batch's own patients, and of the whole table. Does not: which
cells identify (`deid.elements.clinic`), when a change is noticed (`defs.operations.sensors`).

A batch that is new is searched for the whole table. It is done again when what the table says of *its* patients
changed: rows of others only stand in it where exports were mixed up, and would otherwise renew every batch with each
new patient. The digests are keyed: Dagster's database outlives a patient who withdraws, and a few rows can be guessed.
"""

from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from ct_assets import files
from ct_assets.defs.engine.platform import Platform
from ct_assets.identity.key import SecretKey

DOMAIN = "clinic rows"


def of_batch(platform: Platform, batch: str) -> str | None:
    """Return the digest of what the table says of a batch's patients; None without a table or before its first run."""
    csv, patient_map = platform.settings.labels.csv, platform.layout.deid_paths(batch).patient_map
    if csv is None or not csv.is_file() or not patient_map.is_file():
        return None
    rows = _rows(csv, *_state(csv))
    numbers = _numbers(patient_map, *_state(patient_map)) | {""}
    own = sorted(value for number in numbers for value in rows.get(number, ()))
    return _key(platform).digest(DOMAIN, *(part for value in own for part in value)).hex()


def of_table(platform: Platform) -> str | None:
    """Return the digest of the whole table, None where there is none."""
    csv = platform.settings.labels.csv
    if csv is None or not csv.is_file():
        return None
    return _key(platform).digest(DOMAIN, files.sha256_file(csv)).hex()


def _key(platform: Platform) -> SecretKey:
    """Return the key without admitting work: a withdrawal under way records digests too."""
    return SecretKey.load(platform.settings.deid.key_file)


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=2)
def _rows(csv: Path, _changed: int, _size: int) -> dict[str, list[tuple[str, str]]]:
    """Return kinds and values by patient number; what no number stands beside is under ""."""
    from ct_assets.deid.elements.clinic import values_of
    from ct_assets.identity.pseudonyms import normalise_patient_id

    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind, value, patient, _ in values_of(csv):
        rows[normalise_patient_id(patient)].append((kind, value))
    return rows


@lru_cache(maxsize=4096)
def _numbers(patient_map: Path, _changed: int, _size: int) -> frozenset[str]:
    from ct_assets import tables
    from ct_assets.identity.pseudonyms import normalise_patient_id
    from ct_assets.tables.deid import PatientMap

    return frozenset(map(normalise_patient_id, tables.read_table(patient_map, PatientMap)["old_patient_id"]))
