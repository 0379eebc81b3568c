"""The ledger in the graph: it grows, a rewritten one is left as it is and blocks, a lost one is not begun again."""

import dagster as dg
import polars as pl
import pytest
import yaml

from ct_assets import tables
from ct_assets.cohort import splits
from ct_assets.defs.assets import cohort as cohort_assets
from ct_assets.defs.engine.platform import Platform
from ct_assets.settings import load_settings
from ct_assets.tables.cohort import Eligibility, Labels, SplitLedger
from ct_assets_tests.defs.platforms import KEY_HEX

CHECK = "ledger_was_not_rewritten"


@pytest.fixture
def platform(tmp_path):
    (tmp_path / "key").write_text(KEY_HEX)
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "settings.yaml"
    path.write_text(
        yaml.safe_dump({"data_root": str(tmp_path / "data"), "deid": {"key_file": str(tmp_path / "key")}})
    )
    made = Platform(load_settings(path, environ={}))
    admit(made, 20)
    return made


def admit(platform, count):
    names = [f"P{number:03d}" for number in range(count)]
    eligible = pl.DataFrame(
        {"patient_id": names, "is_eligible": True, "reasons": [[] for _ in names]},
        schema_overrides={"reasons": pl.List(pl.String)},
    )
    labels = [
        {
            "patient_id": name, "stage": ("I", "II")[number % 2], "age_years": 60, "sex": "F", "site": "A",
            "reasons": [], "rows": 1, "tnm_edition": None, "label_version": "1",
        }
        for number, name in enumerate(names)
    ]  # fmt: skip
    tables.write_table(platform.layout.eligibility, eligible, Eligibility)
    tables.write_table(platform.layout.labels, tables.frame(labels, Labels), Labels)


def materialize(platform):
    """Make the asset and its check of the ledger; return whether that passed, None where nothing was made."""
    result = dg.materialize(
        [cohort_assets.splits, cohort_assets.ledger_was_not_rewritten],
        resources={"platform": platform},
        raise_on_error=False,
    )
    evaluations = [one for one in result.get_asset_check_evaluations() if one.check_name == CHECK]
    return evaluations[0].passed if evaluations else None


def ledger(platform):
    return tables.read_table(platform.layout.splits, SplitLedger)


def test_a_cohort_that_grows_only_adds_rows(platform):
    assert materialize(platform) is True
    before = ledger(platform)
    admit(platform, 25)
    assert materialize(platform) is True
    assert ledger(platform)[:20].equals(before)
    assert ledger(platform).height == 25


def test_a_ledger_rewritten_with_a_new_chain_blocks_and_is_left_as_it_is(platform):
    materialize(platform)
    before = ledger(platform)
    row = before.filter(pl.col("fold").is_not_null())["row"][0]
    other = pl.when(pl.col("row") == row).then((pl.col("fold") + 1) % 5).otherwise("fold")
    forged = splits.chained(before.with_columns(fold=other))
    tables.write_table(platform.layout.splits, forged, SplitLedger)
    admit(platform, 25)
    assert materialize(platform) is False
    assert ledger(platform).equals(forged), "rows are not added to what was rewritten"
    tables.write_table(platform.layout.splits, before, SplitLedger)
    assert materialize(platform) is True
    assert ledger(platform)[:20].equals(before)


def test_a_ledger_that_is_gone_is_not_begun_again(platform):
    materialize(platform)
    platform.layout.splits.unlink()
    assert materialize(platform) is None
    assert not platform.layout.splits.exists()
    platform.layout.splits_record.unlink()
    assert materialize(platform) is True


def test_a_tombstone_in_its_place_passes(platform):
    materialize(platform)
    before = ledger(platform)
    gone = splits.withdraw(before, before["patient_id"][2], "tomb")
    tables.write_table(platform.layout.splits, gone, SplitLedger)
    assert materialize(platform) is True
