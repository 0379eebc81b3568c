"""A withdrawal on a platform that the graph itself made, Dagster's storage and the next run included."""

import os
import subprocess
import sys

import polars as pl
import pytest

from ct_assets.defs.operations import backup as keep
from ct_assets.defs.operations import withdrawal as forget
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.lifecycle import gc
from ct_assets.lifecycle import withdraw as forgetting
from ct_assets.phantom import cohort
from ct_assets_tests.defs import platforms
from ct_assets_tests.lifecycle.small import files_with

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return cohort.make(tmp_path_factory.mktemp("phantom") / "cohort", patients=9, seed=11, workers=2)


@pytest.fixture(scope="module")
def story(tmp_path_factory, phantom):
    """Two deliveries, a run, a backup, a withdrawal and the next run; what there was to see on the way."""
    folder = tmp_path_factory.mktemp("platform")
    platforms.write_settings(folder, phantom.labels_csv)
    settings = platforms.settings_of(folder)
    for drop in phantom.drops:
        platforms.take(settings, drop)
    platforms.run(settings)
    layout = settings.layout
    manifest = pl.read_parquet(layout.cohort_manifest)
    case = manifest.filter(pl.col("split") == "train").sort("case_id").row(1, named=True)
    [raw] = [known for (known, _), one in platforms.pseudonyms(settings).items() if one == case["patient_id"]]
    seen = {
        "settings": settings,
        "folder": folder,
        "case": case,
        "raw": raw,
        "manifest": manifest,
        "splits": pl.read_parquet(layout.splits),
        "digests": platforms.digests(layout.root),
        "words": words_of(layout, case, raw),
    }
    keep.back_up(settings, folder / "backup.tar")
    forget.withdraw(settings, raw, yes=True, workers=2)
    seen["left"] = files_with(layout.root, seen["words"])
    seen["verified"] = gc.collect(settings, remove=False)
    seen["next"] = platforms.run(settings).made
    seen["after"] = files_with(layout.root, seen["words"])
    seen["again"] = platforms.run(settings).made
    return seen


def words_of(layout, case, raw) -> set[str]:
    """Number, pseudonym, and every UID of the person's objects, old and new."""
    rows = pl.concat(
        [pl.read_parquet(p) for p in layout.root.glob("audits/metadata/*/metadata_audit.parquet")]
    )
    own = rows.filter(pl.col("patient_id") == case["patient_id"])
    new = {
        uid
        for name in (
            "sop_instance_uid",
            "series_instance_uid",
            "study_instance_uid",
            "frame_of_reference_uid",
        )
        for uid in own[name].drop_nulls()
    }
    maps = pl.concat([pl.read_parquet(p) for p in layout.root.glob("audits/uid/*/uid_map.parquet")])
    old = set(maps.filter(pl.col("new_uid").is_in(list(new)))["old_uid"])
    return {raw, case["patient_id"], *new, *old}


def test_a_search_of_every_byte_finds_nothing_neither_then_nor_after_the_next_run(story):
    assert len(story["words"]) > 40
    assert story["left"] == []
    assert story["after"] == []


def test_the_next_run_makes_the_cohort_anew_and_reads_no_original_again(story):
    made = {name for name, _ in story["next"]}
    assert {"ct_prepro_audit", "cohort_manifest", "nifti_cohort", "fold_plan", "fold_volumes"} <= made
    assert not made & {"dicom_batch", "deid_dicom", "deid_audit", "uid_map"}
    assert story["again"] == []


def test_nobody_else_moves_and_nobody_elses_volume_changes(story):
    layout = story["settings"].layout
    before, after = story["manifest"], pl.read_parquet(layout.cohort_manifest)
    kept = ["case_id", "patient_id", "split", "fold", "image", "label"]
    others = before.filter(pl.col("case_id") != story["case"]["case_id"])
    assert after.select(kept).equals(others.select(kept))
    now = platforms.digests(layout.root)
    changed = {
        name
        for name in story["digests"].keys() | now.keys()
        if name.startswith(("nifti/images", "nifti/labels", "deid/"))
        and story["digests"].get(name) != now.get(name)
    }
    case, patient = story["case"]["case_id"], story["case"]["patient_id"]
    assert changed
    assert all(case in name or patient in name for name in changed)
    ledger = pl.read_parquet(layout.splits)
    assert ledger.select("row", "split", "fold").equals(story["splits"].select("row", "split", "fold"))


def test_the_backup_gives_the_platform_of_before_and_she_is_taken_out_of_it_again(story):
    """Restored elsewhere with the tombstones of the platform that was left: the same state as after the withdrawal."""
    settings, folder = story["settings"], story["folder"]
    elsewhere = settings.model_copy(update={"data_root": folder / "elsewhere"})
    keep.restore(elsewhere, folder / "backup.tar", None, workers=2)
    assert platforms.digests(elsewhere.data_root) == story["digests"]
    assert platforms.run(elsewhere).made == [], "a restored platform is current"
    again = settings.model_copy(update={"data_root": folder / "again"})
    keep.restore(again, folder / "backup.tar", settings.layout.tombstones, workers=2)
    assert files_with(again.data_root, story["words"]) == []
    platforms.run(again)
    now, there = (platforms.digests(one.data_root) for one in (again, settings))
    assert {name for name in now.keys() | there.keys() if now.get(name) != there.get(name)} <= {
        "audits/backups/backups.jsonl"
    }


def test_a_later_delivery_leaves_the_person_out_and_takes_the_others(story, phantom, capsys):
    settings = story["settings"]
    platforms.take(settings, phantom.drops[0])
    told = capsys.readouterr()
    assert "withdrawn" in told.out + told.err
    platforms.run(settings)
    assert files_with(settings.data_root, story["words"]) == []


def test_withdrawing_again_changes_nothing_and_says_so(story, capsys):
    settings = story["settings"]
    before = settings.layout.tombstones.read_bytes()
    forget.withdraw(settings, story["raw"], yes=True, workers=1)
    told = capsys.readouterr()
    assert "has withdrawn already" in told.out + told.err
    assert settings.layout.tombstones.read_bytes() == before
    with pytest.raises(UsageError, match="nobody of that number"):
        forgetting.look("NOBODY-0", settings.layout, SecretKey.load(settings.deid.key_file, environ={}), 1)


def test_the_command_reads_whom_from_stdin_and_only_looks_without_yes(story):
    patient = pl.read_parquet(story["settings"].layout.cohort_manifest)["patient_id"][0]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CT_ASSETS_")}
    command = [sys.executable, "-c", "from ct_assets.cli import main; main()", "withdraw"]
    done = subprocess.run(
        [*command, "--config", str(story["folder"] / "settings.yaml")],
        input=f"{patient}\n", text=True, capture_output=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nothing was changed" in done.stdout + done.stderr
    assert patient in set(pl.read_parquet(story["settings"].layout.cohort_manifest)["patient_id"])
