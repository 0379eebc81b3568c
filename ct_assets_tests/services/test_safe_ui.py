"""The UI behind `deploy/nginx`: TLS, login, and no mutation by GET or from a foreign page; curl and a browser."""

import json
import os
import subprocess
import time
from pathlib import Path

import dagster as dg
import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.operations.service import refuse_public
from ct_assets.errors import UsageError
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets_tests.defs import platforms
from ct_assets_tests.services import servers

pytestmark = pytest.mark.timeout(600)

VIEWER, OPERATOR = "viewer:seen", "operator:done"
QUERY = "query { version }"
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c49444154789c63f8cfc000000301010018dd8db00000000049454e44ae426082"
)


def mutation(partition: str) -> str:
    """Return a mutation whose effect can be seen: a partition more."""
    selector = '{repositoryName: "__repository__", repositoryLocationName: "ct_assets"}'
    return (
        f'mutation {{ addDynamicPartition(partitionsDefName: "{BATCH}", partitionKey: "{partition}", '
        f"repositorySelector: {selector}) {{ __typename }} }}"
    )


class Site:
    """The proxy with both webservers behind it."""

    def __init__(self, host: str, folder: Path, instance: dg.DagsterInstance, operate_port: int) -> None:
        self.host, self.folder, self.instance, self.operate_port = host, folder, instance, operate_port

    def curl(self, path: str, *options: str, user: str | None = None) -> tuple[int, str]:
        """Return status and body of a request; certificates of a test are taken as they are."""
        login = [] if user is None else ["--user", user]
        done = subprocess.run(
            [servers.program("curl"), "--silent", "--insecure", "--max-time", "20", "--write-out", "\n%{http_code}",
             *login, *options, path if "://" in path else f"https://{self.host}{path}"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def post(self, path: str, query: str, *options: str, user: str = OPERATOR) -> tuple[int, str]:
        body = json.dumps({"query": query})
        return self.curl(
            path, "--header", "Content-Type: application/json", *options, "--data", body, user=user
        )

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(BATCH))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    nginx, openssl = servers.program("nginx"), servers.program("openssl")
    folder = tmp_path_factory.mktemp("site")
    config = platforms.write_settings(
        folder, folder / "labels.csv", service={"code_server": {"port": servers.free_port()}}
    )
    settings = platforms.settings_of(folder)
    reports = settings.layout.reports
    (reports / "figures").mkdir(parents=True)
    (reports / "figures/one.png").write_bytes(PICTURE)
    (reports / "page.html").write_text(
        "<!doctype html><title>calm</title><img src=figures/one.png><script>document.title='wild'</script>"
    )
    certificate, key = folder / "tls.pem", folder / "tls.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    for name, users in {"viewers": [VIEWER, OPERATOR], "operators": [OPERATOR]}.items():
        lines = []
        for user in users:
            who, _, password = user.partition(":")
            hashed = subprocess.check_output([openssl, "passwd", "-6", password], text=True).strip()
            lines.append(f"{who}:{hashed}\n")
        (folder / name).write_text("".join(lines))
        (folder / name).chmod(0o644)
    ports = {role: servers.free_port() for role in ("operate", "view")}
    https, http = servers.free_port(), servers.free_port()
    rendered = subprocess.check_output(
        [PROJECT_ROOT / "deploy/nginx/render.sh"],
        text=True,
        env={
            **os.environ,
            "CT_HOST": f"localhost:{https}",
            "CT_TLS_CERTIFICATE": str(certificate),
            "CT_TLS_KEY": str(key),
            "CT_HTTP_LISTEN": f"127.0.0.1:{http}",
            "CT_HTTPS_LISTEN": f"127.0.0.1:{https}",
            "CT_VIEWERS": str(folder / "viewers"),
            "CT_OPERATORS": str(folder / "operators"),
            "CT_VIEW_BACKEND": f"127.0.0.1:{ports['view']}",
            "CT_OPERATE_BACKEND": f"127.0.0.1:{ports['operate']}",
        },
    )
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # its files lie in a folder closed to others
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {temporary}\n{rendered}\n}}"
    )
    with servers.service(config, folder / "logs") as running, open_instance(settings) as instance:
        running.start("code")
        port = settings.service.code_server.port
        servers.wait_for(lambda: servers.answers(port), "the code server", seconds=180)
        running.ports |= ports
        running.start("operate")
        running.start("view")
        proxy = servers.start("nginx", [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], folder)
        try:
            servers.wait_for(lambda: servers.answers(https), f"nginx: {proxy.said()}", seconds=20)
            made = Site(f"localhost:{https}", folder, instance, ports["operate"])
            made.http = http
            yield made
        finally:
            proxy.end()


