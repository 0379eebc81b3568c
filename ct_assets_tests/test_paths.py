"""Values of any origin as names below a folder: the result lies there, or the value is refused unread."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.errors import UsageError
from ct_assets.paths import below, is_safe_name

ROOT = Path("/data/out")


@given(st.lists(st.text(max_size=300), min_size=1, max_size=3))
def test_whatever_is_joined_lies_below_the_root_as_deep_as_there_are_names(names):
    try:
        made = below(ROOT, *names)
    except UsageError:
        return
    assert made.parts[: len(ROOT.parts)] == ROOT.parts
    assert len(made.parts) == len(ROOT.parts) + len(names)
    assert ".." not in made.parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        ".hidden",
        " a",
        "a ",
        "é" * 101,
        "1" * 302,
    ],
)
def test_what_is_no_single_name_is_refused_and_not_repeated(name):
    assert not is_safe_name(name)
    with pytest.raises(UsageError) as refused:
        below(ROOT, name)
    assert len(name) < 5 or name not in str(refused.value)


@pytest.mark.parametrize("name", ["1.2.840.10008.5", "case_0001", "a..b", "Müller", "x" * 200])
def test_ordinary_names_pass(name):
    assert below(ROOT, name) == ROOT / name
