"""Every page that a run wrote, in a real browser: nothing missing, nothing complained about."""

import pytest

from ct_assets_tests.docs.sandbox import session_folder, with_demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

BROKEN_IMAGES = """Promise.all(Array.from(document.images).map(image => {
    image.loading = 'eager';
    return image.decode().then(() => 0, () => 1);
})).then(broken => broken.reduce((sum, one) => sum + one, 0))"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PICTURES_OF = {"experiments/demo/index.html": "report", "cases/index.html": "cases"}
ROOMS = {"cases", "deid", "drift", "experiments", "tests"}


def test_every_report_page_renders_without_errors(ui, tab):
    reports = ui.settings.layout.reports
    pages = sorted(path.relative_to(reports).as_posix() for path in reports.rglob("*.html"))
    assert {page.split("/")[0] for page in pages} >= ROOMS
    tab.page.set_viewport_size({"width": 1300, "height": 1500})
    faults = []
    for name in pages:
        tab.page.goto(f"{ui.address}/reports/{name}")
        if tab.page.evaluate(BROKEN_IMAGES):
            faults.append(f"{name}: a picture is missing")
        if tab.page.evaluate(TOO_WIDE) > 0:
            faults.append(f"{name}: wider than the window")
        if not tab.page.title():
            faults.append(f"{name}: no title")
        ui.picture(tab.page, f"report-{PICTURES_OF.get(name, name.replace('/', '-'))}")
    assert faults == []
    assert tab.complaints == []


def test_pages_open_from_the_disk_as_well(tmp_path_factory, tab):
    """A page may be copied to somebody: what it shows lies beside it or in it."""
    demo = with_demo(session_folder(tmp_path_factory.getbasetemp())).demo
    for path in sorted((demo / "reports").rglob("index.html")):
        tab.page.goto(path.as_uri())
        assert not tab.page.evaluate(BROKEN_IMAGES), path.name
    assert tab.complaints == []


def test_nothing_but_reports_is_served(ui):
    import http.client

    host = ui.address.removeprefix("http://")
    for path in (
        "/reports/experiments/",
        "/reports/../demo.key",
        "/reports/%2e%2e/demo.key",
        "/reports//etc/passwd",
    ):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path
