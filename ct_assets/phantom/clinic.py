"""The clinic's table of the phantom cohort: as untidy as such tables are.

Belongs here: `raw_manifest.csv`, with its faults. Does not: reading it (`cohort.labels`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ct_assets import files
from ct_assets.phantom.people import Person

HEADER = "PatientID,Age,Sex,Site,Histology,T,N,M,Overall Stage,Remarks"
_TNM = {"I": (1, 0), "II": (2, 1), "IIIa": (3, 2), "IIIb": (4, 3)}
_HISTOLOGY = ("adenocarcinoma", "squamous cell carcinoma", "large cell", "nos", "na")


def write_table(path: Path, rows: Sequence[tuple[Person, str, str | None]], rng: np.random.Generator) -> None:
    """Write the table of (patient, stage, fault): UTF-8 with a byte order mark, CRLF, rows shuffled.

    Every fifth stage is in lower case, every seventh has blanks around it, one row stands twice, ages and
    sexes are written in several ways, remarks name patients.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for number, (person, stage, fault) in enumerate(rows):
        if fault == "no_label" or person.patient_id in seen:
            continue
        seen.add(person.patient_id)
        written = {4: stage.lower(), 6: f" {stage} "}.get(number % 7, stage)
        written = {"missing_stage": "NA", "unknown_stage": "II-III"}.get(fault or "", written)
        line = _line(person, written, number, rng)
        lines.append(line)
        if number == 1:
            lines.append(line)
        if fault == "contradictory_stages":
            lines.append(_line(person, "IIIb" if stage != "IIIb" else "I", number, rng))
    lines.append("WMR9999999,64,F,WMR,adenocarcinoma,2,0,0,I,")
    lines.append("")
    order = rng.permutation(len(lines))
    content = "\r\n".join([HEADER, *(lines[index] for index in order)]) + "\r\n"
    files.write_bytes(path, b"\xef\xbb\xbf" + content.encode())


def _line(person: Person, stage: str, number: int, rng: np.random.Generator) -> str:
    t, n = _TNM.get(stage.strip(), ("", ""))
    age = {3: "", 5: "na", 9: f"{person.age_years}Y"}.get(number % 11, str(person.age_years))
    sex = {2: "Female" if person.sex == "F" else "Male", 8: person.sex.lower()}.get(number % 12, person.sex)
    remark = f'"letter to {person.title}, {person.phone}"' if number % 6 == 3 else ""
    histology = str(rng.choice(_HISTOLOGY))
    blank = " " if number % 9 == 7 else ""
    cells = (person.patient_id + blank, age, sex, person.hospital.site, histology, t, n, 0, stage, remark)
    return ",".join(str(cell) for cell in cells)
