"""The phantom cohort behind the demo and the tests: two drops of a hospital, its table, and what to expect.

Belongs here: which patients there are, in which drop, with which peculiarity or fault, and the odd files
between them. The same arguments give the same bytes. Nothing in it belongs to anybody.
"""

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ct_assets import files, parallel, progress
from ct_assets.phantom import clinic, faults, people, scanner, visits

STAGES = ("I", "II", "IIIa", "IIIb")
DROPS = ("drop-2024-03-week1", "drop-2024-03-week2")


@dataclass(frozen=True)
class PhantomCohort:
    """Where the cohort lies."""

    drops: tuple[Path, Path]
    """The two deliveries, to be ingested one after the other or in either order."""
    labels_csv: Path
    """The clinic's table, `raw_manifest.csv`."""
    expected_csv: Path
    """A row a patient: patient, issuer, eligible, reason, after_first_drop, stage, tumour_ml."""
    leak_tokens_csv: Path
    """Words that may not occur in anything released: patient, token."""


def make(
    folder: Path,
    *,
    seed: int = 7,
    patients: int = 14,
    faulty: tuple[str, ...] = faults.FAULTS,
    stage_signal: bool = True,
    confounded: bool = False,
    workers: int = 1,
) -> PhantomCohort:
    """Make the cohort in `folder` (replaced whole): `patients` eligible ones, and one a fault in `faulty`.

    With `stage_signal` size and position of the tumour and the lymph nodes follow the stage; without it
    they follow another patient's. `confounded` gives each stage a scanner of its own. Faults are names of
    `faults.FAULTS`; the one of two patients under one ID adds two people.
    """
    place = partial(_fill, seed=seed, patients=patients, faulty=faulty, workers=workers)
    files.replace_directory(folder, partial(place, stage_signal=stage_signal, confounded=confounded))
    return at(folder)


def at(folder: Path) -> PhantomCohort:
    """Return where the parts of a cohort made in `folder` lie."""
    return PhantomCohort(
        drops=(folder / DROPS[0], folder / DROPS[1]),
        labels_csv=folder / "raw_manifest.csv",
        expected_csv=folder / "expected.csv",
        leak_tokens_csv=folder / "leak_tokens.csv",
    )


def _fill(
    folder: Path,
    *,
    seed: int,
    patients: int,
    faulty: tuple[str, ...],
    stage_signal: bool,
    confounded: bool,
    workers: int,
) -> None:
    rng = np.random.default_rng(seed)
    planned = list(_plan(rng, seed, patients, faulty, stage_signal, confounded))
    cohort = at(folder)
    for drop in cohort.drops:
        drop.mkdir()
    cases = [case for case, _ in planned]
    volumes = []
    write = partial(visits.write, drops=cohort.drops)
    with progress.track("phantom patients", len(cases)) as advance:
        for volume in parallel.map_ordered(
            write, cases, workers=workers, preload=("ct_assets.phantom.visits",)
        ):
            volumes.append(volume)
            advance(1)
    _write_odd_files(cohort.drops, cases)
    clinic.write_table(cohort.labels_csv, [(case.person, stage, case.fault) for case, stage in planned], rng)
    rows = [_expected(case, stage, volume) for (case, stage), volume in zip(planned, volumes, strict=True)]
    rows.append(
        {"patient": "WMR9999999", "eligible": "no", "reason": "label_without_images",
         "after_first_drop": "no: label_without_images", "stage": "I"}
    )  # fmt: skip
    _write_csv(cohort.expected_csv, _EXPECTED_COLUMNS, rows)
    tokens = [
        {"patient": case.person.patient_id, "token": token}
        for case in cases
        for token in case.person.tokens()
        if len(token) > 3
    ]
    _write_csv(cohort.leak_tokens_csv, ("patient", "token"), tokens)


