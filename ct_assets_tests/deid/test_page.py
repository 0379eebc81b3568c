"""The page for people: counts that agree, small cells marked, nothing that runs in a browser."""

from dataclasses import dataclass, field

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.deid.batch import page, uid_graph
from ct_assets.deid.batch.gather import UidSeen
from ct_assets.deid.batch.page import PageFacts
from ct_assets.settings.deid import DeidProfile
from ct_assets_tests.deid.made import KEY


@dataclass
class Summary:
    """As much of a batch's summary as the page shows."""

    released: int = 5
    quarantined: int = 1
    rejected: int = 2
    patients: int = 5
    dangling_references: int = 1
    tokens_searched: int = 42
    reasons: dict[str, int] = field(default_factory=lambda: {"burned_in_text": 1, "not_dicom": 2})
    burned_in: dict[str, int] = field(default_factory=lambda: {"clean": 5, "text_found": 1})
    leaks: int = 0


UIDS = uid_graph.build(
    {"1.2.3": UidSeen("series"), "1.2": UidSeen("study", is_object=True)}, DeidProfile(), KEY
)


def written(tmp_path, facts: PageFacts, profile: DeidProfile | None = None, uids: pl.DataFrame = UIDS) -> str:
    page.write(tmp_path / "page.html", facts, Summary(), uids, profile or DeidProfile(), "b0123")
    return (tmp_path / "page.html").read_text("utf-8")


def test_it_tells_reasons_with_what_to_do_and_the_options_in_force(tmp_path) -> None:
    told = written(tmp_path, PageFacts())
    assert "burned_in_text" in told
    assert "Text was found in the pixels." in told
    for code in ("113100", "113105", "113107", "113108", "113111"):
        assert code in told
    assert "113109" not in told


def test_another_profile_tells_its_own_options(tmp_path) -> None:
    profile = DeidProfile(retain_device_identity=True, retain_longitudinal="no")
    told = written(tmp_path, PageFacts(), profile)
    assert "113109" in told
    assert "113107" not in told


def test_few_patients_who_share_age_sex_site_and_year_are_counted_as_rare(tmp_path) -> None:
    common = {f"P{n}": ("061Y", "F", "site 1a2b", "2020") for n in range(page.SMALL_CELL)}
    rare = {"P9": ("019Y", "M", "site 1a2b", "2020")}
    told = written(tmp_path, PageFacts({**common, **rare}))
    assert "019Y" in told
    assert "P9" not in told  # a cell is a count, nobody's name


def test_kept_text_is_shown_as_text(tmp_path) -> None:
    told = written(tmp_path, PageFacts(texts={("SeriesDescription", "<script>alert(1)</script>")}))
    assert "<script>alert" not in told
    assert "&lt;script&gt;" in told


def test_long_lists_are_cut_and_say_so(tmp_path) -> None:
    texts = {("SeriesDescription", f"word {n}") for n in range(page.MAX_TEXTS + 7)}
    assert "7" in written(tmp_path, PageFacts(texts=texts)).split("word 9")[-1]


@pytest.mark.parametrize("first", [True, False])
def test_of_several_studies_of_a_patient_the_first_year_stands(first) -> None:
    older, newer = PageFacts({"P": ("060Y", "F", "", "2019")}), PageFacts({"P": ("061Y", "F", "", "2020")})
    merged = PageFacts()
    for one in (older, newer) if first else (newer, older):
        merged.merge(one)
    assert merged.cells == {"P": ("060Y", "F", "", "2019")}


cell = st.tuples(*[st.sampled_from(["", "a", "b"])] * 4)
facts = st.builds(
    PageFacts,
    st.dictionaries(st.sampled_from("PQ"), cell),
    st.sets(st.tuples(st.just("k"), st.sampled_from("xyz"))),
    st.integers(0, 3),
)


@given(st.lists(facts, max_size=4), st.randoms())
def test_the_order_of_tasks_changes_nothing(several, random) -> None:
    shuffled = list(several)
    random.shuffle(shuffled)
    one, other = PageFacts(), PageFacts()
    for part in several:
        one.merge(part)
    for part in shuffled:
        other.merge(part)
    assert one == other