class TestWithoutAProxy:
    """What the proxy is there for: Dagster's own webserver does this."""

    def test_dagster_executes_a_mutation_by_get(self, site):
        status, _ = site.curl(
            f"http://127.0.0.1:{site.operate_port}/operate/graphql", "--get", "--data-urlencode",
            f"query={mutation('by-get-unprotected')}",
        )  # fmt: skip
        assert status == 200
        assert "by-get-unprotected" in site.partitions()

    def test_dagster_executes_a_mutation_from_a_foreign_origin(self, site):
        status, _ = site.curl(
            f"http://127.0.0.1:{site.operate_port}/operate/graphql", "--header", "Origin: https://evil.example",
            "--header", "Content-Type: application/json",
            "--data", json.dumps({"query": mutation("foreign-unprotected")}),
        )  # fmt: skip
        assert status == 200
        assert "foreign-unprotected" in site.partitions()


class TestLogin:
    @pytest.mark.parametrize("path", ["/", "/graphql", "/operate/", "/operate/graphql", "/reports/page.html"])
    def test_nothing_is_shown_to_who_is_not_logged_in(self, site, path):
        for user in (None, "viewer:wrong"):
            status, body = site.curl(path, user=user)
            assert status in (401, 403)  # whatever is refused to everyone is refused before the login
            assert "<title>40" in body

    def test_viewers_see_and_cannot_operate(self, site):
        assert site.curl("/", user=VIEWER)[0] == 200
        assert site.curl("/operate/", user=VIEWER)[0] == 401
        assert site.post("/operate/graphql", QUERY, user=VIEWER)[0] == 401

    def test_the_viewers_webserver_refuses_mutations_itself(self, site):
        status, body = site.post("/graphql", mutation("by-a-viewer"), user=VIEWER)
        assert status == 200
        assert "UnauthorizedError" in body
        assert "by-a-viewer" not in site.partitions()

    def test_report_pages_and_pictures_are_behind_the_same_login(self, site):
        assert site.curl("/reports/page.html", user=VIEWER)[0] == 200
        assert site.curl("/reports/figures/one.png", user=VIEWER)[0] == 200
        assert site.curl("/reports/../../key", "--path-as-is", user=VIEWER)[0] in (400, 403, 404)
        assert site.curl("/reports/..%2f..%2fkey", "--path-as-is", user=VIEWER)[0] in (400, 403, 404)

    def test_the_metrics_are_text_behind_the_same_login(self, site):
        metrics = site.folder / "data/reports/ct_assets.prom"
        metrics.write_text("ct_assets_inbox_batches 0\n")
        assert site.curl("/reports/ct_assets.prom")[0] == 401
        status, answer = site.curl("/reports/ct_assets.prom", "--include", user=VIEWER)
        assert status == 200
        assert "content-type: text/plain" in answer.lower()
        assert "ct_assets_inbox_batches 0" in answer

    def test_plain_http_is_sent_to_tls(self, site):
        done = subprocess.run(
            [servers.program("curl"), "--silent", "--head", f"http://127.0.0.1:{site.http}/x"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "301" in done.stdout.splitlines()[0]
        assert f"https://{site.host}/x" in done.stdout


class TestMutations:
    def test_an_operator_mutates_by_post_of_json(self, site):
        status, body = site.post("/operate/graphql", mutation("by-an-operator"))
        assert (status, "AddDynamicPartitionSuccess" in body) == (200, True), body
        assert "by-an-operator" in site.partitions()

    def test_from_the_ui_itself_too(self, site):
        own = ("--header", f"Origin: https://{site.host}", "--header", "Sec-Fetch-Site: same-origin")
        assert site.post("/operate/graphql", mutation("from-the-ui"), *own)[0] == 200
        assert "from-the-ui" in site.partitions()

    def test_not_by_get(self, site):
        status, _ = site.curl(
            "/operate/graphql", "--get", "--data-urlencode", f"query={mutation('by-get')}", user=OPERATOR
        )
        assert status == 403
        assert "by-get" not in site.partitions()

    @pytest.mark.parametrize(
        "path",
        ["/operate/graphql/", "/operate//graphql", "/operate/%67raphql", "/operate/x/../graphql", "//operate/graphql",
         "/operate/GraphQL", "/operate/graphql;x", "/operate/graphql%3Fquery"],
    )  # fmt: skip
    def test_not_by_get_under_another_spelling_of_the_address(self, site, path):
        query = f"query={mutation('spelled')}"
        site.curl(path, "--path-as-is", "--get", "--data-urlencode", query, user=OPERATOR)
        site.curl(path, "--path-as-is", "--head", "--get", "--data-urlencode", query, user=OPERATOR)
        assert "spelled" not in site.partitions()

    @pytest.mark.parametrize(
        "header",
        ["Origin: https://evil.example", "Origin: null", "Origin: http://localhost", "Sec-Fetch-Site: cross-site",
         "Sec-Fetch-Site: same-site"],
    )  # fmt: skip
    def test_not_from_a_foreign_origin(self, site, header):
        assert site.post("/operate/graphql", mutation("foreign"), "--header", header)[0] == 403
        assert "foreign" not in site.partitions()

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
    )
    def test_not_in_a_form(self, site, kind):
        body = json.dumps({"query": mutation("form")})
        status, _ = site.curl(
            "/operate/graphql", "--header", f"Content-Type: {kind}", "--data", body, user=OPERATOR
        )
        assert status == 403
        assert "form" not in site.partitions()

    @pytest.mark.parametrize(
        "path", ["/operate/report_asset_materialization/dicom_batch", "/report_asset_check/x"]
    )
    def test_no_events_from_outside(self, site, path):
        assert site.curl(path, "--data", "{}", user=OPERATOR)[0] == 403

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
    def test_no_other_method_anywhere_else(self, site, method):
        assert site.curl("/operate/", "--request", method, user=OPERATOR)[0] == 405


class TestWebsockets:
    HANDSHAKE = ("--http1.1", "--include", "--header", "Connection: Upgrade", "--header", "Upgrade: websocket",
                 "--header", "Sec-WebSocket-Version: 13", "--header", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                 "--header", "Sec-WebSocket-Protocol: graphql-ws", "--max-time", "4")  # fmt: skip

    @pytest.mark.parametrize("path", ["/graphql", "/operate/graphql"])
    def test_work_from_our_own_pages(self, site, path):
        _, answer = site.curl(
            path, *self.HANDSHAKE, "--header", f"Origin: https://{site.host}", user=OPERATOR
        )
        assert "101 Switching Protocols" in answer

    def test_do_not_work_from_foreign_ones(self, site):
        status, _ = site.curl(
            "/operate/graphql", *self.HANDSHAKE, "--header", "Origin: https://evil.example", user=OPERATOR
        )
        assert status == 403


class TestLimits:
    def test_headers_stand_on_every_answer(self, site):
        for path, user in (
            ("/", VIEWER),
            ("/operate/", OPERATOR),
            ("/reports/page.html", VIEWER),
            ("/", None),
        ):
            _, answer = site.curl(path, "--include", user=user)
            head = answer.partition("\r\n\r\n")[0].lower()
            for header in (
                "strict-transport-security",
                "x-content-type-options: nosniff",
                "x-frame-options: deny",
            ):
                assert head.count(header) == 1, (path, header, head)
            assert "nginx/" not in head

    def test_a_large_request_is_refused(self, site):
        large = site.folder / "large"
        large.write_bytes(b"x" * (3 << 20))
        status, _ = site.curl(
            "/operate/graphql",
            "--header",
            "Content-Type: application/json",
            "--data-binary",
            f"@{large}",
            user=OPERATOR,
        )
        assert status == 413

    def test_old_tls_is_refused(self, site):
        done = subprocess.run(
            [servers.program("openssl"), "s_client", "-connect", site.host, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            input="", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0

    def test_a_flood_is_slowed_down(self, site):
        statuses = [site.curl(f"/favicon.png?[1-{700}]", "--parallel", "--output", "/dev/null", user=None)[1]]
        assert "429" in "".join(statuses)


EVIL = """<!doctype html><title>evil</title><body>
<form id=f method=post enctype=text/plain target=sink action="TARGET"><input name='{"query":"'></form>
<iframe name=sink></iframe>
<script>
const where = '{repositoryName: "__repository__", repositoryLocationName: "ct_assets"}';
const ask = (name) => 'mutation { addDynamicPartition(partitionsDefName: "batch", partitionKey: "' + name +
  '", repositorySelector: ' + where + ') { __typename } }';
const body = (name) => JSON.stringify({query: ask(name)});
const json = {"Content-Type": "application/json"};
new Image().src = "TARGET?query=" + encodeURIComponent(ask("evil-image"));
fetch("TARGET", {method: "POST", mode: "no-cors", credentials: "include", body: body("evil-fetch")});
fetch("TARGET", {method: "POST", credentials: "include", headers: json, body: body("evil-cors")}).catch(() => 0);
document.querySelector("input").value = ask("evil-form").replaceAll('"', '\\\\"') + '"}';
document.getElementById("f").submit();
window.socket = "none";
const socket = new WebSocket("TARGET".replace("https", "wss"), "graphql-ws");
socket.onopen = () => window.socket = "open";
socket.onerror = () => window.socket = "refused";
</script>"""
"""A page of somebody else: it tries an image by GET, fetches, a form and a websocket."""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")
    chromium = servers.program("chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def page_of(browser, user):
    name, _, password = user.partition(":")
    context = browser.new_context(
        ignore_https_errors=True, http_credentials={"username": name, "password": password}
    )
    return context.new_page()


class TestInABrowser:
    def test_an_operator_sees_the_graph_and_its_events_come_by_websocket(self, site, browser):
        page = page_of(browser, OPERATOR)
        sockets = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(f"https://{site.host}/operate/assets/dicom_batch", timeout=60_000)
        page.get_by_text("dicom_batch").first.wait_for(timeout=60_000)
        deadline = time.monotonic() + 60
        while not sockets and time.monotonic() < deadline:
            page.wait_for_timeout(200)
        assert any(url.startswith(f"wss://{site.host}/operate/graphql") for url in sockets)

    def test_a_foreign_page_open_in_the_same_browser_changes_nothing(self, site, browser, tmp_path):
        """An image by GET, a form, a fetch and a websocket, while the operator's password is remembered."""
        import functools
        import http.server
        import threading

        target = f"https://{site.host}/operate/graphql"
        (tmp_path / "evil.html").write_text(EVIL.replace("TARGET", target))
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        handler.log_message = lambda *_: None
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as foreign:
            threading.Thread(target=foreign.serve_forever, daemon=True).start()
            page = page_of(browser, OPERATOR)
            page.goto(
                f"https://{site.host}/operate/", timeout=60_000
            )  # the browser now remembers the password
            statuses = []
            page.on(
                "response",
                lambda answer: statuses.append(answer.status) if answer.url.startswith(target) else None,
            )
            before = site.partitions()
            page.goto(f"http://127.0.0.1:{foreign.server_port}/evil.html")
            page.wait_for_function("window.socket !== 'none'", timeout=20_000)
            page.wait_for_timeout(2000)
            foreign.shutdown()
        assert site.partitions() == before
        assert page.evaluate("window.socket") == "refused"
        assert statuses, "the foreign page did reach the proxy"
        assert set(statuses) <= {401, 403, 405}, statuses

    def test_a_report_page_shows_its_pictures_and_runs_no_script(self, site, browser):
        page = page_of(browser, VIEWER)
        page.goto(f"https://{site.host}/reports/page.html")
        assert page.title() == "calm"
        assert page.evaluate("document.images[0].naturalWidth") == 1

    def test_a_picture_of_an_asset_is_shown_in_the_ui(self, site, browser):
        site.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "cv_report",
                partition="trial",
                metadata={"dice": dg.MetadataValue.md("![dice](/reports/figures/one.png)")},
            )
        )
        page = page_of(browser, VIEWER)
        page.goto(f"https://{site.host}/assets/cv_report?view=events", timeout=60_000)
        picture = page.locator("img[alt=dice]").first
        picture.wait_for(timeout=60_000)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
    def test_loopback_needs_no_second_word(self, host):
        refuse_public(host, without_login=False)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "ct.example.org"])
    def test_another_must_be_said_twice(self, host):
        with pytest.raises(UsageError, match="--without-login"):
            refuse_public(host, without_login=False)
        refuse_public(host, without_login=True)

    @pytest.mark.parametrize("command", [("ui",), ("service", "operate"), ("service", "code")])
    def test_the_commands_say_so_in_one_line(self, command, tmp_path):
        import sys

        done = subprocess.run(
            [sys.executable, "-c", "from ct_assets.cli import main; main()", *command, "--host", "0.0.0.0"],
            capture_output=True, text=True, env=servers.environment(CT_ASSETS_DATA=str(tmp_path)), check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "deploy/nginx" in done.stderr
