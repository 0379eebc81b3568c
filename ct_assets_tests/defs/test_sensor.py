"""The sensor: one request for each delivery, from its marker alone."""

import dagster as dg
import pytest

from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.operations.sensors import BATCHES_PER_TICK, inbox_sensor
from ct_assets.intake.batches import ingest


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(instance, platform, cursor=None) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    return inbox_sensor(context)


def test_an_empty_inbox_requests_nothing(instance, platform):
    assert isinstance(tick(instance, platform), dg.SkipReason)


def test_a_complete_batch_is_requested_with_a_partition_of_its_own(instance, platform, drop):
    batch = ingest(drop, platform.layout, platform.key)
    result = tick(instance, platform)
    assert [request.partition_key for request in result.run_requests] == [batch]
    assert [request.partition_keys for request in result.dynamic_partitions_requests] == [[batch]]


def test_the_same_delivery_keeps_its_run_key(instance, platform, drop):
    ingest(drop, platform.layout, platform.key)
    first, second = tick(instance, platform), tick(instance, platform)
    assert [request.run_key for request in first.run_requests] == [
        request.run_key for request in second.run_requests
    ]


def test_a_corrected_delivery_under_the_same_name_is_a_new_request(instance, platform, drop):
    ingest(drop, platform.layout, platform.key, name="week-1")
    before = tick(instance, platform).run_requests[0]
    (drop / "study/second").write_bytes(b"second, corrected")
    ingest(drop, platform.layout, platform.key, name="week-1")
    after = tick(instance, platform).run_requests[0]
    assert before.partition_key == after.partition_key == "week-1"
    assert before.run_key != after.run_key


def test_a_known_partition_is_not_added_again(instance, platform, drop):
    batch = ingest(drop, platform.layout, platform.key)
    instance.add_dynamic_partitions(BATCH, [batch])
    assert tick(instance, platform).dynamic_partitions_requests == []


def test_a_folder_without_a_marker_waits(instance, platform, drop):
    platform.layout.make_restricted()
    arriving = platform.layout.inbox / "arriving"
    arriving.mkdir()
    (arriving / "IM1").write_bytes(b"half of a")
    result = tick(instance, platform)
    assert result.run_requests == []
    assert '"moving": {"' in result.cursor


def test_nothing_of_the_hospitals_folder_names_reaches_dagster(instance, platform, drop):
    named = drop.rename(drop.with_name("Doe_Jane_1960"))
    ingest(named, platform.layout, platform.key)
    result = tick(instance, platform)
    assert "Doe" not in f"{result.run_requests} {result.cursor}"


def test_one_tick_requests_a_bounded_number_of_runs(instance, platform, tmp_path):
    for number in range(BATCHES_PER_TICK + 2):
        folder = tmp_path / f"drop{number}"
        folder.mkdir()
        (folder / "file").write_text(str(number))
        ingest(folder, platform.layout, platform.key)
    first = tick(instance, platform)
    assert len(first.run_requests) == BATCHES_PER_TICK
    second = tick(instance, platform, first.cursor)
    assert len(second.run_requests) == 2, "twenty batches whose runs fail do not hold up those behind them"
    third = tick(instance, platform, second.cursor)
    assert isinstance(third, dg.SkipReason)


def test_the_same_delivery_made_once_more_is_requested_again(instance, platform, drop):
    batch = ingest(drop, platform.layout, platform.key)
    first = tick(instance, platform)
    assert ingest(drop, platform.layout, platform.key) == batch
    second = tick(instance, platform, first.cursor)
    assert [request.partition_key for request in second.run_requests] == [batch]
    assert second.run_requests[0].run_key != first.run_requests[0].run_key
