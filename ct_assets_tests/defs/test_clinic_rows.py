"""A changed table of the clinic: which batches are de-identified again, and that the daemon notices."""

import dagster as dg
import pytest

from ct_assets import tables
from ct_assets.defs.engine import clinic_rows
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.provenance import DATA_VERSION_TAG, INPUT_DIGEST, Records, input_digest, is_current
from ct_assets.defs.operations.sensors import clinic_table_sensor
from ct_assets.settings import load_settings
from ct_assets.tables.deid import PatientMap

TABLE = "PatientID,Surname,Stage\n0071,Quenneville,II\nQX44,Larkspindle,I\n"
DEID = ("deid_dicom", "deid_audit", "uid_map")


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "clinic.csv"
    path.write_text(TABLE)
    monkeypatch.setenv("CT_ASSETS_LABELS", str(path))
    return path


@pytest.fixture
def platform(settings, table):
    """A platform whose first batch is of patient 0071, whose second is of QX44."""
    platform = Platform(load_settings())
    for batch, number in (("week-1", "0071"), ("week-2", " qx44 ")):
        path = platform.layout.deid_paths(batch).patient_map
        path.parent.mkdir(parents=True)
        row = {"old_patient_id": number, "issuer": "", "new_patient_id": f"P{number}", "shift_days": 3}
        tables.write_table(path, tables.frame([row], PatientMap), PatientMap)
    return platform


@pytest.fixture
def instance(platform, monkeypatch):
    """Everything was made from what its inputs are."""
    monkeypatch.setattr("ct_assets.defs.engine.outputs.difference", lambda *_: None)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(BATCH, ["week-1", "week-2"])
        for name, partitions in (*((name, ("week-1", "week-2")) for name in DEID), ("labels", (None,))):
            for partition in partitions:
                digest = input_digest(Records(instance), platform, name, partition)
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(
                        asset_key=name,
                        partition=partition,
                        metadata={INPUT_DIGEST: digest},
                        tags={DATA_VERSION_TAG: "1"},
                    )
                )
        yield instance


def tick(instance, platform, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    result = clinic_table_sensor(context)
    if isinstance(result, dg.SkipReason):
        return [], cursor
    return [(request.job_name, request.partition_key) for request in result.run_requests], result.cursor


@pytest.mark.parametrize(
    ("changed", "requested"),
    [
        (TABLE, []),
        (
            TABLE.replace("Larkspindle", "Larkspindel"),
            [("deidentify_again", "week-2"), ("labels_refresh", None)],
        ),
        (TABLE.replace("0071,Q", "0071,O"), [("deidentify_again", "week-1"), ("labels_refresh", None)]),
        (TABLE.replace("II", "III"), [("labels_refresh", None)]),  # a stage is no identifier
        (TABLE + "9,Somebody new,I\n", [("labels_refresh", None)]),
        ("PatientID,Surname,Stage\nQX44,Larkspindle,I\n0071,Quenneville,II\n", [("labels_refresh", None)]),
    ],
)
def test_only_batches_whose_patients_rows_changed_are_done_again(
    platform, instance, table, changed, requested
):
    table.write_text(changed)
    assert tick(instance, platform)[0] == requested


def test_a_table_is_looked_at_once(platform, instance, table):
    requests, cursor = tick(instance, platform)
    assert requests == []
    table.write_text(TABLE.replace("Larkspindle", "Larkspindel"))
    requests, later = tick(instance, platform, cursor)
    assert len(requests) == 2
    assert later != cursor
    assert tick(instance, platform, later) == ([], later)


def test_a_row_without_a_number_counts_for_every_batch(platform, table):
    before = [clinic_rows.of_batch(platform, batch) for batch in ("week-1", "week-2")]
    table.write_text(TABLE + ",Nobody known,\n")
    after = [clinic_rows.of_batch(platform, batch) for batch in ("week-1", "week-2")]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_digests_say_nothing_without_the_key(platform, table, monkeypatch):
    known = clinic_rows.of_batch(platform, "week-1"), clinic_rows.of_table(platform)
    monkeypatch.setenv("CT_ASSETS_DEID_KEY", "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2)
    other = Platform(platform.settings)
    monkeypatch.setattr("ct_assets.identity.key.hold_to_record", lambda *_: None)
    assert not {clinic_rows.of_batch(other, "week-1"), clinic_rows.of_table(other)} & set(known)


def test_before_the_first_run_there_is_nothing_to_compare(platform):
    assert clinic_rows.of_batch(platform, "week-3") is None


def test_a_machine_without_the_key_deems_no_batch_stale(platform, instance, table, monkeypatch):
    monkeypatch.delenv("CT_ASSETS_DEID_KEY", raising=False)
    keyless = platform.settings.model_copy(
        update={"deid": platform.settings.deid.model_copy(update={"key_file": None})}
    )
    table.write_text(TABLE.replace("Larkspindle", "Larkspindel"))
    assert tick(instance, Platform(keyless)) == ([], None)
    for name in DEID:
        assert is_current(Records(instance), Platform(keyless), name, "week-2")
