"""A running UI over a copy of the demo's platform, and a real browser to look at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import EXPERIMENT
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets_tests.docs.sandbox import session_folder, with_demo

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")  # fmt: skip
SOFTWARE_WEBGL = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
PATIENCE_MS = 300_000
"""The machine may be busy with other tests."""
START_S = 300
EXPERIMENT_NAME = "browser"


@dataclass(frozen=True)
class Ui:
    """A running UI."""

    address: str
    settings: Settings
    pictures: Path
    """Where screenshots are kept for people to look at."""

    def picture(self, page, name: str) -> None:
        """Keep a screenshot."""
        page.screenshot(path=self.pictures / f"{name}.png")


@pytest.fixture(scope="session")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The UI of a copy of the demo's platform, with an experiment that nobody has trained yet."""
    demo = with_demo(session_folder(tmp_path_factory.getbasetemp())).demo
    root = tmp_path_factory.mktemp("ui") / "platform"
    shutil.copytree(demo, root)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CT_ASSETS_")} | {
        "CT_ASSETS_DATA": str(root),
        "CT_ASSETS_DEID_KEY": (root / "demo.key").read_text().strip(),
        "CT_ASSETS_CONFIG": str(PROJECT_ROOT / "configs/demo.yaml"),
    }
    settings = load_settings(environ=environment)
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions(EXPERIMENT, [EXPERIMENT_NAME])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pictures = PROJECT_ROOT / "build/screenshots"
    pictures.mkdir(parents=True, exist_ok=True)
    log = root / "ui.log"
    with log.open("wb") as lines:
        command = [str(Path(sys.executable).with_name("ct-assets")), "ui", "--port", str(port)]
        server = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stdout=lines, stderr=lines)
        try:
            _wait(f"http://127.0.0.1:{port}/server_info", server, log)
            yield Ui(f"http://127.0.0.1:{port}", settings, pictures)
        finally:
            server.terminate()
            server.wait(60)


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=10).read()
            return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"the UI did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of this machine; nothing is downloaded."""
    yield from _browser(QUIET)


@pytest.fixture(scope="module")
def webgl_browser():
    """The same with WebGL, computed in software."""
    yield from _browser((*(option for option in QUIET if option != "--disable-gpu"), *SOFTWARE_WEBGL))


def _browser(options):
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=executable, args=list(options))
        yield launched
        launched.close()


@dataclass
class Tab:
    """A page of the browser, with what it complained about."""

    page: object
    complaints: list[str]


@pytest.fixture
def tab(browser) -> Iterator[Tab]:
    """A new tab."""
    yield from _tab(browser)


@pytest.fixture
def webgl_tab(webgl_browser) -> Iterator[Tab]:
    """A new tab of a browser with WebGL."""
    yield from _tab(webgl_browser)


def _tab(browser) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    page.set_default_navigation_timeout(PATIENCE_MS)
    opened = Tab(page, [])
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
    page.on(
        "response",
        lambda answer: (
            opened.complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    yield opened
    page.close()
