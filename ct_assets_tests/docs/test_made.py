"""What documentation takes from the tree is as the tree is."""

import runpy

import pytest

from ct_assets.settings.load import PROJECT_ROOT

MAKE = "run: python scripts/make_docs.py"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(PROJECT_ROOT / "scripts/make_docs.py"))


def test_the_picture_of_imports_is_up_to_date(script):
    assert script["architecture"]() == (PROJECT_ROOT / "docs/architecture.md").read_text(), MAKE


def test_the_index_of_decisions_is_up_to_date(script):
    assert script["decisions"]() == (PROJECT_ROOT / "docs/decisions/README.md").read_text(), MAKE


def test_the_picture_tells_an_import_inside_a_function(script):
    assert "learning" in script["room_imports"]()["reports"]


def test_an_arrow_that_follows_from_two_others_is_not_drawn(script):
    drawn = script["picture"]({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert "a --> b" in drawn
    assert "b --> c" in drawn
    assert "a --> c" not in drawn
    assert "| `a` | `b`, `c` |" in drawn


def test_only_computing_and_drawing_of_results_know_each_other(script):
    """Evaluation writes its page, the page shows what evaluation computed; everything else runs one way."""
    imports = script["room_imports"]()
    pairs = {
        tuple(sorted((room, other))) for room in imports for other in imports[room] if room in imports[other]
    }
    assert pairs == {("learning", "reports")}
