"""Both audits of one DICOM tree, as the command `audit` makes them.

Belongs here: the stage on plain folders. The platform does the same in two assets, by batch and by cohort.
"""

from pathlib import Path

from ct_assets import progress
from ct_assets.cohort import ct_prepro_audit, metadata_audit
from ct_assets.cohort.ct_prepro_audit import CtPreproAudit
from ct_assets.errors import UsageError
from ct_assets.settings import Settings


def audit_tree(dicom_dir: Path, output_dir: Path, settings: Settings, *, workers: int) -> CtPreproAudit:
    """Write `audits/metadata/metadata_audit.parquet`, `audits/ct_prepro/` below `output_dir`.

    Raises `UsageError` where `dicom_dir` is no folder or holds no file.
    """
    if dicom_dir.is_dir() and not any(path.is_file() for path in dicom_dir.rglob("*")):
        raise UsageError(f"{dicom_dir}: there is no file in it")
    timings = progress.Timings()
    with timings.step("headers") as step:
        table = metadata_audit.write(
            dicom_dir,
            output_dir / "audits/metadata/metadata_audit.parquet",
            root=dicom_dir,
            workers=workers,
        )
        step.items = table.height
    with timings.step("ct_prepro") as step:
        folder = output_dir / "audits/ct_prepro"
        audit = ct_prepro_audit.build(
            table,
            dicom_dir,
            settings.audit,
            settings.conversion.masks,
            before=ct_prepro_audit.remembered(folder),
            workers=workers,
        )
        audit.write(folder)
        step.items = audit.series.height
    timings.write(output_dir)
    decisions = dict(audit.series.filter(kind="ct").group_by("decision").len().iter_rows())
    told = ", ".join(f"{count} {decision}" for decision, count in sorted(decisions.items()))
    progress.say(f"{table.height} files, {audit.patients.height} patients; CT series: {told or 'none'}")
    return audit
