"""The checklist of docs/brain.md: every line is there, and every test it names exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
PAGE = (TESTS.parent / "docs/brain.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)?test_\w+\.py(?:::\w+)*)`", PAGE)))


def test_every_line_of_the_checklist_is_ticked():
    ticked = set(re.findall(r"^- \[x\] 004-(\d\d)", PAGE, re.MULTILINE))
    assert ticked == {f"{number:02d}" for number in range(1, 40)}


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named):
    file, *names = named.split("::")
    path = TESTS / (file if "/" in file else f"systems/brain/{file}")
    body = ast.parse(path.read_text()).body
    for name in names:
        (found,) = [node for node in body if getattr(node, "name", None) == name]
        body = getattr(found, "body", [])


def test_the_page_gives_the_defaults_of_the_command():
    from ct_assets.settings.brain import BrainConfig, RunOptions

    options = RunOptions()
    for name in ("seed", "k_folds", "batch_size", "num_workers", "out_size", "prep_plot_n"):
        assert f"| `--{name.replace('_', '-')}` | {getattr(options, name)} |" in PAGE
    for name in BrainConfig.model_fields:
        assert f"`{name}`" in PAGE, name
