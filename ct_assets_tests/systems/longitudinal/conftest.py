"""A small cohort of follow-up phantoms, registered by the truth, with its crops."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ct_assets import tables
from ct_assets.phantom import followup
from ct_assets.settings.longitudinal import PatchSettings
from ct_assets.systems.longitudinal import build_tables, patch_store
from ct_assets.tables import longitudinal as schemas

SETTINGS = PatchSettings(shape=(12, 12, 12), spacing_mm=(2.0, 2.0, 2.0))


@dataclass(frozen=True)
class Cohort:
    root: Path
    patients: list[followup.Patient]
    cut: patch_store.Written

    @property
    def patches(self) -> Path:
        return self.root / "patches"


def registered_by_truth(root: Path, patients: list[followup.Patient]) -> None:
    rows = []
    for patient in patients:
        first = patient.exams[0]
        for exam in patient.exams:
            # The first exam is the body's own place, so its matrix is the identity.
            matrix = np.array(exam.matrix)
            rows.append(
                dict.fromkeys(schemas.Registrations.column_names())
                | {
                    "pid": patient.pid,
                    "exam_id": exam.exam_id,
                    "fixed_exam_id": first.exam_id,
                    "status": "reference" if exam is first else "ok",
                    "reasons": [],
                    "matrix_fixed_to_moving": matrix.ravel().tolist(),
                    "matrix_moving_to_fixed": np.linalg.inv(matrix).ravel().tolist(),
                }
            )
    frame = pl.DataFrame(rows, schema=tables.dtypes(schemas.Registrations), orient="row")
    tables.write_table(root / "registrations/registrations.parquet", frame, schemas.Registrations)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Cohort:
    root = tmp_path_factory.mktemp("followup")
    patients = [
        followup.Patient.invent(3, number, split, nodules=5)
        for number, split in enumerate(("train", "train", "val", "test"))
    ]
    written = followup.write(root / "phantom", patients)
    build_tables.run(written.exams, written.tracking, root / "tables")
    registered_by_truth(root, patients)
    cut = patch_store.write(
        root / "tables",
        root / "registrations",
        written.tracking,
        written.images,
        root / "patches",
        SETTINGS,
    )
    return Cohort(root, patients, cut)
