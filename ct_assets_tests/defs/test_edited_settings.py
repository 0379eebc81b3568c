"""Rules edited while the daemon runs wake what they decide; one partition is never done twice at once."""

import dagster as dg
import pytest

from ct_assets.defs.engine import other_runs, provenance
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.instance import PARTITION_TAG
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.instance_facts import stale_lines
from ct_assets.settings import load_settings
from ct_assets_tests.defs.platforms import settings_of, write_settings


@pytest.fixture
def platform(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_ASSETS_DEID_KEY", "00112233445566778899aabbccddeeff" * 2)
    query = tmp_path / "eligibility.sql"
    query.write_text("SELECT 1")
    write_settings(tmp_path, tmp_path / "labels.csv", eligibility={"query": str(query)})
    return Platform(settings_of(tmp_path))


@pytest.fixture
def instance(platform):
    with dg.DagsterInstance.ephemeral() as instance:
        records = provenance.Records(instance)
        for name in ("labels", "eligibility", "splits"):
            metadata = {
                provenance.INPUT_DIGEST: provenance.input_digest(records, platform, name, None),
                provenance.INPUT_PARTS: dg.MetadataValue.json(
                    provenance.InputState.of(records, platform, name, None).digest_of_each()
                ),
            }
            tags = {provenance.DATA_VERSION_TAG: name}
            instance.report_runless_asset_event(dg.AssetMaterialization(name, metadata=metadata, tags=tags))
        yield instance


def tick(instance, platform, cursor):
    sensor = build_definitions(platform.settings).resolve_sensor_def("settings_sensor")
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    result = sensor(context)
    asked = [
        (
            request.job_name,
            request.partition_key,
            [key.to_user_string() for key in request.asset_selection or ()],
        )
        for request in result.run_requests or ()
    ]
    return asked, result.cursor


def test_an_edited_query_wakes_eligibility_alone_and_once(platform, instance):
    asked, cursor = tick(instance, platform, None)
    assert asked == []
    platform.settings.eligibility.query.write_text("SELECT 2")
    asked, later = tick(instance, platform, cursor)
    assert asked == [("cohort_refresh", None, ["eligibility"])]
    assert tick(instance, platform, later) == ([], later)


def test_an_edited_setting_wakes_what_it_decides(platform, instance, tmp_path):
    _, cursor = tick(instance, platform, None)
    write_settings(tmp_path, tmp_path / "labels.csv", splits={"test_share": 0.25})
    edited = Platform(load_settings(tmp_path / "settings.yaml", environ={}))
    asked, _ = tick(instance, edited, cursor)
    assert "splits" in asked[0][2]


def test_status_names_what_is_stale_and_why(platform, instance):
    assert stale_lines(instance, platform) == []
    platform.settings.eligibility.query.write_text("SELECT 2")
    assert stale_lines(instance, platform) == [
        "eligibility: files outside the graph changed; `ct-assets run` makes it again"
    ]


class TestOtherRuns:
    @pytest.fixture
    def run(self, instance):
        selection = {dg.AssetKey(name) for name in ("deid_dicom", "deid_audit", "uid_map")}
        return instance.create_run_for_job(
            build_definitions().resolve_implicit_global_asset_job_def(),
            asset_selection=selection,
            tags={PARTITION_TAG: "week-1"},
            status=dg.DagsterRunStatus.STARTED,
        )

    def test_a_run_at_the_same_partition_is_seen(self, instance, run):
        assert other_runs.at_work(instance, ["deid_dicom"], "week-1") == [run.run_id]

    @pytest.mark.parametrize(("name", "key"), [("deid_dicom", "week-2"), ("metadata_audit", "week-1")])
    def test_other_work_is_none(self, instance, run, name, key):
        assert other_runs.at_work(instance, [name], key) == []

    def test_it_is_waited_for_until_it_ends(self, instance, run, platform, monkeypatch):
        monkeypatch.setattr(
            other_runs.time,
            "sleep",
            lambda _: instance.report_run_canceled(instance.get_run_by_id(run.run_id)),
        )
        wait = other_runs.wait_for_others
        assert wait(instance, platform.layout, ["deid_dicom"], "week-1")
        assert not wait(instance, platform.layout, ["deid_dicom"], "week-1")