def _plan(
    rng: np.random.Generator,
    seed: int,
    patients: int,
    faulty: tuple[str, ...],
    stage_signal: bool,
    confounded: bool,
) -> Iterator[tuple[visits.Case, str]]:
    """Yield every case with the stage that the clinic's table gives it."""
    stages = [STAGES[number % len(STAGES)] for number in range(patients)]
    tumours = stages if stage_signal else [str(stage) for stage in rng.permutation(stages)]
    for number, (stage, tumour) in enumerate(zip(stages, tumours, strict=True)):
        person, traits, changes = _peculiar(number, people.invent(number, rng))
        machine = STAGES.index(stage) if confounded else (number * 2 + number // 5) % len(scanner.SCANNERS)
        yield (
            visits.Case(
                person=person,
                scanner=replace(scanner.SCANNERS[machine], **changes),
                anatomy_stage=tumour,
                seed=f"{seed}/{number}",
                drop=0 if number < (patients + 1) // 2 else 1,
                folder=_folder(person, number),
                file_name=_FILE_NAMES[number % len(_FILE_NAMES)],
                traits=traits,
            ),
            stage,
        )
    number = patients
    for fault in faulty:
        if fault not in faults.FAULTS:
            raise ValueError(f"{fault}: no such fault; there are {', '.join(faults.FAULTS)}")
        person = people.invent(number, rng)
        stage = STAGES[number % len(STAGES)]
        case = visits.Case(
            person=person,
            scanner=scanner.small(scanner.SCANNERS[number % len(scanner.SCANNERS)]),
            anatomy_stage=stage,
            seed=f"{seed}/{number}",
            drop=number % 2,
            folder=_folder(person, number),
            file_name=_FILE_NAMES[number % len(_FILE_NAMES)],
            fault=fault,
        )
        yield case, stage
        number += 1
        if fault == "label_of_two_patients":
            other = people.invent(number, rng)
            namesake = replace(other, patient_id=person.patient_id)
            yield (
                replace(case, person=namesake, seed=f"{seed}/{number}", folder=_folder(namesake, number)),
                stage,
            )
            number += 1


def _peculiar(number: int, person: people.Person) -> tuple[people.Person, frozenset[str], dict[str, Any]]:
    """Return the peculiarities of an eligible patient: they do no harm, and each is there once in 14."""
    changes: dict[str, Any] = {}
    traits: set[str] = set()
    match number % 14:
        case 0:
            person, traits = people.renamed(person, "umlauts"), {"localizer", "rtstruct", "overlay"}
        case 1:
            traits = {"dicomdir", "screenshot"}
        case 2:
            person, changes = (
                people.renamed(person, "utf8"),
                {"transfer_syntax": scanner.COMPRESSED["jpegls"]},
            )
        case 3:
            person = replace(people.renamed(person, "cyrillic"), patient_id=f"00{person.mrn[-6:]}")
            changes = {"transfer_syntax": scanner.COMPRESSED["rle"]}
        case 4:
            traits = {"late_seg"}
        case 5:
            changes = {"transfer_syntax": scanner.COMPRESSED["jpeg2000"]}
        case 6:
            person = replace(people.renamed(person, "japanese"), age_years=93, birth_date="19301014")
        case 7:
            traits = {"two_segments", "rtstruct"}
        case 8:
            namesake = people.invent(1, np.random.default_rng(0)).family
            person, traits = replace(person, name=f"{namesake}^{person.given}"), {"truncated_localizer"}
        case 9:
            traits = {"fractional"}
        case 10:
            traits = {"trailing_blank"}
        case 11:
            traits = {"claims_deidentified"}
        case 12:
            changes = {"in_plane_deg": 4.0}
        case 13:
            changes = {"oblique_deg": 3.0, "in_plane_deg": -2.0}
    return person, frozenset(traits), changes


_FILE_NAMES = ("IM{:06d}", "CT.{:04d}.dcm", "{:05d}", "CT_{:04d}.IMA", "I{:04d}.DCM")
_EXPECTED_COLUMNS = ("patient", "issuer", "eligible", "reason", "after_first_drop", "stage", "tumour_ml")


def _folder(person: people.Person, number: int) -> str:
    """Return a folder as hospitals name them: after the patient, a number, or what the workstation did."""
    styles = (f"{person.family}_{person.given}", f"{person.patient_id}/CT", f"CD_{number:04d}/PT000000")
    return styles[number % len(styles)]


def _expected(case: visits.Case, stage: str, tumour_ml: float) -> dict[str, object]:
    if case.drop == 1:
        after_first = "absent"
    elif case.fault:
        after_first = f"no: {case.fault}"
    else:
        after_first = "no: no_seg" if "late_seg" in case.traits else "yes"
    return {
        "patient": case.person.patient_id,
        "issuer": case.person.hospital.issuer,
        "eligible": "no" if case.fault else "yes",
        "reason": case.fault or "",
        "after_first_drop": after_first,
        "stage": stage,
        "tumour_ml": f"{tumour_ml:.3f}",
    }


def _write_odd_files(drops: tuple[Path, Path], cases: list[visits.Case]) -> None:
    """Leave between the patients what exports leave: notes, an empty file, copies."""
    patient, other = cases[0], cases[-1]
    unsorted_ = drops[0] / "unsorted"
    unsorted_.mkdir()
    note = f"CT of {patient.person.title} copied, call {patient.person.phone} when done\r\n"
    files.write_text(unsorted_ / "README_transfer.txt", note)
    files.write_bytes(unsorted_ / "IM_EMPTY", b"")
    files.write_text(drops[1] / "export.log", f"exported {other.person.name} {other.person.patient_id}\n")
    home = drops[patient.drop] / patient.folder
    shutil.copyfile(home / patient.file_name.format(5), unsorted_ / "kopie_von_IM.dcm")
    (drops[1] / "resent").mkdir()
    shutil.copyfile(home / patient.file_name.format(6), drops[1] / "resent/IM_again")


def _write_csv(path: Path, columns: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
