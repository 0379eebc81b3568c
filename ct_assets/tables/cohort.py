"""Schemas of labels, eligibility, manifest, split ledger; a line a column, units in names."""

import dataframely as dy
import polars as pl


class Labels(dy.Schema):
    """A row a patient of any batch, labelled or not; further columns as `labels.keep` declares them."""

    patient_id = dy.String(primary_key=True)
    """Pseudonym."""
    stage = dy.String(nullable=True)
    """One of `labels.stages`; null where the table tells none, an unknown one, or two."""
    age_years = dy.Int32(nullable=True, min=0, max=120)
    """Ages above `labels.max_age_years` are written as that age."""
    sex = dy.String(nullable=True)
    """As PatientSex (0010,0040): `M`, `F`, `O`."""
    site = dy.String(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of what could not be used of this patient's rows."""
    rows = dy.Int64(min=0)
    """Rows of the clinic's table that speak of the patient."""
    tnm_edition = dy.String(nullable=True)
    label_version = dy.String()


class LabelReport(dy.Schema):
    """A row a row of the clinic's table: what became of it. No value, no pseudonym (restricted all the same)."""

    row = dy.Int64(primary_key=True, min=1)
    """Records counted from 1, the header not counted."""
    line = dy.Int64(min=1)
    """Line of the file on which the record ends, the header being line 1."""
    disposition = dy.String(check=lambda column: column.is_in(["used", "repeated", "unused"]))
    """`used`; `repeated`: says the same as an earlier row; `unused`: speaks of nobody, or not clearly."""
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of `ct_assets.reasons.cohort`; also of single values of a used row."""


class Eligibility(dy.Schema):
    """A row a patient; after these a boolean column for each condition of the query, then its facts."""

    patient_id = dy.String(primary_key=True)
    """Pseudonym."""
    is_eligible = dy.Bool()
    """Every condition is met."""
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of the conditions that are not met, in the order of the query, with the audit's own codes."""

    @dy.rule()
    def reasons_exclude(cls) -> pl.Expr:
        """Who is eligible has no reason against it, and who is not has one."""
        return cls.is_eligible.col == (cls.reasons.col.list.len() == 0)


class CaseNumbers(dy.Schema):
    """A row a patient who was ever eligible; rows are only ever added."""

    number = dy.Int64(primary_key=True, min=0)
    """0, 1, 2, … without a gap, for ever."""
    case_id = dy.String(regex=r"^case_[0-9]{4,}$")
    patient_id = dy.String()
    """Pseudonym; of a withdrawn patient the tombstone of the split ledger."""
    is_withdrawn = dy.Bool()


class CohortManifest(dy.Schema):
    """A row a case that training may use."""

    case_id = dy.String(primary_key=True, regex=r"^case_[0-9]{4,}$")
    patient_id = dy.String()
    """Pseudonym; one case a patient."""
    stage = dy.String()
    site = dy.String(nullable=True)
    age_years = dy.Int32(nullable=True)
    sex = dy.String(nullable=True)
    split = dy.String(check=lambda column: column.is_in(["train", "test"]))
    fold = dy.Int64(nullable=True, min=0)
    """The fold that validates the case; null in the test set."""
    image = dy.String()
    """The NIfTI image, relative to the data root."""
    label = dy.String()
    """The NIfTI mask, relative to the data root."""
    image_series_id = dy.String()
    """The principal CT series (`tables.audits.SeriesAudit.series_id`)."""
    image_series_instance_uid = dy.String()
    mask_sop_instance_uid = dy.String()
    tumour_segment_number = dy.Int64(nullable=True)
    """The segment of the SEG that is the tumour."""
    input_digest = dy.String()
    """Digest of what the audits say of series and mask: changes when the case must be made anew."""
    label_version = dy.String()
    tnm_edition = dy.String(nullable=True)


class SplitLedger(dy.Schema):
    """A row a patient, in the order of their coming; rows are only ever added."""

    row = dy.Int64(primary_key=True)
    """0, 1, 2, … without a gap."""
    patient_id = dy.String()
    """Pseudonym; of a withdrawn patient a keyed digest of a domain of its own."""
    split = dy.String(check=lambda column: column.is_in(["train", "test"]))
    """`train` or `test`."""
    fold = dy.Int64(nullable=True, min=0)
    """The fold that validates the patient; null in the test set and for sites that came later."""
    why = dy.String()
    """How the place was found."""
    stratum = dy.String()
    """The stratum at that time, after the collapse of rare cells."""
    stage = dy.String(nullable=True)
    """The label at that time; a corrected one changes nothing here and is reported."""
    site = dy.String(nullable=True)
    scans = dy.Int64()
    """Scans of the patient at that time."""
    is_withdrawn = dy.Bool()
    settings = dy.String()
    """The frozen settings as JSON."""
    settings_digest = dy.String()
    added_at = dy.Datetime(time_zone="UTC")
    row_digest = dy.String()
    """Covers this row and the digest of the row before."""

    @dy.rule()
    def test_has_no_fold(cls) -> pl.Expr:
        """A test patient is validated in no fold."""
        return cls.fold.col.is_null() | (cls.split.col == "train")
