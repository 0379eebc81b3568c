"""The demo at its smallest, and the folder that it refuses."""

import json

import pytest

from ct_assets.errors import UsageError
from ct_assets.systems.longitudinal import demo


def test_a_folder_that_no_demo_made_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="nothing was touched"):
        demo.run(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.slow
def test_the_demo_goes_from_scans_to_a_page_that_names_losses(tmp_path):
    scale = demo.Scale(patients=4, nodules=3, flow_epochs=2, autoencoder_epochs=1)
    summary = demo.run(tmp_path / "demo", scale, workers=1)
    report = json.loads((summary.page.parent / "report.json").read_text())
    assert set(report["strata"]["all"]["baselines"]) == {
        "copy_input", "mean_rate", "rate_by_type", "linear", "exponential", "always_grow"
    }  # fmt: skip
    page = summary.page.read_text()
    assert "Where the model loses" in page
    # Two test patients decide nothing, and the page says so.
    assert "is not shown to beat" in page
    assert list(summary.seconds) == [
        "phantom", "tables", "registration", "crops of pairs", "autoencoder and its gate", "flow", "evaluation"
    ]  # fmt: skip
    demo.refuse_foreign(tmp_path / "demo")
