"""How the platform grows, in simulation: `python benchmarks/scale.py [--instances 10000 100000 1000000]`.

First a made header index (100 instances a patient, 20 patients a batch) goes through everything that judges
the whole cohort: series grouping, audits, labels, eligibility, splits, manifest, status. Each size runs in
a process of its own; the peak of memory is each step's, with the interpreter and what the steps before
left. Then Dagster with many batch partitions (`--batches`): the sensor's tick, the automation tick, what
`ct-assets run` asks, and the queries of the UI's pages against a real webserver. No pixels anywhere: work
on those follows what is new. `slope` is the exponent between the two largest sizes: 1 is in proportion.
"""

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psutil

KEY_HEX = "00112233445566778899aabbccddeeff" * 2
SLICES, INSTANCES_A_PATIENT, PATIENTS_A_BATCH = 98, 100, 20
FILES_A_BATCH = 500
"""In the markers of the simulated batches of Dagster: 2,000 of them are a million instances."""
WAITING = 20
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ("I", "II", "IIIa", "IIIb")
FLOATS, STRINGS, INTS = pl.List(pl.Float64), pl.List(pl.String), pl.List(pl.Int64)

EVERY = {
    "is_dicom": True,
    "problems": pl.lit([], STRINGS),
    "oddities": pl.lit([], STRINGS),
    "file_size_bytes": 527_000,
    "transfer_syntax_uid": "1.2.840.10008.1.2.1",
    "study_date": date(2024, 1, 1),
    "rows": 512,
    "columns": 512,
    "samples_per_pixel": 1,
    "photometric_interpretation": "MONOCHROME2",
    "pixel_representation": 0,
    "has_pixel_data": True,
    "manufacturer": "SIEMENS",
    "manufacturer_model_name": "SOMATOM",
}
IMAGE = {
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "modality": "CT",
    "acquisition_number": 1,
    "acquisition_date": date(2024, 1, 1),
    "acquisition_time_s": 36_000.0,
    "series_description": "Thorax",
    "body_part_examined": "CHEST",
    "image_orientation_patient": pl.lit([1.0, 0, 0, 0, 1.0, 0], FLOATS),
    "pixel_spacing_mm": pl.lit([0.9765625, 0.9765625], FLOATS),
    "slice_thickness_mm": 3.0,
    "bits_allocated": 16,
    "bits_stored": 12,
    "rescale_slope": 1.0,
    "rescale_intercept": -1024.0,
    "rescale_type": "HU",
    "pixel_data_bytes": 524_288,
    "kvp_kv": 120.0,
    "convolution_kernel": "B31f",
}
SEG = {
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
    "modality": "SEG",
    "image_type": pl.lit(["DERIVED", "PRIMARY"], STRINGS),
    "bits_allocated": 1,
    "number_of_frames": SLICES,
    "segmentation_type": "BINARY",
    "segments_overlap": "NO",
    "has_overlap": False,
    "frame_orientations": pl.lit([1.0, 0, 0, 0, 1.0, 0], FLOATS),
    "frame_pixel_spacings_mm": pl.lit([0.9765625, 0.9765625], FLOATS),
    "frame_segment_numbers": pl.lit([1] * SLICES, INTS),
    "segment_numbers": pl.lit([1], INTS),
    "segment_labels": pl.lit(["GTV-1"], STRINGS),
    "segment_types": pl.lit(["SCT:108369006 Neoplasm"], STRINGS),
    "segment_categories": pl.lit(["SCT:49755003 Morphologically Abnormal Structure"], STRINGS),
    "segment_algorithms": pl.lit(["MANUAL"], STRINGS),
    "segment_voxels": pl.lit([2_000], INTS),
}


