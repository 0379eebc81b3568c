"""A check for every table: what lies on disk matches its declared schema.

Belongs here: which asset writes which tables. The schemas are in `ct_assets.tables`; a table that breaks its
schema is refused when it is written, so these checks notice what was changed, or written by an older version,
since then.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ct_assets.defs.engine.platform import Platform
from ct_assets.layout import Layout
from ct_assets.tables.audits import MaskAudit, MaskDecisions, MetadataAudit, PatientAudit, SeriesAudit
from ct_assets.tables.brain import BrainFeatures, BrainSplit
from ct_assets.tables.cohort import CaseNumbers, CohortManifest, Eligibility, LabelReport, Labels, SplitLedger
from ct_assets.tables.folds import FoldVolumes
from ct_assets.tables.io import TableError, validate
from ct_assets.tables.volumes import NiftiDigests

TABLES: dict[str, Callable[[Layout], Iterator[tuple[Path, Any]]]] = {
    "metadata_audit": lambda layout: (
        (path, MetadataAudit) for path in (layout.root / "audits/metadata").glob("*/metadata_audit.parquet")
    ),
    "ct_prepro_audit": lambda layout: iter(
        (
            (layout.ct_prepro_dir / "series.parquet", SeriesAudit),
            (layout.ct_prepro_dir / "masks.parquet", MaskAudit),
            (layout.ct_prepro_dir / "mask_decisions.parquet", MaskDecisions),
            (layout.ct_prepro_dir / "patients.parquet", PatientAudit),
        )
    ),
    "labels": lambda layout: iter(((layout.labels, Labels), (layout.label_report, LabelReport))),
    "eligibility": lambda layout: iter(((layout.eligibility, Eligibility),)),
    "splits": lambda layout: iter(((layout.splits, SplitLedger),)),
    "cohort_manifest": lambda layout: iter(
        ((layout.cohort_manifest, CohortManifest), (layout.case_numbers, CaseNumbers))
    ),
    "nifti_cohort": lambda layout: iter(((layout.nifti_digests, NiftiDigests),)),
    "brain_features": lambda layout: iter(((layout.brain / "features.parquet", BrainFeatures),)),
    "brain_splits": lambda layout: iter(
        ((layout.brain / "split.parquet", BrainSplit), (layout.brain / "splits.parquet", SplitLedger))
    ),
    "fold_volumes": lambda layout: ((path, FoldVolumes) for path in layout.folds.glob("*/volumes.parquet")),
}


def _check_of(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name="tables_match_their_schemas",
        blocking=True,
        description="Every column as declared, every rule kept.",
    )
    def check(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        """Read each table and hold it against its schema."""
        faults = []
        for path, schema in TABLES[asset](platform.layout):
            try:
                # The site's own conditions and kept columns stand after the declared ones.
                is_open = schema in (Eligibility, Labels)
                validate(path.name, pl.read_parquet(path), schema, open_ended=is_open)
            except TableError as error:
                faults.append(str(error))
            except (OSError, pl.exceptions.PolarsError):
                faults.append(f"{path.name}: cannot be read")
        return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults})

    return check


checks = [_check_of(asset) for asset in TABLES]
