"""A platform of two deliveries and three people, made in a second, with hard places to forget somebody in.

Ottoline Quenneville is who withdraws. Her brother shares her surname; a stranger's slice mentions her in a
comment; a letter, a directory of a medium and a folder's name tell of her; one of her slices lost its number.
"""

import gzip
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydicom.dataset import Dataset

from ct_assets import files, tables
from ct_assets.cohort import case_numbers, splits
from ct_assets.cohort.metadata_audit import write_batch
from ct_assets.deid.batch.run import deidentify
from ct_assets.identity import withdrawn
from ct_assets.identity.key import SecretKey, hold_to_record
from ct_assets.identity.pseudonyms import pseudonym
from ct_assets.intake import batches
from ct_assets.layout import Layout
from ct_assets.lifecycle import withdraw
from ct_assets.settings.deid import DeidProfile
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables.cohort import CaseNumbers, SplitLedger
from ct_assets_tests.deid import made

KEY = SecretKey(bytes(range(40, 72)))
HERS, HIS, STRANGER = "QX4471093", "QX5580017", "ZL9013377"
NAME, STRANGERS_NAME = "Quenneville^Ottoline", "Abernathy^Wilfred"
ISSUER = "HOSP-A"
ROOT = "1.2.826.0.1.3680043.99"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Small:
    """The platform, and under which words its people are known."""

    layout: Layout
    drop: Path
    first: str
    second: str

    def pseudonym_of(self, patient_id: str) -> str:
        return pseudonym(KEY, patient_id, ISSUER)

    @property
    def her_words(self) -> set[str]:
        """What may stand nowhere after she withdrew: number, name, pseudonym, case, old and new UIDs."""
        uids = pl.concat(
            [pl.read_parquet(path) for path in self.layout.root.glob("audits/uid/*/uid_map.parquet")]
        )
        own = uids.filter(pl.col("old_uid").str.starts_with(f"{ROOT}.1."))
        return {
            HERS,
            "Ottoline",
            "Quenneville^Ottoline",
            "ACC88123456",
            self.pseudonym_of(HERS),
            "case_0001",
            *own["old_uid"],
            *own["new_uid"],
        }


def slice_of(person: int, number: int, **values: object) -> Dataset:
    """Return a slice of person 1 (she), 2 (her brother) or 3 (the stranger)."""
    names = {1: (HERS, NAME), 2: (HIS, "Quenneville^Barnabas"), 3: (STRANGER, STRANGERS_NAME)}
    patient_id, name = names[person]
    told: dict[str, object] = {
        "PatientID": patient_id,
        "PatientName": name,
        "PatientBirthDate": f"196{person}0417",
        "AccessionNumber": f"ACC8812345{5 + person}",
        "StudyID": f"S993{person}",
        "IssuerOfPatientID": ISSUER,
        "StudyInstanceUID": f"{ROOT}.{person}.1",
        "SeriesInstanceUID": f"{ROOT}.{person}.1.0",
        "FrameOfReferenceUID": f"{ROOT}.{person}.7",
        "SOPInstanceUID": f"{ROOT}.{person}.1.0.{number}",
        "InstanceNumber": number,
    }
    return made.ct(**{**told, **values})


def delivery(folder: Path) -> Path:
    """Write the first delivery."""
    for number in (1, 2):
        made.save(slice_of(1, number), folder / f"hers/IM{number}")
        made.save(slice_of(2, number), folder / f"his/IM{number}")
    # Her slice without its number, of her study.
    made.save(slice_of(1, 3, PatientID=None, IssuerOfPatientID=None), folder / "loose/IM3")
    # The stranger's slices: one mentions her, both lie in a folder that bears her name.
    comment = "compare Ottoline Quenneville QX4471093, same week"
    mentions = {"ImageComments": comment, "OtherPatientIDs": HERS, "ResponsiblePerson": NAME}
    made.save(slice_of(3, 1, **mentions), folder / "OTTOLINE_Q/IM1")
    made.save(slice_of(3, 2), folder / "OTTOLINE_Q/IM2")
    (folder / "letter.txt").write_text(
        "Dear colleague, Ms Ottoline Quenneville (QX4471093) was seen today.\n"
    )
    (folder / "export.log").write_text("three people exported, no names\n")
    directory = Dataset()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = f"{ROOT}.8.1"
    directory.DirectoryRecordSequence = [made.item(DirectoryRecordType="PATIENT", PatientID=HERS)]
    made.save(directory, folder / "DICOMDIR")
    whole = made.as_bytes(slice_of(1, 4))
    (folder / "torso.dcm").write_bytes(whole[:-40])
    return folder


