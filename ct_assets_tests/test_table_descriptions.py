"""What the UI and the page of tables say of a column is what stands beside its declaration."""

import polars as pl

from ct_assets.defs.engine.stage import table_metadata
from ct_assets.tables.cohort import Labels
from ct_assets.tables.deid import PatientMap
from ct_assets.tables.descriptions import column_descriptions


def test_docstrings_and_comments_describe_columns():
    assert column_descriptions(Labels)["sex"] == "As PatientSex (0010,0040): `M`, `F`, `O`."
    assert "site" not in column_descriptions(Labels)
    assert column_descriptions(PatientMap)["new_patient_id"] == "the pseudonym"


def test_the_column_schema_of_a_materialization_has_them():
    table = pl.DataFrame({"patient_id": ["P1"], "kept": [1]})
    columns = table_metadata(table, Labels)["dagster/column_schema"].columns
    assert [(column.name, column.description) for column in columns] == [
        ("patient_id", "Pseudonym."),
        ("kept", None),
    ]
