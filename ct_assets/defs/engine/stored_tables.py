"""The tables that assets store: which asset writes each, where, under which schema.

Belongs here: the list by which `Inputs.table` reads and `defs.engine.schemas` checks. The schemas are in
`ct_assets.tables`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import polars as pl

from ct_assets import tables
from ct_assets.defs.engine.partitions import fold_of
from ct_assets.layout import Layout
from ct_assets.tables.audits import MaskAudit, MaskDecisions, MetadataAudit, PatientAudit, SeriesAudit
from ct_assets.tables.brain import BrainFeatures, BrainSplit
from ct_assets.tables.cohort import CaseNumbers, CohortManifest, Eligibility, LabelReport, Labels, SplitLedger
from ct_assets.tables.folds import FoldVolumes
from ct_assets.tables.volumes import NiftiDigests


@dataclass(frozen=True)
class StoredTable:
    """One table, or one a partition."""

    asset: str
    schema: type[dy.Schema]
    path: Callable[[Layout, str], Path]
    """Of layout and partition ("*": of all)."""
    is_open: bool = False
    """The site's own columns stand after the declared ones."""

    def read(self, layout: Layout, partition: str | None, *, site_columns: bool = False) -> pl.DataFrame:
        """Read the table; the site's own columns where they are asked for."""
        path = self.path(layout, partition or "")
        return pl.read_parquet(path) if site_columns else tables.read_table(path, self.schema)

    def paths(self, layout: Layout) -> list[Path]:
        """Return the files of all partitions that there are; of a table without partitions its file in any case."""
        path = self.path(layout, "*")
        if "*" not in path.parts:
            return [path]
        return sorted(layout.root.glob(path.relative_to(layout.root).as_posix()))


TABLES: dict[str, StoredTable] = {
    "metadata_audit": StoredTable(
        "metadata_audit",
        MetadataAudit,
        lambda layout, batch: layout.metadata_audits / batch / "metadata_audit.parquet",
    ),
    "series": StoredTable(
        "ct_prepro_audit", SeriesAudit, lambda layout, _: layout.ct_prepro_dir / "series.parquet"
    ),
    "masks": StoredTable(
        "ct_prepro_audit", MaskAudit, lambda layout, _: layout.ct_prepro_dir / "masks.parquet"
    ),
    "mask_decisions": StoredTable(
        "ct_prepro_audit", MaskDecisions, lambda layout, _: layout.ct_prepro_dir / "mask_decisions.parquet"
    ),
    "patients": StoredTable(
        "ct_prepro_audit", PatientAudit, lambda layout, _: layout.ct_prepro_dir / "patients.parquet"
    ),
    "labels": StoredTable("labels", Labels, lambda layout, _: layout.labels, is_open=True),
    "label_report": StoredTable("labels", LabelReport, lambda layout, _: layout.label_report),
    "eligibility": StoredTable(
        "eligibility", Eligibility, lambda layout, _: layout.eligibility, is_open=True
    ),
    "splits": StoredTable("splits", SplitLedger, lambda layout, _: layout.splits),
    "cohort_manifest": StoredTable(
        "cohort_manifest", CohortManifest, lambda layout, _: layout.cohort_manifest
    ),
    "case_numbers": StoredTable("cohort_manifest", CaseNumbers, lambda layout, _: layout.case_numbers),
    "nifti_digests": StoredTable("nifti_cohort", NiftiDigests, lambda layout, _: layout.nifti_digests),
    "fold_volumes": StoredTable(
        "fold_volumes", FoldVolumes, lambda layout, key: layout.folds / fold_of(key) / "volumes.parquet"
    ),
    "brain_features": StoredTable(
        "brain_features", BrainFeatures, lambda layout, _: layout.brain / "features.parquet"
    ),
    "brain_split": StoredTable("brain_splits", BrainSplit, lambda layout, _: layout.brain / "split.parquet"),
    "brain_ledger": StoredTable(
        "brain_splits", SplitLedger, lambda layout, _: layout.brain / "splits.parquet"
    ),
}
