"""Settings of the cohort: the clinic's labels and the conditions of eligibility."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ct_assets.settings.base import Section

CORE_COLUMNS = (
    "patient_id",
    "stage",
    "age_years",
    "sex",
    "site",
    "reasons",
    "rows",
    "tnm_edition",
    "label_version",
)
"""Columns that `labels.parquet` always has; a kept column may not take their names."""


class KeptColumn(Section):
    """A further column of the clinic's table that enters `labels.parquet` (`labels.keep.<name>:`).

    There is no kind for free text: what is not declared is not kept.
    """

    column: str
    """Header of the column in the clinic's table."""
    kind: Literal["category", "whole_number", "number"] = "category"
    values: dict[str, tuple[str, ...]] = {}
    """Of a category: each value with its further spellings. Others become null and are reported."""
    minimum: float | None = None
    """Of a number: lesser ones become null and are reported."""
    maximum: float | None = None
    """Of a number: greater ones become null and are reported."""

    @model_validator(mode="after")
    def _values_fit_the_kind(self) -> Self:
        if (self.kind == "category") != bool(self.values):
            raise ValueError("a category needs `values`, a number has none")
        return self


class LabelSettings(Section):
    """The clinic's table (`labels:`), and the declared rules by which its values are read.

    Headers and values are compared after trimming, joining inner white space, and case folding. Nothing is
    guessed: what no rule covers is null, and the row is reported.
    """

    csv: Path | None = None
    """The clinic's CSV, keyed by the raw patient ID."""
    encoding: Literal["utf-8", "cp1252", "latin-1", "utf-16"] = "utf-8"
    """A byte order mark is allowed in any case."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    missing: tuple[str, ...] = ("", "na", "n/a", "nan", "none", "null", "unknown", "-", "?")
    """Spellings of "not told"."""
    patient_id_column: str = "PatientID"
    stage_column: str = "Overall Stage"
    stages: tuple[str, ...] = ("I", "II", "IIIa", "IIIb")
    """The classes of the stage, in order."""
    spellings: dict[str, tuple[str, ...]] = {
        "I": ("1", "IA", "IB", "IA1", "IA2", "IA3"),
        "II": ("2", "IIA", "IIB"),
        "IIIa": ("3a",),
        "IIIb": ("3b",),
    }
    """How the clinic's stages map to the classes: each class with the spellings that mean it besides its own
    name. A leading word "stage" is dropped. A plain "III" means none of IIIa and IIIb, and is not guessed."""
    tnm_edition: str | None = None
    """The edition of the TNM classification by which the clinic staged; recorded with each label."""
    version: str = "1"
    """The version of the labels; recorded with each label."""
    age_column: str | None = "Age"
    max_age_years: int = Field(default=89, ge=1, le=120)
    """Higher ages are kept as this age, as in the released images."""
    sex_column: str | None = "Sex"
    sexes: dict[str, tuple[str, ...]] = {"M": ("male",), "F": ("female",), "O": ("other",)}
    """Each sex as PatientSex (0010,0040) writes it, with its further spellings."""
    site_column: str | None = "Site"
    site_names: Literal["keyed", "as_is"] = "keyed"
    """Sites as keyed codes (the institution is no longer in the images either), or as the clinic names them."""
    keep: dict[str, KeptColumn] = {}
    """Further columns, by the name that they get."""

    @model_validator(mode="after")
    def _vocabulary_is_unambiguous(self) -> Self:
        if len(set(self.stages)) < max(2, len(self.stages)):
            raise ValueError("stages: name two or more different classes")
        if unknown := sorted(set(self.spellings) - set(self.stages)):
            raise ValueError(f"spellings: {', '.join(unknown)} is none of stages ({', '.join(self.stages)})")
        seen: dict[str, str] = {}
        for stage in self.stages:
            for spelling in {one.casefold() for one in (stage, *self.spellings.get(stage, ()))}:
                if seen.setdefault(spelling, stage) != stage:
                    raise ValueError(f"spellings: {spelling!r} means both {seen[spelling]} and {stage}")
        if taken := sorted(set(self.keep) & set(CORE_COLUMNS)):
            raise ValueError(f"keep: {', '.join(taken)} is a column that labels always have")
        return self


class EligibilitySettings(Section):
    """Who may enter the cohort (`eligibility:`)."""

    query: Path = Path("eligibility.sql")
    """The SQL that judges each patient; limits such as the thickest slice allowed stand in it."""
