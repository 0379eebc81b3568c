"""The viewer in a real browser, WebGL in software: the mask lies where the tumour is, on any grid."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from ct_assets.layout import Layout
from ct_assets.serving import viewable, viewer
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets_tests.serving.volumes import TUMOUR_RAS_MM, write_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ORIENTATIONS = ("flipped", "oblique", "plain")
"""In the order of the viewer."""
MASK_RGB = np.array([255, 180, 40])
CENTERS = "Array.from([0, 1, 2], axis => viewer.frac2mm(viewer.scene.crosshairPos)[axis])"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server of three results, in a thread of this process."""
    import uvicorn

    root = tmp_path_factory.mktemp("viewer")
    for name in ORIENTATIONS:
        write_result(root / "results" / name, name)
    shown = {"results": viewable.Results(root / "results")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(viewer.application(Layout(root), shown), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@dataclass(frozen=True)
class Picture:
    """A screenshot of the canvas."""

    rgb: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Pixels of the mask's colour: much more red than blue."""
        return self.rgb[..., 0].astype(int) - self.rgb[..., 2] > 60


def picture_of(page, name: str) -> Picture:
    from PIL import Image

    content = page.locator("#canvas").screenshot()
    folder = PROJECT_ROOT / "build/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"viewer-{name}.png").write_bytes(content)
    return Picture(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def opened(tab, address: str, name: str):
    tab.page.goto(f"{address}/results/{name}")
    tab.page.locator("body[data-ready=true]").wait_for()
    return tab.page


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_mask_covers_the_tumour_on_the_patients_right_in_front(address, webgl_tab, orientation):
    page = opened(webgl_tab, address, orientation)
    np.testing.assert_allclose(page.evaluate(CENTERS), TUMOUR_RAS_MM, atol=3)
    page.locator("#layout").select_option("0")  # axial alone, with the whole canvas
    page.locator("#opacity").fill("1")
    page.locator("#opacity").dispatch_event("input")
    mask = picture_of(page, orientation).mask
    page.keyboard.press("m")
    bare = picture_of(page, f"{orientation}-bare")
    assert not bare.mask.any()
    body = bare.rgb[..., 0] > 150
    rows, columns = (np.nonzero(mask)[axis].mean() for axis in (0, 1))
    body_rows, body_columns = (np.nonzero(body)[axis] for axis in (0, 1))
    width, height = np.ptp(body_columns), np.ptp(body_rows)
    # from the body's middle (160 mm wide, 130 mm high): 45 mm to the patient's right, which is the picture's left
    middle = (body_columns.min() + body_columns.max()) / 2, (body_rows.min() + body_rows.max()) / 2
    assert (columns - middle[0]) / width == pytest.approx(-TUMOUR_RAS_MM[0] / 150, abs=0.05)
    assert (rows - middle[1]) / height == pytest.approx(-TUMOUR_RAS_MM[1] / 122, abs=0.05)
    # what the mask covered is the tumour: bright in dark lung
    assert (bare.rgb[..., 0][mask] > 150).mean() > 0.85
    assert webgl_tab.complaints == []


def test_keys_windows_findings_and_neighbours(address, webgl_tab):
    page = opened(webgl_tab, address, "flipped")
    page.keyboard.press("2")
    assert (page.locator("#level").input_value(), page.locator("#width").input_value()) == ("40", "400")
    page.keyboard.press("ArrowUp")
    moved = page.evaluate(CENTERS)
    assert moved[2] - TUMOUR_RAS_MM[2] > 1
    page.locator("#findings tr").first.click()
    np.testing.assert_allclose(page.evaluate(CENTERS), TUMOUR_RAS_MM, atol=3)
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/results/oblique*")
    page.locator("body[data-ready=true]").wait_for()
    assert webgl_tab.complaints == []
