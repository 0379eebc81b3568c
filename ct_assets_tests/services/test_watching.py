"""Who is told what, when something failed or waits: receivers on loopback, the real graph, the real sensor."""

import http.server
import json
import re
import threading
import time

import dagster as dg
import pytest

from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations import alerts
from ct_assets.intake.batches import ingest
from ct_assets.reports import notify
from ct_assets.reports.alerts import Alert, AlertBook
from ct_assets.settings.alerts import MailSettings
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

HOUR = 3600.0


class Webhook:
    """A receiver that keeps what it gets; `status` 503 plays one that is away."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.status = 200
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    receiver.got.append(body)
                self.send_response(receiver.status)
                if receiver.status in (301, 302):
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def alerts(self) -> list[dict]:
        return [alert for body in self.got for alert in body["alerts"]]


@pytest.fixture
def webhook():
    made = Webhook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def mailbox():
    """A mail server on loopback and what it was given."""
    controllers = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed here")

    class Box:
        def __init__(self) -> None:
            self.got: list[tuple[list[str], str]] = []

        async def handle_DATA(self, _server, _session, envelope):
            self.got.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    box = Box()
    controller = controllers.Controller(box, hostname="127.0.0.1", port=servers.free_port())
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


@pytest.fixture
def watched(tmp_path, webhook, mailbox):
    """A platform that tells both receivers."""
    mail = {"server": "127.0.0.1", "port": mailbox.port, "starttls": False, "to": ["data@example.org"]}
    platforms.write_settings(
        tmp_path,
        tmp_path / "labels.csv",
        alerts={"webhook": webhook.url, "mail": mail, "ui_url": "https://ct.example.org", "stuck_minutes": 30,
                "stale_hours": 2, "delivery_days": 7},
    )  # fmt: skip
    platform = Platform(platforms.settings_of(tmp_path))
    platform.layout.make_restricted()
    with open_instance(platform.settings) as instance:
        yield platform, instance


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "DOE_JANE_1960"
    folder.mkdir()
    (folder / "MRN0012345.dcm").write_bytes(b"one")
    return folder


def tick(platform, instance, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    return alerts.watch(context)


def look(platform, instance, *, later_hours=0.0, behind=None):
    return alerts.look(instance, platform, behind or {}, now=time.time() + later_hours * HOUR)


def run_batch(platform, instance, batch, assets=("dicom_batch",)):
    instance.add_dynamic_partitions(BATCH, [batch])
    job = build_definitions(platform.settings).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in assets], partition_key=batch, instance=instance,
        raise_on_error=False,
    )  # fmt: skip


def altered_batch(platform, drop):
    batch = ingest(drop, platform.layout, platform.key)
    (platform.layout.inbox_batch(batch) / "MRN0012345.dcm").write_bytes(b"two")
    return batch


class TestARunThatFailed:
    def test_is_told_with_batch_stage_reason_and_next_step(self, watched, drop, webhook, mailbox):
        platform, instance = watched
        batch = altered_batch(platform, drop)
        run = run_batch(platform, instance, batch)
        tick(platform, instance)
        alert = next(alert for alert in webhook.alerts() if alert["kind"] == "run failed")
        assert (alert["stage"], alert["partition"], alert["reason"]) == ("dicom_batch", batch, "file_altered")
        assert alert["next_step"] == "Deliver the batch again."
        assert alert["url"] == f"https://ct.example.org/runs/{run.run_id}"
        (to, mail), *_ = mailbox.got
        assert to == ["data@example.org"]
        for word in (batch, "dicom_batch", "file_altered", "Deliver the batch again.", run.run_id):
            assert word in mail
        assert re.search(r"^Subject: .*run failed", mail, re.MULTILINE)

    def test_nothing_of_a_patient_or_of_a_path_leaves(self, watched, drop, webhook, mailbox):
        platform, instance = watched
        run_batch(platform, instance, altered_batch(platform, drop))
        tick(platform, instance)
        for text in (json.dumps(webhook.got), str(mailbox.got)):
            for secret in ("DOE", "JANE", "MRN", str(platform.layout.root)):
                assert secret not in text

    def test_is_told_once(self, watched, drop, webhook, mailbox):
        platform, instance = watched
        run_batch(platform, instance, altered_batch(platform, drop))
        first = tick(platform, instance)
        tick(platform, instance, first.cursor)
        assert len([alert for alert in webhook.alerts() if alert["kind"] == "run failed"]) == 1
        assert len(mailbox.got) == 1

    def test_is_told_later_to_a_receiver_that_was_away(self, watched, drop, webhook, mailbox):
        platform, instance = watched
        run_batch(platform, instance, altered_batch(platform, drop))
        webhook.status = 503
        result = tick(platform, instance)
        assert "webhook is away" in result.skip_reason.skip_message
        assert webhook.got == []
        assert len(mailbox.got) == 1, "one receiver does not wait for the other"
        webhook.status = 200
        tick(platform, instance, result.cursor)
        assert [alert["kind"] for alert in webhook.alerts()] == ["run failed"]
        assert len(mailbox.got) == 1

    def test_is_not_sent_where_an_answer_points_to(self, watched, drop, webhook):
        platform, instance = watched
        run_batch(platform, instance, altered_batch(platform, drop))
        webhook.status = 302
        assert "webhook is away" in tick(platform, instance).skip_reason.skip_message

    def test_is_not_mailed_in_the_clear_where_the_settings_want_encryption(self, mailbox):
        """By default mail is encrypted; a server that cannot is one that is away."""
        mail = MailSettings(server="127.0.0.1", port=mailbox.port, to=("data@example.org",))
        with pytest.raises(OSError, match="STARTTLS"):
            notify.send_mail(mail, [Alert("stale", "labels", None, "asset_stale")], None, None)
        assert mailbox.got == []

    def test_a_partition_with_a_name_in_it_is_not_told(self, watched, webhook):
        platform, instance = watched
        instance.add_dynamic_partitions(BATCH, ["Doe, Jane"])
        job = build_definitions(platform.settings).resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            asset_selection=[dg.AssetKey("dicom_batch")], partition_key="Doe, Jane", instance=instance,
            raise_on_error=False,
        )  # fmt: skip
        tick(platform, instance)
        assert [alert["partition"] for alert in webhook.alerts()] == ["(a name that is not opaque)"]


class TestACheckThatFailed:
    def test_is_told_by_its_weight(self, watched, webhook):
        platform, instance = watched
        for name, blocking, severity in (
            ("leak_scan_finds_nothing", True, dg.AssetCheckSeverity.ERROR),
            ("references_resolve_within_the_batch", False, dg.AssetCheckSeverity.WARN),
        ):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey("deid_dicom"), check_name=name, passed=False, blocking=blocking,
                    severity=severity,
                )
            )  # fmt: skip
        tick(platform, instance)
        told = {alert["stage"]: alert["reason"] for alert in webhook.alerts()}
        assert told == {
            "deid_dicom.leak_scan_finds_nothing": "safety_check_failed",
            "deid_dicom.references_resolve_within_the_batch": "check_warned",
        }


class TestWhatWaitsTooLong:
    def test_a_batch_that_nobody_takes(self, watched, drop, webhook):
        platform, instance = watched
        batch = ingest(drop, platform.layout, platform.key)
        look(platform, instance)
        assert webhook.alerts() == []
        look(platform, instance, later_hours=1)
        assert [(alert["kind"], alert["partition"], alert["reason"]) for alert in webhook.alerts()] == [
            ("stuck", batch, "batch_stuck")
        ]

    def test_a_folder_that_never_becomes_a_batch_is_counted_and_not_named(self, watched, webhook):
        platform, instance = watched
        arriving = platform.layout.inbox / "DOE JANE"
        arriving.mkdir()
        look(platform, instance, later_hours=1)
        (alert,) = webhook.alerts()
        assert (alert["partition"], alert["reason"], alert["count"]) == (None, "batch_name_refused", 1)

    def test_a_batch_whose_partition_was_deleted_in_the_ui(self, watched, drop, webhook):
        platform, instance = watched
        batch = ingest(drop, platform.layout, platform.key)
        run_batch(platform, instance, batch)
        instance.delete_dynamic_partition(BATCH, batch)
        look(platform, instance)
        assert [(alert["partition"], alert["reason"]) for alert in webhook.alerts()] == [
            (batch, "partition_removed")
        ]

    def test_a_run_that_stands_in_the_queue(self, watched, webhook):
        platform, instance = watched
        job = build_definitions(platform.settings).resolve_job_def("ingest")
        instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.NOT_STARTED,
            tags={"dagster/partition": "b1"},
            asset_selection=None,
        )
        look(platform, instance, later_hours=1)
        assert [(alert["stage"], alert["partition"], alert["reason"]) for alert in webhook.alerts()] == [
            ("ingest", "b1", "run_stuck")
        ]

    def test_an_asset_that_stays_behind_its_inputs(self, watched, webhook):
        platform, instance = watched
        for name, version in (("ct_prepro_audit", "v1"), ("labels", "v1"), ("eligibility", "v1")):
            instance.report_runless_asset_event(
                dg.AssetMaterialization(name, tags={"dagster/data_version": version})
            )
        behind = alerts.still_behind(instance, platform, {}, time.time())
        assert "eligibility:" in behind, (
            "it bears no digest of its inputs: nobody knows what it was made from"
        )
        look(platform, instance, behind=behind, later_hours=1)
        assert webhook.alerts() == []
        look(platform, instance, behind=behind, later_hours=3)
        assert {("stale", "eligibility", "asset_stale")} <= {
            (alert["kind"], alert["stage"], alert["reason"]) for alert in webhook.alerts()
        }

    def test_a_delivery_that_does_not_come(self, watched, drop, webhook):
        platform, instance = watched
        run_batch(platform, instance, ingest(drop, platform.layout, platform.key))
        look(platform, instance, later_hours=6 * 24)
        assert webhook.alerts() == []
        look(platform, instance, later_hours=8 * 24)
        assert [alert["reason"] for alert in webhook.alerts()] == ["delivery_overdue"]

    def test_what_still_holds_is_told_again_after_a_day(self, watched, drop, webhook):
        platform, instance = watched
        ingest(drop, platform.layout, platform.key)
        for hours in (1, 2, 20, 26):
            look(platform, instance, later_hours=hours)
        assert len([alert for alert in webhook.alerts() if alert["reason"] == "batch_stuck"]) == 2

    def test_a_clock_that_jumps_back_tells_nothing_again(self, watched, drop, webhook):
        platform, instance = watched
        ingest(drop, platform.layout, platform.key)
        look(platform, instance, later_hours=5)
        look(platform, instance, later_hours=-48)
        look(platform, instance, later_hours=6)
        assert len(webhook.alerts()) == 1


class TestThePageAndTheMetrics:
    def test_a_days_work_stands_on_them(self, watched, drop, tmp_path):
        platform, instance = watched
        good = tmp_path / "good"
        good.mkdir()
        (good / "file").write_bytes(b"fine")
        taken = ingest(good, platform.layout, platform.key)
        run_batch(platform, instance, taken)
        failed = altered_batch(platform, drop)
        run_batch(platform, instance, failed)
        tick(platform, instance)
        page = (platform.layout.reports / "status.html").read_text()
        for word in (taken, failed, "file_altered", "Deliver the batch again.", "GB free", "dicom_batch"):
            assert word in page
        for secret in ("DOE", "MRN"):
            assert secret not in page
        metrics = (platform.layout.reports / "ct_assets.prom").read_text()
        figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
        assert figures["ct_assets_batches_registered_day"] == "1"
        assert figures['ct_assets_runs{state="failed"}'] == "1"
        assert figures['ct_assets_runs{state="succeeded"}'] == "1"
        assert figures['ct_assets_failures_day{stage="dicom_batch",reason="file_altered"}'] == "1"
        assert figures["ct_assets_inbox_batches"] == "1"
        assert float(figures['ct_assets_disk_used_bytes{folder="raw"}']) > 0
        assert float(figures['ct_assets_stage_seconds_day{stage="dicom_batch"}']) >= 0

    def test_prometheus_own_parser_reads_them(self, watched):
        parser = pytest.importorskip(
            "prometheus_client.parser", reason="prometheus_client is not installed here"
        )
        platform, instance = watched
        tick(platform, instance)
        families = list(
            parser.text_string_to_metric_families((platform.layout.reports / "ct_assets.prom").read_text())
        )
        assert len(families) > 10
        assert all(family.type == "gauge" and family.documentation for family in families)

    def test_the_book_survives_its_process(self, watched, drop):
        platform, instance = watched
        run_batch(platform, instance, altered_batch(platform, drop))
        tick(platform, instance)
        (told,) = AlertBook(alerts.book_path(platform.layout)).since(0)
        assert told[1].code == "file_altered"
