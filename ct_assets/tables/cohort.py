"""Schemas of labels, eligibility, manifest, split ledger; a line a column, units in names."""

import dataframely as dy
import polars as pl


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