def index_of(batch: str, patients: pl.DataFrame) -> pl.DataFrame:
    """Return a batch's header index: for each patient a CT of 98 slices, a localizer and a SEG on the CT.

    Every 50th patient lacks a slice, every 25th the SEG.
    """
    number = pl.col("number")
    slices = patients.join(pl.DataFrame({"slice": range(SLICES)}), how="cross")
    ct = _with_uids(slices.filter(~((number % 50 == 7) & (pl.col("slice") == 40))), 1).with_columns(
        **_values(EVERY | IMAGE),
        image_type=pl.lit(["ORIGINAL", "PRIMARY", "AXIAL"], STRINGS),
        instance_number=pl.col("slice") + 1,
        image_position_patient_mm=pl.concat_list(
            pl.lit(-250.0), pl.lit(-250.0), pl.col("slice") * 3.0 - 150.0
        ),
    )
    alone = patients.with_columns(slice=pl.lit(0, pl.Int64))
    localizer = _with_uids(alone, 2).with_columns(
        **_values(EVERY | IMAGE), image_type=pl.lit(["ORIGINAL", "PRIMARY", "LOCALIZER"], STRINGS)
    )
    planes = [value for at in range(SLICES) for value in (-250.0, -250.0, at * 3.0 - 150.0)]
    seg = _with_uids(alone.filter(number % 25 != 3), 3).with_columns(
        **_values(EVERY | SEG),
        frame_positions_mm=pl.lit(planes, FLOATS),
        referenced_series_instance_uids=pl.concat_list(_uid("10000")),
        referenced_sop_instance_uids=pl.concat_list([_uid(f"1{1 + at:04d}") for at in range(SLICES)]),
        referenced_frame_of_reference_uids=pl.concat_list("frame_of_reference_uid"),
    )
    path = pl.concat_str(
        pl.lit(batch), "patient_id", "study_instance_uid", "series_instance_uid", "sop_instance_uid",
        separator="/",
    )  # fmt: skip
    parts = [_typed(part.with_columns(path=path + ".dcm")) for part in (ct, localizer, seg)]
    return pl.concat(parts).sort("path")


def _uid(tail: str | pl.Expr) -> pl.Expr:
    shown = pl.col("number").cast(pl.String).str.zfill(20)
    return pl.concat_str(pl.lit("2.25.17"), shown, tail if isinstance(tail, pl.Expr) else pl.lit(tail))


def _with_uids(rows: pl.DataFrame, series: int) -> pl.DataFrame:
    of_slice = (series * 10_000 + 1 + pl.col("slice")).cast(pl.String)
    return rows.with_columns(
        study_instance_uid=_uid("90000"),
        series_instance_uid=_uid(f"{series}0000"),
        frame_of_reference_uid=_uid("80000"),
        sop_instance_uid=_uid(of_slice),
    )


def _values(values: dict[str, Any]) -> dict[str, pl.Expr]:
    return {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in values.items()}


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    from ct_assets import tables
    from ct_assets.tables.audits import MetadataAudit

    dtypes = tables.dtypes(MetadataAudit)
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in dtypes.items() if name not in rows.columns]
    return rows.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in dtypes.items())


def make_cohort(root: Path, instances: int) -> None:
    """Write what the batches' own assets leave: header indexes, crosswalks, summaries; and the clinic's table."""
    from ct_assets.identity.key import SecretKey
    from ct_assets.identity.pseudonyms import pseudonym
    from ct_assets.layout import Layout

    key, layout = SecretKey.from_hex(KEY_HEX), Layout(root)
    count = instances // INSTANCES_A_PATIENT
    raw = [f"MRN{number:07d}" for number in range(count)]
    everyone = pl.DataFrame(
        {"number": range(count), "raw": raw, "patient_id": [pseudonym(key, one, "") for one in raw]}
    )
    for start in range(0, count, PATIENTS_A_BATCH):
        batch, some = f"b{start // PATIENTS_A_BATCH:016x}", everyone.slice(start, PATIENTS_A_BATCH)
        path = layout.metadata_audit(batch)
        path.parent.mkdir(parents=True)
        table = index_of(batch, some)
        table.write_parquet(path, compression="zstd")
        paths = layout.deid_paths(batch)
        paths.uid_dir.mkdir(parents=True)
        some.select(
            pl.col("raw").alias("old_patient_id"),
            pl.lit("").alias("issuer"),
            pl.col("patient_id").alias("new_patient_id"),
            pl.lit(-100, pl.Int32).alias("shift_days"),
        ).write_parquet(paths.patient_map)
        paths.audit.parent.mkdir(parents=True)
        told = {"patients": some.height, "released": table.height, "quarantined": 0, "rejected": 0}
        paths.audit.with_name("summary.json").write_text(json.dumps(told | {"reasons": {}}))
    everyone.select(
        pl.col("raw").alias("PatientID"),
        (40 + pl.col("number") % 45).alias("Age"),
        pl.when(pl.col("number") % 2 == 0).then(pl.lit("F")).otherwise(pl.lit("M")).alias("Sex"),
        pl.format("H{}", pl.col("number") % 6).alias("Site"),
        (pl.col("number") % 4).replace_strict(dict(enumerate(STAGES))).alias("Overall Stage"),
    ).write_csv(root / "clinic.csv")


