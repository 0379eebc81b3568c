"""The figure of a step's memory sees what the step and its workers hold."""

import subprocess
import sys
import time

import dagster as dg
import numpy as np

from ct_assets.defs.assets import intake
from ct_assets.defs.engine import memory
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.intake.batches import ingest

HELD_MB = 200


def test_the_peak_stays_after_the_memory_was_given_back(monkeypatch):
    monkeypatch.setattr(memory, "SECONDS_BETWEEN_SAMPLES", 0.01)
    with memory.watched() as peak:
        before = peak.sample()
        held = np.ones(HELD_MB * 1_000_000, np.uint8)
        time.sleep(0.2)
        del held
        assert peak.sample() > before + 0.8 * HELD_MB


def test_workers_count():
    peak = memory.PeakMemory()
    before = peak.sample()
    script = f"held = b'1' * {HELD_MB * 1_000_000}; print('holding', flush=True); input()"
    worker = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout.readline() == "holding\n"
        assert peak.sample() > before + 0.9 * HELD_MB
    finally:
        worker.communicate("\n")


def test_a_materialization_records_its_seconds_and_its_peak(platform, drop):
    batch = ingest(drop, platform.layout, platform.key)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(BATCH, [batch])
        done = dg.materialize(
            [intake.dicom_batch], instance=instance, partition_key=batch, resources={"platform": platform}
        )
    (made,) = done.asset_materializations_for_node("dicom_batch")
    assert made.metadata["seconds"].value >= 0
    assert 50 < made.metadata["peak_memory_mb"].value < 5000
