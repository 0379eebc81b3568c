"""The processes of a service: their command lines, what they refuse and wait for, and the units that keep them."""

import json
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.operations import service
from ct_assets.errors import UsageError
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.settings.platform import Settings
from ct_assets.settings.service import ServiceSettings
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

UNITS = sorted((PROJECT_ROOT / "deploy/systemd").glob("*.service"))


class TestCommandLines:
    def test_the_viewers_webserver_is_read_only_and_the_operators_has_a_place_of_its_own(self, tmp_path):
        settings = Settings()
        view = service.command(settings, "view", tmp_path, host="127.0.0.1", port=None)
        operate = service.command(settings, "operate", tmp_path, host="127.0.0.1", port=None)
        assert "--read-only" in view
        assert "--read-only" not in operate
        assert operate[operate.index("--path-prefix") + 1] == "/operate"

    @pytest.mark.parametrize("role", service.ROLES)
    def test_one_setting_makes_the_lines_of_every_role_json(self, role, tmp_path):
        settings = Settings(service=ServiceSettings(logs="json"))
        line = service.command(settings, role, tmp_path, host="127.0.0.1", port=None)
        assert line[line.index("--log-format") + 1] == "json"


class TestPorts:
    def test_a_port_that_is_taken_is_refused(self):
        """Two code servers would share it, and each would get half the calls."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is taken"):
                service.refuse_taken("127.0.0.1", port)
        service.refuse_taken("127.0.0.1", servers.free_port())


class TestTheOrderOfTheirBeginning:
    """A daemon or webserver that begins before the code server would keep its failed load for ever."""

    def test_who_begins_first_waits_for_the_code_server_and_says_so(self, capsys):
        port, opened = servers.free_port(), []

        def later():
            time.sleep(1)
            opened.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=later)
        thread.start()
        service.wait_for_code_server("127.0.0.1", port, patience_s=30)
        thread.join()
        opened[0].close()
        assert capsys.readouterr().err.count(f"waiting for the code server at 127.0.0.1:{port}") == 1

    def test_patience_ends_with_what_to_do(self):
        port = servers.free_port()
        with pytest.raises(UsageError, match="start `ct-assets service code`"):
            service.wait_for_code_server("127.0.0.1", port, patience_s=0)

    def test_all_of_them_started_backwards_work(self, tmp_path):
        config = platforms.write_settings(
            tmp_path, tmp_path / "labels.csv", service={"code_server": {"port": servers.free_port()}}
        )
        made = servers.Service(config, tmp_path / "logs", {})
        view = servers.free_port()
        arguments = [sys.executable, "-c", "from ct_assets.cli import main; main()", "service", "view",
                     "--config", str(config), "--port", str(view)]  # fmt: skip
        try:
            made.running["view"] = servers.start("view", arguments, made.folder, environ=made.environ)
            servers.wait_for(lambda: "waiting for the code server" in made.running["view"].said(), "the word")
            made.start("code")
            servers.wait_for(lambda: servers.answers(view), "the webserver", seconds=120)
            query = "{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name } } } }"
            answer = servers.ask(f"http://127.0.0.1:{view}/graphql", query)["repositoriesOrError"]
            assert answer["nodes"] == [{"name": "__repository__"}]
        finally:
            made.end()


class TestUnits:
    def test_there_is_one_for_each_process(self):
        commands = {
            re.search(r"^ExecStart=\S+/ct-assets (.+)$", unit.read_text(), re.MULTILINE)[1] for unit in UNITS
        }
        assert commands == {*(f"service {role}" for role in service.ROLES), "receive"}

    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
    def test_systemd_takes_them(self, unit, tmp_path):
        """Held against systemd's own reading, with a program that is there."""
        analyze = servers.program("systemd-analyze")
        for one in UNITS:
            text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", one.read_text(), flags=re.MULTILINE)
            (tmp_path / one.name).write_text(text)
        done = subprocess.run(
            [analyze, "verify", tmp_path / unit.name],
            capture_output=True,
            text=True,
            env=servers.environment(SYSTEMD_UNIT_PATH=f"{tmp_path}:"),
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if unit.stem in line]
        assert (done.returncode, said) == (0, [])


def test_the_receiver_logs_json_too(tmp_path):
    """One setting for all processes: a log collector reads the receiver's lines like the others'."""
    config = tmp_path / "settings.yaml"
    port = servers.free_port()
    config.write_text(
        f"data_root: {tmp_path}/data\nservice: {{logs: json}}\n"
        f"receive: {{senders: [SCANNER], port: {port}}}\n"
    )
    arguments = [
        sys.executable,
        "-c",
        "from ct_assets.cli import main; main()",
        "receive",
        "--config",
        config,
    ]
    one = servers.start("receive", [str(part) for part in arguments], tmp_path, environ=servers.environment())
    try:
        servers.wait_for(lambda: "receiving as" in one.said(), "the receiver", seconds=60)
    finally:
        one.end()
    lines = [json.loads(line) for line in one.said().splitlines()]
    assert {"at", "level", "message"} <= set(lines[0])


class TestTheQueue:
    def test_dagster_reads_the_limits_as_they_are_meant(self, tmp_path):
        """Two runs at once, one of a cross-validation, and never two of one partition."""
        platforms.write_settings(
            tmp_path,
            tmp_path / "labels.csv",
            service={"queue": {"max_runs": 2, "max_runs_by_job": {"cross_validation": 1}, "retries": 3}},
        )
        with open_instance(platforms.settings_of(tmp_path)) as instance:
            queue = instance.get_concurrency_config().run_queue_config
            assert queue.max_concurrent_runs == 2
            assert {
                "key": "dagster/job_name",
                "value": "cross_validation",
                "limit": 1,
            } in queue.tag_concurrency_limits
            a_partition = {"applyLimitPerUniqueValue": True}
            assert {
                "key": "dagster/partition",
                "value": a_partition,
                "limit": 1,
            } in queue.tag_concurrency_limits
            assert instance.run_retries_max_retries == 3
            assert instance.run_retries_retry_on_asset_or_op_failure is False
            assert instance.run_monitoring_enabled
