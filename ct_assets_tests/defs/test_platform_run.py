"""The whole graph to training's door, on the phantom, through a real instance."""

import stat
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.phantom import cohort
from ct_assets.storage.outputs import output_differences
from ct_assets_tests.defs import platforms

ELIGIBLE = 9


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> cohort.PhantomCohort:
    return cohort.make(tmp_path_factory.mktemp("phantom") / "cohort", patients=ELIGIBLE, seed=11, workers=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom):
    """A platform that took both drops and ran once."""
    folder = tmp_path_factory.mktemp("finished")
    platforms.write_settings(folder, phantom.labels_csv)
    settings = platforms.settings_of(folder)
    for drop in phantom.drops:
        platforms.take(settings, drop)
    outcome = platforms.run(settings)
    return settings, outcome


def eligibility_by_patient(settings) -> dict[str, dict]:
    table = pl.read_parquet(settings.layout.eligibility)
    return {row["patient_id"]: row for row in table.iter_rows(named=True)}


def test_every_patient_is_judged_as_expected(finished, phantom):
    settings, _ = finished
    judged, known_as = eligibility_by_patient(settings), platforms.pseudonyms(settings)
    for row in platforms.expected_of(phantom.expected_csv):
        pseudonym = known_as.get((row["patient"], row["issuer"]))
        if pseudonym is None:
            assert row["reason"] == "label_without_images"
            continue
        assert judged[pseudonym]["is_eligible"] == (row["eligible"] == "yes"), row
        assert bool(judged[pseudonym]["reasons"]) == (row["eligible"] == "no"), row


def test_every_asset_as_far_as_the_door_was_made(finished):
    _, outcome = finished
    assert {name for name, _ in outcome.made} == {
        name for name, node in GRAPH.items() if node.automated or node.partition == "batch"
    }


def test_no_identifier_stands_in_anything_but_the_restricted_folders(finished, phantom):
    """A byte search, also through Dagster's own storage: names and numbers of the phantom's people."""
    settings, _ = finished
    root = settings.data_root
    restricted = {folder.relative_to(root).as_posix() for folder in settings.layout.restricted}
    tokens = pl.read_csv(phantom.leak_tokens_csv, infer_schema_length=0)["token"].to_list()
    searched = [token.encode() for token in tokens if len(token) >= 6]
    leaks = []
    for path in root.rglob("*"):
        relative = path.relative_to(root).as_posix()
        if not path.is_file() or any(relative.startswith(folder) for folder in restricted):
            continue
        content = path.read_bytes()
        leaks += [relative for token in searched if token in content]
    assert leaks == []


def test_restricted_folders_are_closed_to_others(finished):
    settings, _ = finished
    for folder in settings.layout.restricted:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_every_case_has_image_and_mask(finished):
    settings, _ = finished
    manifest = pl.read_parquet(settings.layout.cohort_manifest)
    assert manifest.height == ELIGIBLE
    for row in manifest.iter_rows(named=True):
        assert (settings.data_root / row["image"]).is_file()
        assert (settings.data_root / row["label"]).is_file()


def test_a_second_run_does_nothing(finished):
    settings, _ = finished
    before = platforms.digests(settings.data_root)
    assert platforms.run(settings).made == []
    assert platforms.digests(settings.data_root) == before


def test_deleted_and_changed_outputs_are_written_again_as_they_were(finished):
    settings, _ = finished
    root, layout = settings.data_root, settings.layout
    products = (*platforms.PRODUCTS, "reports/cases", "reports/drift")
    before = platforms.digests(root, products)
    image = next(iter(sorted((layout.nifti / "imagesTr").glob("*.nii.gz"))))
    image.write_bytes(image.read_bytes()[:-9] + b"tampered!")
    page = layout.reports / "cases" / f"{image.name.removesuffix('.nii.gz')}_small.png"
    audit = sorted(layout.metadata_audits.glob("*/*.parquet"))[0]
    pl.read_parquet(audit).with_columns(patient_id=pl.lit("another")).write_parquet(audit)
    drift = layout.fold("0") / "drift.json"
    for path in (page, layout.label_report, layout.ct_prepro_dir / "masks.parquet", drift):
        path.unlink()
    named = "\n".join(output_differences(settings))
    for path in (image, page, audit, layout.label_report, drift):
        assert layout.relative(path) in named
    remade = {name for name, _ in platforms.run(settings).made}
    assert {"metadata_audit", "ct_prepro_audit", "labels", "nifti_cohort", "split_drift"} <= remade
    assert platforms.digests(root, products) == before
    assert output_differences(settings) == []


