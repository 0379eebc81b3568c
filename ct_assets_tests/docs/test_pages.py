"""Every command block of the documentation is run, in the order of its page, or says why it is not."""

import re

import pytest

from ct_assets.settings.load import PROJECT_ROOT
from ct_assets_tests.docs.blocks import blocks_of, run_page
from ct_assets_tests.docs.sandbox import checkout

PAGE_TIMEOUT_S = 2400
PAGES = sorted(
    [PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", *PROJECT_ROOT.glob("docs/*.md")]
)
RUN = [page for page in PAGES if any(block.is_run for block in blocks_of(page))]
DEMO = "configs/demo.yaml"
NOT_RUN_AT_MOST = 60
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.slow
@pytest.mark.timeout(2 * PAGE_TIMEOUT_S)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_the_page_work(page, request, tmp_path):
    """A page about the demo runs where the demo has run, every other one in a checkout of its own."""
    about_demo = any(DEMO in block.text for block in blocks_of(page) if block.is_run)
    place = request.getfixturevalue("sandbox") if about_demo else checkout(tmp_path / "checkout")
    done = run_page(page, place, PAGE_TIMEOUT_S)
    assert done.returncode == 0, done.stdout[-6000:]


def test_every_block_of_commands_is_run_or_says_why_not():
    unmarked = [
        f"{block.page}:{block.line} ({block.info or 'no info string'})"
        for page in PAGES
        for block in blocks_of(page)
        if block.has_commands and not block.is_run and not block.not_run
    ]
    assert unmarked == []


def test_blocks_that_are_not_run_are_few():
    left = [f"{block.page}: {block.not_run}" for page in PAGES for block in blocks_of(page) if block.not_run]
    assert len(left) <= NOT_RUN_AT_MOST, left


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_page_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index():
    index = (PROJECT_ROOT / "docs/README.md").read_text()
    here = {page.name for page in PROJECT_ROOT.glob("docs/*.md")} - {"README.md"}
    assert {name for name in here if f"]({name})" not in index} == set()
