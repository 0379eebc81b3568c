"""Token cache assets of head CT and MR: studies, cache study by study, statistics, preview. Wiring only.

A person adds studies below the data set's `raw` folder and materializes `neuro_studies`, which makes a
partition of each usable one.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ct_assets import files
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.partitions import STUDY
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link_or_path, running, table_metadata

if TYPE_CHECKING:
    from ct_assets.systems.neuro.cache import CacheManager
    from ct_assets.systems.neuro.metadata import DatasetMetadata


def open_cache(platform: Platform) -> "CacheManager":
    """Return the data set's cache. Raises `UsageError` before its studies were listed."""
    from ct_assets.systems.neuro.cache import CacheManager

    return CacheManager(platform.neuro_dir, platform.settings.neuro.preprocessing)


@dg.asset(
    **asset_arguments("neuro_studies"),
    check_specs=[dg.AssetCheckSpec("every_folder_is_listed", asset="neuro_studies", blocking=True)],
)
def neuro_studies(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Every study of head CT or MR with its modality and images; what cannot be used is listed with reasons."""
    from ct_assets.systems.neuro.metadata import DatasetMetadata
    from ct_assets.systems.neuro.modes import read_modes
    from ct_assets.systems.neuro.statistics import study_table

    recorder = Recorder(context, platform)
    data_dir, settings = platform.neuro_dir, platform.settings.neuro
    with running(context):
        modes = read_modes(settings.modes or data_dir / "modes.csv")
        metadata = DatasetMetadata.from_directory(data_dir, modes, dataset_name=settings.dataset_name)
        metadata.save(data_dir / "metadata.json")
        metadata = open_cache(platform).mark_current()
        table = study_table(metadata)
    known = set(context.instance.get_dynamic_partitions(STUDY))
    context.instance.add_dynamic_partitions(STUDY, sorted(set(metadata.studies) - known))
    for gone in sorted(known - set(metadata.studies)):
        context.instance.delete_dynamic_partition(STUDY, gone)
    folders = {path.name for path in (data_dir / "raw").iterdir() if path.is_dir()}
    lost = folders - set(table["study"])
    return recorder.result(
        "neuro_studies",
        files.digest_of([_listed(metadata), metadata.invalid_studies]),
        {
            "studies": len(metadata.studies),
            "invalid_studies": counts(
                Counter(code for info in metadata.invalid_studies.values() for code in info["reasons"])
            ),
            **table_metadata(table),
            "file": link_or_path(platform, data_dir / "metadata.json"),
        },
        [
            dg.AssetCheckResult(
                passed=not lost, check_name="every_folder_is_listed", metadata={"folders_lost": len(lost)}
            )
        ],
    )


def _listed(metadata: "DatasetMetadata") -> dict[str, Any]:
    """Return what the metadata says of studies, without what the cache has made of them."""
    return {
        study: [
            info["mode"],
            {image: [entry["filename"], entry.get("series")] for image, entry in info["images"].items()},
        ]
        for study, info in metadata.studies.items()
    }


@dg.asset(
    **asset_arguments("neuro_cache"),
    check_specs=[dg.AssetCheckSpec("every_image_is_cached_or_refused", asset="neuro_cache", blocking=True)],
)
def neuro_cache(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One study's images resampled, windowed and stored; what holds already is not made again."""
    study = context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        cache = open_cache(platform)
        report = cache.build_cache(platform.workers, studies=[study])
    records = {image: cache.entry(study, image).record() for image in cache.metadata.studies[study]["images"]}
    refused = {outcome.image for outcome in report.refused}
    lost = [image for image, record in records.items() if record is None and image not in refused]
    return recorder.result(
        "neuro_cache",
        files.digest_of({image: record and record["key"] for image, record in records.items()}),
        {
            "made": report.count("made"),
            "current": report.count("current"),
            "refused": counts(Counter(code for outcome in report.refused for code in outcome.reasons)),
            "warnings": counts(Counter(code for outcome in report.outcomes for code in outcome.warnings)),
        },
        [
            dg.AssetCheckResult(
                passed=not lost,
                check_name="every_image_is_cached_or_refused",
                metadata={"images_lost": len(lost)},
            )
        ],
    )


@dg.asset(**asset_arguments("neuro_statistics"))
def neuro_statistics(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A row an image, and mean and deviation of each stream's foreground, as training may use them."""
    from ct_assets.systems.neuro.statistics import summarise

    recorder = Recorder(context, platform)
    with running(context):
        statistics = summarise(open_cache(platform))
        folder = platform.neuro_dir / "processed"
        statistics.write(folder)
    return recorder.result(
        "neuro_statistics",
        statistics.digest,
        {
            "images": counts(Counter(statistics.images["status"])),
            **table_metadata(statistics.streams),
            "file": link_or_path(platform, folder / "images.parquet"),
        },
    )


@dg.asset(**asset_arguments("neuro_preview"))
def neuro_preview(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A page with every cached image's middle slice, its tokens and its background, and what was refused."""
    from ct_assets.systems.neuro import preview
    from ct_assets.systems.neuro.statistics import study_table, summarise

    recorder = Recorder(context, platform)
    folder: Path = platform.layout.reports / "neuro"
    with running(context):
        cache = open_cache(platform)
        statistics = summarise(cache)
        page = preview.write(cache, study_table(cache.metadata), statistics, folder)
    return recorder.result(
        "neuro_preview",
        files.sha256_file(page),
        {"images": statistics.images.height, "page": link_or_path(platform, page)},
    )
