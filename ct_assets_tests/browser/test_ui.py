"""What a person sees in the UI after the demo, and does there."""

import re

import pytest

from ct_assets.defs.engine.graph import GRAPH
from ct_assets_tests.browser.conftest import EXPERIMENT_NAME, PATIENCE_MS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TRAINING_MS = 1_800_000
SETTLING_MS = 3000
"""The drawing moves to its place."""
ATTEMPTS = 30
PARTITION_TAKEN = "ConfigPartitionSelectionQuery"
"""What the launchpad asks the server once a partition is taken."""
WHOLE_GRAPH = {"width": 3600, "height": 4600}
"""What lies outside the window is not drawn, so it is not found either."""
EMPTY_PLACE = (600, 4500)


def test_the_graph_shows_every_group_and_every_asset(ui, tab):
    page = tab.page
    page.set_viewport_size(WHOLE_GRAPH)
    page.goto(f"{ui.address}/asset-groups")
    for group in sorted({node.group for node in GRAPH.values()}):
        # In the list, and twice in the drawing: once to be measured, once to be seen.
        page.get_by_text(group, exact=True).nth(2).wait_for(state="attached")
    page.get_by_text("fetching statuses").first.wait_for(state="detached")
    page.wait_for_timeout(SETTLING_MS)
    ui.picture(page, "groups")
    page.mouse.click(*EMPTY_PLACE, button="right")
    page.get_by_role("menuitem", name="Expand all groups").first.click()
    page.get_by_text("dicom_batch", exact=True).first.wait_for(state="attached")
    page.wait_for_timeout(SETTLING_MS)
    shortened = [text.partition("\u2026") for text in page.get_by_text("\u2026").all_inner_texts()]
    for name in GRAPH:
        if not any(begin and name.startswith(begin) and name.endswith(end) for begin, _, end in shortened):
            page.get_by_text(name, exact=True).first.wait_for(state="attached")
    ui.picture(page, "graph")
    assert tab.complaints == []


def test_a_failed_check_is_visible_with_what_it_found(ui, tab):
    page = tab.page
    page.goto(f"{ui.address}/assets/ct_prepro_audit?view=checks")
    # the page measures its texts in hidden copies
    page.get_by_text("references_resolve_over_the_cohort").filter(visible=True).first.wait_for()
    page.get_by_text("Failed", exact=True).first.wait_for()
    page.get_by_text("unresolved").first.wait_for()
    ui.picture(page, "failed-check")
    assert tab.complaints == []


def test_the_page_of_a_batch_shows_its_metadata(ui, tab):
    (batch, *_) = sorted(path.name for path in (ui.settings.data_root / "audits/deid").iterdir())
    page = tab.page
    page.goto(f"{ui.address}/assets/deid_audit?view=partitions&partition={batch}")
    page.get_by_text("Metadata", exact=True).first.wait_for()
    page.get_by_text("released").first.wait_for()
    ui.picture(page, "batch")
    assert tab.complaints == []


def choose_partition(page, key: str) -> None:
    """Type a partition's key into the launchpad, take it from the list, and wait until the run is set to it.

    The launchpad draws its field anew as its data arrive, and what was typed before that is gone; until the
    server has answered for the partition taken, a run would be launched without one.
    """
    from playwright.sync_api import TimeoutError as NotOffered

    page.wait_for_load_state("networkidle")
    field, offer = page.get_by_placeholder("Partition"), page.get_by_text(key).first
    for _ in range(ATTEMPTS):
        field.fill(key)
        try:
            offer.wait_for(timeout=PATIENCE_MS // ATTEMPTS)
        except NotOffered:
            continue
        with page.expect_response(lambda answer: PARTITION_TAKEN in (answer.request.post_data or "")):
            offer.click()
        page.get_by_text("Generating configuration").wait_for(state="hidden")
        return
    raise AssertionError(f"the launchpad never offered {key}; the field says {field.input_value()!r}")


class TestTrainingFromTheLaunchpad:
    """One story: launch a fold of an experiment, then look at its partition."""

    def test_the_launchpad_starts_the_training_of_a_fold(self, ui, tab):
        page = tab.page
        page.goto(f"{ui.address}/locations/ct_assets/jobs/cross_validation/playground")
        choose_partition(page, f"{EXPERIMENT_NAME}|0")
        ui.picture(page, "launchpad")
        page.get_by_role("button", name=re.compile("Launch Run")).click()
        page.wait_for_url("**/runs/**")
        page.get_by_text("Success", exact=True).first.wait_for(timeout=TRAINING_MS)
        ui.picture(page, "run")
        assert (ui.settings.layout.fold_model(EXPERIMENT_NAME, "0") / "best.safetensors").is_file()

    def test_its_partition_shows_the_metadata_with_a_picture(self, ui, tab):
        page = tab.page
        page.goto(f"{ui.address}/assets/fold_model?view=partitions&partition={EXPERIMENT_NAME}%7C0")
        page.get_by_text("validation_dice").first.wait_for()
        picture = page.locator("img[src^='/reports/figures/']").first
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
        ui.picture(page, "partition")
        assert tab.complaints == []