def test_all_checks_were_evaluated_and_the_safety_checks_passed(finished):
    settings, _ = finished
    with platforms.instance_of(settings) as instance:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [
                dg.AssetCheckKey(dg.AssetKey(asset), check)
                for asset, check in [
                    ("deid_dicom", "leak_scan_finds_nothing"),
                    ("deid_audit", "every_file_has_a_disposition"),
                    ("uid_map", "no_original_uid_is_left"),
                    ("splits", "no_patient_in_two_splits"),
                    ("nifti_cohort", "every_case_has_its_pair"),
                    ("fold_plan", "plan_knows_training_patients_only"),
                ]
            ]
        )
    assert len(records) == 6
    assert {record.status.value for record in records.values()} == {"SUCCEEDED"}


@pytest.mark.slow
class TestOrderOfArrival:
    def test_both_batches_before_one_run_give_the_same_bytes_in_either_order(
        self, finished, phantom, tmp_path
    ):
        settings, _ = finished
        platforms.write_settings(tmp_path, phantom.labels_csv)
        other = platforms.settings_of(tmp_path)
        for drop in reversed(phantom.drops):
            platforms.take(other, drop)
        platforms.run(other)
        expected, found = platforms.digests(settings.data_root), platforms.digests(other.data_root)
        differing = {path for path in expected | found if expected.get(path) != found.get(path)}
        assert differing <= {"audits/intake/deliveries.jsonl"}, "the record of deliveries is one of arrival"

    def test_a_run_after_each_batch_gives_the_same_patients_images_and_masks(
        self, finished, phantom, tmp_path
    ):
        settings, _ = finished
        platforms.write_settings(tmp_path, phantom.labels_csv)
        other = platforms.settings_of(tmp_path)
        for drop in reversed(phantom.drops):
            platforms.take(other, drop)
            platforms.run(other)
        assert eligibility_by_patient(other) == eligibility_by_patient(settings)
        assert content_by_patient(other) == content_by_patient(settings)


def content_by_patient(settings) -> dict[str, tuple[bytes, bytes]]:
    manifest = pl.read_parquet(settings.layout.cohort_manifest)
    return {
        row["patient_id"]: tuple(
            (settings.data_root / row[column]).read_bytes() for column in ("image", "label")
        )
        for row in manifest.iter_rows(named=True)
    }


@pytest.mark.slow
def test_a_batch_that_is_corrected_replaces_its_files_and_only_what_stood_on_them(
    finished, phantom, tmp_path
):
    """One patient's SEG is missing from the corrected delivery: the patient leaves, case numbers stay."""
    platforms.write_settings(tmp_path, phantom.labels_csv)
    settings = platforms.settings_of(tmp_path)
    platforms.take(settings, phantom.drops[0], "week-1")
    platforms.run(settings)
    before = pl.read_parquet(settings.layout.cohort_manifest)
    corrected = tmp_path / "corrected"
    removed = copy_without_one_seg(settings, phantom.drops[0], corrected, before["patient_id"][0])
    platforms.take(settings, corrected, "week-1")
    platforms.run(settings)
    after = pl.read_parquet(settings.layout.cohort_manifest)
    assert set(before["patient_id"]) - set(after["patient_id"]) == {removed}
    numbers = dict(before.select("patient_id", "case_id").iter_rows())
    assert all(
        numbers[patient] == case for patient, case in after.select("patient_id", "case_id").iter_rows()
    )
    reasons = eligibility_by_patient(settings)[removed]["reasons"]
    assert "no_seg" in reasons


def copy_without_one_seg(settings, drop: Path, target: Path, pseudonym: str) -> str:
    import shutil

    import pydicom

    shutil.copytree(drop, target)
    known_as = platforms.pseudonyms(settings)
    for path in sorted(target.rglob("*")):
        if not path.is_file():
            continue
        try:
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["PatientID", "Modality", "IssuerOfPatientID"]
            )
        except pydicom.errors.InvalidDicomError:
            continue
        who = (str(header.get("PatientID", "")).strip(), str(header.get("IssuerOfPatientID", "")).strip())
        if header.get("Modality") == "SEG" and known_as.get(who) == pseudonym:
            path.unlink()
    return pseudonym