def platform(folder: Path) -> Small:
    """Make the platform under `folder`, as far as cases, pages and a training."""
    layout = Layout(folder / "data")
    layout.make_restricted()
    hold_to_record(layout.key_record, KEY)
    drop = delivery(folder / "drop")
    first = take_in(layout, drop)
    other = folder / "drop2"
    made.save(slice_of(3, 5), other / "a/IM5")
    second = take_in(layout, other)
    waiting = folder / "drop3"
    made.save(slice_of(1, 9), waiting / "IM9")
    made.save(slice_of(2, 9), waiting / "IM10")
    batches.ingest(waiting, layout, KEY)
    small = Small(layout, drop, first, second)
    _products(small)
    return small


def take_in(layout: Layout, drop: Path) -> str:
    """Ingest, register and de-identify one delivery, and audit its headers."""
    batch = batches.ingest(drop, layout, KEY)
    gone = withdrawn.load(layout.tombstones, KEY)
    batches.register(layout, batch, gone)
    deidentify(layout.raw_batch(batch), layout.deid_paths(batch), DeidProfile(), KEY, refused=gone, workers=1)
    write_batch(layout, batch, workers=1)
    return batch


def _products(small: Small) -> None:
    layout = small.layout
    people = [small.pseudonym_of(one) for one in (STRANGER, HERS, HIS)]
    patients = pl.DataFrame({"patient_id": people, "stage": ["I", "II", "III"], "site": ["a"] * 3})
    ledger = splits.extend(None, patients, SplitSettings(folds=2), NOW)
    tables.write_table(layout.splits, ledger, SplitLedger)
    numbers = case_numbers.extend(None, [])
    for patient in people:
        numbers = case_numbers.extend(numbers, [patient])
    tables.write_table(layout.case_numbers, numbers, CaseNumbers)
    rows = [{"case_id": f"case_{n:04d}", "patient_id": patient} for n, patient in enumerate(people)]
    files.write_json(layout.nifti / "dataset.json", {"dataset": {row["case_id"]: "x" for row in rows}})
    for row in rows:
        case = row["case_id"]
        for path in (
            layout.nifti / f"imagesTr/{case}.nii.gz",
            layout.root / f"models/e/0/predictions/{case}/mask.nii.gz",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(case.encode() * 5))
        files.write_text(layout.reports / f"cases/{case}.html", f"<h1>{row['patient_id']}</h1>")
    files.write_text(layout.reports / "cases/index.html", "<p>".join(row["case_id"] for row in rows))
    pl.DataFrame(rows).write_parquet(layout.root / "models/e/0/predictions.parquet")
    files.write_json(layout.root / "models/e/1/patients.json", {"train": people, "validation": []})
    files.write_json(layout.root / "models/e/1/training.json", {"experiment": "e"})
    files.write_text(layout.root / "models/e/final/card.md", "# A model\n")
    files.write_json(
        layout.root / "derived/home/derived.json", {"name": "home", "patient_ids": sorted(people)}
    )
    brain = layout.brain
    tables.write_table(brain / "splits.parquet", ledger, SplitLedger)
    pl.DataFrame(rows).write_parquet(brain / "features.parquet")
    for path in ("models/c/0/best.safetensors", "models/c/1/best.safetensors", "prepared/0a.npy"):
        files.write_bytes(brain / path, b"numbers")
    files.write_text(brain / "final/card.md", "# Another model\n")
    layout.mlflow.mkdir()
    database = sqlite3.connect(layout.mlflow / "mlflow.db")
    database.execute("pragma journal_mode = wal")
    database.execute("create table tags (key text primary key, value text)")
    for row in rows:
        database.execute("insert into tags values (?, ?)", (row["case_id"], f"{row['patient_id']} was here"))
    database.commit()
    database.close()


def carry_out(small: Small, patient: str = HERS) -> withdraw.Report:
    """Withdraw somebody, without any record of runs."""
    found = withdraw.look(patient, small.layout, KEY, workers=1)
    return finish(small, found)


def finish(small: Small, found: withdraw.Found) -> withdraw.Report:
    """Do what was found."""
    return withdraw.carry_out(
        found,
        small.layout,
        KEY,
        tracking_uri=f"sqlite:///{small.layout.mlflow / 'mlflow.db'}",
        forget_runs=lambda subject, outcome: None,
        workers=1,
        now=NOW,
    )


def files_with(root: Path, words: set[str]) -> list[tuple[str, str]]:
    """Return where any of the words stands, by a search that knows nothing of how they were removed."""
    found = []
    wanted = [(word, form) for word in words for form in _forms(word)]
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name, content = str(path.relative_to(root)).encode(), path.read_bytes()
            views = [name, content]
            if path.suffix == ".parquet":
                views.append(pl.read_parquet(path).write_ndjson().encode())
            if content[:2] == b"\x1f\x8b":
                views.append(gzip.decompress(content))
            lowered = b"\0".join(views).lower()
            found += [(path.relative_to(root).as_posix(), word) for word, form in wanted if form in lowered]
    return found


def _forms(word: str) -> set[bytes]:
    texts = {word.lower(), word.lower().replace("^", " "), word.lower().replace("^", ", ")}
    return {text.encode(codec) for text in texts for codec in ("utf-8", "utf-16-le")}
