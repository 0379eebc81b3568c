"""What a run with nothing to do costs on an unchanged platform.

    python benchmarks/idle_run.py FOLDER [CASES]

Makes a platform of small files under FOLDER (20 batches; a case has 100 released instances, a NIfTI pair and pages; five
folds), records every asset up to training as materialized from what is there, with its outputs, and times
`ct-assets run`: processor seconds and seconds by the clock. Sizes do not matter: unchanged files are not read.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any

FOLDS, BATCHES, INSTANCES = 5, 20, 100


def write_files(root: Path, cases: int) -> list[str]:
    """Write the files that the assets would have written; return the names of the batches."""
    batches = [f"b{number:03d}" for number in range(BATCHES)]
    paths = [
        f"audits/{kind}/{batch}/{name}"
        for batch in batches
        for kind, name in (
            ("deid", "deid_audit.jsonl"),
            ("uid", "uid_map.parquet"),
            ("metadata", "metadata_audit.parquet"),
        )
    ]
    paths += [f"audits/ct_prepro/{name}.parquet" for name in ("series", "masks", "patients")]
    paths += [f"cohort/{name}.parquet" for name in ("labels", "eligibility", "cohort_manifest")]
    paths += [
        f"folds/{fold}/{name}"
        for fold in range(FOLDS)
        for name in ("plan.json", "volumes.parquet", "drift.json")
    ]
    for case in range(cases):
        name, batch = f"case_{case:04d}", batches[case % BATCHES]
        paths += [
            f"nifti/imagesTr/{name}.nii.gz",
            f"nifti/labelsTr/{name}.nii.gz",
            f"nifti/cases/{name}.json",
        ]
        paths += [f"reports/cases/{name}{suffix}" for suffix in (".html", ".png", "_small.png")]
        paths += [f"deid/dicom_output/{batch}/p{case}/1.2/1.3/{at}.dcm" for at in range(INSTANCES)]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return batches


def record(settings: Any, batches: list[str]) -> None:
    """Record every asset up to training as materialized now."""
    import dagster as dg

    from ct_assets.defs.engine import outputs, provenance
    from ct_assets.defs.engine.graph import GRAPH
    from ct_assets.defs.engine.instance import open_instance
    from ct_assets.defs.engine.partitions import BATCH
    from ct_assets.defs.engine.platform import Platform

    platform = Platform(settings)
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions(BATCH, batches)
        for name, node in GRAPH.items():
            if not (node.automated or node.partition == "batch"):
                continue
            records = provenance.Records(instance, ahead=True)
            for key in provenance.partition_keys(instance, platform, name):
                digest = provenance.input_digest(records, platform, name, key)
                outputs.record(platform, name, key)
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(
                        name,
                        partition=key,
                        metadata={provenance.INPUT_DIGEST: digest},
                        tags={provenance.DATA_VERSION_TAG: f"{name} {key}"},
                    )
                )


def main() -> None:
    """Make the platform and time the run."""
    from ct_assets.defs.engine.launch import run_platform
    from ct_assets.settings import Settings
    from ct_assets.settings.load import PROJECT_ROOT
    from ct_assets.settings.platform import DeidLocation, ExecutionSettings

    folder, cases = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    folder.mkdir(parents=True)
    (folder / "key").write_text("00112233445566778899aabbccddeeff" * 2)
    (folder / "key").chmod(0o600)
    settings = Settings(
        data_root=folder / "data",
        deid=DeidLocation(profile=PROJECT_ROOT / "configs/deid.yaml", key_file=folder / "key"),
        execution=ExecutionSettings(workers=1),
    )
    settings = settings.model_copy(
        update={
            "eligibility": settings.eligibility.model_copy(
                update={"query": PROJECT_ROOT / "configs/eligibility.sql"}
            )
        }
    )
    batches = write_files(settings.data_root, cases)
    record(settings, batches)
    for _ in range(2):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        outcome = run_platform(settings)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        files = sum(1 for path in settings.data_root.rglob("*") if path.is_file())
        print(
            f"{cases} cases, {files} files: {len(outcome.made)} assets made, {cpu:.1f} s of processor, "
            f"{time.perf_counter() - began:.1f} s by the clock"
        )


if __name__ == "__main__":
    main()
