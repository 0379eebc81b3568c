"""The webserver's one own route: reports, and nothing but reports."""

import asyncio
import subprocess
import sys

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from ct_assets.defs.engine import stage
from ct_assets.defs.operations.webserver import Reports


class Client:
    """Asks an application within this process."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path):
        async def ask():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path)

        return asyncio.run(ask())


@pytest.fixture
def client(platform):
    reports = platform.layout.reports
    (reports / "cases").mkdir(parents=True)
    (reports / "cases/index.html").write_text("<h1>cases</h1>")
    (platform.layout.root / "secret.txt").write_text("secret")
    (reports / "way_out").symlink_to(platform.layout.root / "secret.txt")
    app = Starlette(routes=[Mount("/reports", Reports(platform.layout))])
    return Client(app)


def test_a_page_is_served_with_headers_that_let_it_do_nothing(client):
    answer = client.request("GET", "/reports/cases/index.html")
    assert answer.text == "<h1>cases</h1>"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "way_out", "cases/../../secret.txt"])
def test_nothing_else_is_served(client, path):
    assert client.request("GET", f"/reports/{path}").status_code == 404


def test_the_folder_itself_is_the_index_of_the_pages(client):
    answer = client.request("GET", "/reports/")
    assert answer.status_code == 200
    assert 'href="cases/index.html"' in answer.text


def test_reports_can_only_be_read(client):
    assert client.request("POST", "/reports/cases/index.html").status_code == 405


class TestMetadata:
    def test_a_page_of_a_report_is_a_link_that_the_ui_opens(self, platform):
        page = platform.layout.reports / "cases/index.html"
        assert stage.link(platform, page).value == "/reports/cases/index.html"

    def test_another_file_is_a_path_below_the_data_root(self, platform):
        assert stage.link(platform, platform.layout.cohort_manifest).value == "cohort/cohort_manifest.parquet"

    def test_a_picture_is_kept_by_its_content_and_shown(self, platform):
        shown = stage.picture(platform, b"png", "curves")
        assert stage.picture(platform, b"png", "curves") == shown
        (kept,) = (platform.layout.reports / "figures").iterdir()
        assert kept.read_bytes() == b"png"
        assert shown.value == f"![curves](/reports/figures/{kept.name})"


@pytest.mark.slow
def test_the_options_are_dagsters_own():
    told = subprocess.check_output(
        [sys.executable, "-m", "ct_assets.defs.operations.webserver", "--help"], text=True
    )
    assert "--read-only" in told
    assert "--path-prefix" in told