# ---- the tables, step by step


class Steps:
    """Times steps and their peaks of memory (VmHWM of proc(5), reset before each), of this process or another."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def step(self, name: str, pids: Sequence[int] = ()) -> Iterator[None]:
        processes = [psutil.Process(pid) for pid in pids or [os.getpid()]]
        for process in processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        began, cpu = time.perf_counter(), _cpu_s(processes)
        yield
        wall, cpu = time.perf_counter() - began, _cpu_s(processes) - cpu
        status = "".join(Path(f"/proc/{process.pid}/status").read_text() for process in processes)
        peak = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        self.rows.append({"step": name, "wall_s": wall, "cpu_s": cpu, "peak_gb": peak / 1e6})
        print(f"  {name:<44}{wall:9.2f} s{cpu:9.2f} cpu s{peak / 1e6:8.2f} GB", file=sys.stderr, flush=True)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(used.user + used.system for used in (process.cpu_times() for process in processes))


def settings_over(root: Path) -> Any:
    from ct_assets.settings import load_settings
    from ct_assets.settings.load import PROJECT_ROOT

    environ = {"CT_ASSETS_DATA": str(root), "CT_ASSETS_LABELS": str(root / "clinic.csv")}
    return load_settings(PROJECT_ROOT / "configs/local.yaml", environ)


def tables_of(root: Path) -> list[dict[str, Any]]:
    """Run everything that judges the whole cohort once, as the assets do."""
    from ct_assets import tables
    from ct_assets.cohort import ct_prepro_audit, eligibility, labels, manifest, splits, splits_checks
    from ct_assets.cohort.metadata_audit import read_cohort, read_identities
    from ct_assets.defs.assets.cohort import read_patient_maps
    from ct_assets.identity.key import SecretKey
    from ct_assets.reports import status
    from ct_assets.tables.cohort import SplitLedger

    settings, steps = settings_over(root), Steps()
    layout = settings.layout
    with steps.step("read the header index of all batches"):
        index = read_cohort(layout)
    with steps.step("series, geometry, masks: ct_prepro_audit"):
        audit = ct_prepro_audit.build(index, layout.released, settings.audit, settings.conversion.masks)
    with steps.step("write the audit, its JSON and digest"):
        audit.write(layout.ct_prepro_dir)
        assert audit.digest
    found = {"patients": audit.patients, "series": audit.series, "masks": audit.masks}
    del audit, index
    with steps.step("labels from the clinic's table"):
        labelled, report = labels.build(
            settings.labels, SecretKey.from_hex(KEY_HEX), read_patient_maps(layout)
        )
        labels.write(labelled, report, layout, settings.labels)
    with steps.step("eligibility.sql"):
        judged = eligibility.judge(
            {"labels": pl.read_parquet(layout.labels), "label_report": report, **found}, settings.eligibility
        )
        eligibility.write(judged, layout)
    with steps.step("splits: a new ledger of all patients"):
        wanted = manifest.patients_to_split(judged, labelled)
        ledger = splits.extend(None, wanted, settings.splits, NOW)
        tables.write_table(layout.splits, ledger, SplitLedger)
    with steps.step("splits: the last hundredth comes later"):
        before = splits.extend(None, wanted.head(wanted.height * 99 // 100), settings.splits, NOW)
        splits.extend(before, wanted, settings.splits, NOW)
    with steps.step("check: no identity in two splits"):
        identities = read_identities(layout, splits_checks.IDENTITIES)
        assert splits_checks.leakage(ledger, identities).is_empty()
        del identities
    with steps.step("cohort manifest"):
        built = manifest.build(eligibility=judged, labels=labelled, splits=ledger, layout=layout, **found)
        manifest.write(built, layout)
    with steps.step("status"):
        told = status.collect(settings)
    assert told.patients == len(found["patients"])
    assert 0 < told.eligible < told.patients
    return steps.rows


def measure_tables(instances: int, workplace: Path) -> list[dict[str, Any]]:
    """Make a cohort and run its tables in processes of their own; remove it."""
    root = workplace / f"cohort-{instances}"
    for what in ("make", "tables"):
        command = [sys.executable, __file__, "--inside", what, str(root), str(instances)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    shutil.rmtree(root)
    return json.loads(done.stdout)


# ---- Dagster


def make_batches(root: Path, count: int) -> list[str]:
    """Write the markers of registered batches, and of a few that wait in the inbox; return the names."""
    from ct_assets.intake.markers import Entry, Marker
    from ct_assets.layout import Layout

    layout, names = Layout(root), [f"b{number:016x}" for number in range(count + WAITING)]
    for number, name in enumerate(names):
        folder = layout.raw_batch(name) if number < count else layout.inbox_batch(name)
        folder.mkdir(parents=True)
        digest = f"{number:064x}"
        Marker(tuple(Entry(f"CT/IM{at:04d}", 527_000, digest) for at in range(FILES_A_BATCH))).write(folder)
    return names[:count]


def measure_dagster(count: int, workplace: Path) -> list[dict[str, Any]]:
    """Measure an instance in which every batch has been through the graph once."""
    import dagster as dg

    from ct_assets.defs.engine import provenance
    from ct_assets.defs.engine.build import build_definitions
    from ct_assets.defs.engine.graph import GRAPH
    from ct_assets.defs.engine.instance import open_instance
    from ct_assets.defs.engine.partitions import BATCH
    from ct_assets.defs.engine.pipeline import Pipeline, batch_assets
    from ct_assets.defs.engine.platform import Platform
    from ct_assets.defs.operations.sensors import inbox_sensor

    os.environ["CT_ASSETS_DEID_KEY"] = KEY_HEX
    root = workplace / "dagster"
    names = make_batches(root, count)
    settings, steps = settings_over(root), Steps()
    definitions = build_definitions(settings)
    cohort = [name for name, node in GRAPH.items() if node.partition is None and node.automated]
    with open_instance(settings) as instance:
        with steps.step(f"(record {count * len(batch_assets())} materializations)"):
            instance.add_dynamic_partitions(BATCH, names)
            for name in [*batch_assets(), *cohort]:
                for key in names if name in batch_assets() else [None]:
                    instance.report_runless_asset_event(_made(dg, name, key))
        pipeline, platform = Pipeline(settings, instance), Platform(settings)

        def tick() -> Any:
            return inbox_sensor(dg.build_sensor_context(instance=instance), platform=platform)

        with steps.step(f"sensor tick, {WAITING} batches wait"):
            assert len(tick().run_requests) == WAITING
        shutil.rmtree(settings.layout.inbox)
        with steps.step("sensor tick, nothing waits"):
            tick()
        with steps.step("automation tick, the first"):
            first = dg.evaluate_automation_conditions(definitions, instance)
        with steps.step("automation tick, nothing new"):
            dg.evaluate_automation_conditions(definitions, instance, cursor=first.cursor)
        instance.report_runless_asset_event(_made(dg, "metadata_audit", names[0], "another content"))
        with steps.step("automation tick, one batch new"):
            dg.evaluate_automation_conditions(definitions, instance, cursor=first.cursor)
        with steps.step("`ct-assets run`: what is stale among batches"):
            for key in provenance.partition_keys(instance, platform, batch_assets()[0]):
                pipeline.stale(batch_assets(), key)
        with steps.step("`ct-assets run`: what is stale in the cohort"):
            pipeline.stale(cohort, None)
        with webserver(settings) as (ask, pids):
            for what, query in QUERIES.items():
                with steps.step(f"UI: {what}", pids):
                    ask(query)
    return steps.rows


def _made(dg: Any, name: str, key: str | None, content: str = "content") -> Any:
    return dg.AssetMaterialization(
        name,
        partition=key,
        metadata={"input_digest": "none", "seconds": 1.0, "dagster/row_count": 2000},
        tags={"dagster/data_version": f"{content} of {key}"},
    )


QUERIES = {
    "asset graph with all states": """{ assetNodes { assetKey { path } groupName partitionStats {
        numMaterialized numFailed numPartitions } assetChecksOrError { ... on AssetChecks { checks { name } } } } }""",
    "partitions of one asset with states": """{ assetNodeOrError(assetKey: {path: ["metadata_audit"]}) {
        ... on AssetNode { partitionKeysByDimension { partitionKeys }
        assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions
        failedPartitions unmaterializedPartitions } } } } }""",
    "one partition's last materialization": """{ assetNodeOrError(assetKey: {path: ["metadata_audit"]}) {
        ... on AssetNode { latestMaterializationByPartition(partitions: ["b0000000000000007"]) {
        timestamp metadataEntries { label } } } } }""",
    "stale status of every asset": "{ assetNodes { assetKey { path } staleStatus } }",
    "list of runs": "{ runsOrError(limit: 25) { ... on Runs { results { runId status } } } }",
}


@contextmanager
def webserver(settings: Any) -> Iterator[tuple[Callable[[str], Any], list[int]]]:
    """Run the UI's webserver on loopback; yield what posts a GraphQL query to it, and its processes."""
    from ct_assets.settings.load import PROJECT_ROOT

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {
        "DAGSTER_HOME": str(settings.layout.dagster_home),
        "CT_ASSETS_DATA": str(settings.data_root),
    }
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, "--workspace", str(PROJECT_ROOT / "workspace.yaml")],
            env=environment, cwd=PROJECT_ROOT, stdout=log, stderr=log,
        )  # fmt: skip

        def ask(query: str) -> Any:
            request = urllib.request.Request(
                f"{url}/graphql",
                json.dumps({"query": query}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=600) as answer:
                content = json.load(answer)
            assert "errors" not in content, content["errors"]
            return content["data"]

        try:
            for _ in range(240):
                try:
                    ask("{ version }")
                    break
                except OSError:
                    time.sleep(0.5)
            ask("{ assetNodes { groupName } }")
            yield ask, [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
        finally:
            server.terminate()
            server.wait(60)


# ---- the command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--instances", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batches", type=int, nargs="*", default=[200, 2_000])
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        what, root, size = chosen.inside
        if what == "make":
            make_cohort(Path(root), int(size))
        else:
            rows = tables_of(Path(root)) if what == "tables" else measure_dagster(int(size), Path(root))
            print(json.dumps(rows))
        return
    # Dagster's sqlite files wait for the disk with each event: in memory, if there is such a folder.
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=in_memory) as quick:
        for unit, sizes in (("instances", chosen.instances), ("batches", chosen.batches)):
            measured = {}
            for size in sorted(sizes):
                print(f"{size} {unit}", file=sys.stderr)
                if unit == "instances":
                    measured[size] = measure_tables(size, Path(folder))
                else:
                    command = [sys.executable, __file__, "--inside", "dagster", f"{quick}/{size}", str(size)]
                    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                    measured[size] = json.loads(done.stdout.splitlines()[-1])
            if measured:
                show(measured, unit)


def show(measured: dict[int, list[dict[str, Any]]], unit: str) -> None:
    """Print seconds (of the clock, of the processor) and peak of memory by size, and the two largest's slopes."""
    sizes = list(measured)
    print(f"\n{unit:<46}" + "".join(f"{size:>27,}" for size in sizes) + f"{'slope: s':>12}{'GB':>6}")
    for at, row in enumerate(measured[sizes[-1]]):
        cells = [measured[size][at] for size in sizes]
        told = "".join(
            f"{cell['wall_s']:>8.2f} s{cell['cpu_s']:>8.2f} cpu{cell['peak_gb']:>5.2f}GB" for cell in cells
        )
        slopes = "".join(_slope(sizes, cells, what) for what in ("cpu_s", "peak_gb"))
        print(f"{row['step']:<46}{told}    {slopes}")
    totals = {size: sum(row["cpu_s"] for row in rows) for size, rows in measured.items()}
    print(f"{'together':<46}" + "".join(f"{totals[size]:>18.2f} cpu{'':>7}" for size in sizes))


def _slope(sizes: list[int], cells: list[dict[str, Any]], what: str) -> str:
    if len(sizes) < 2:
        return ""
    ratio = max(cells[-1][what], 1e-2) / max(cells[-2][what], 1e-2)
    return f"{math.log(ratio) / math.log(sizes[-1] / sizes[-2]):>6.2f}"


if __name__ == "__main__":
    main()
