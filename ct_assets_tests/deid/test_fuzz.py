"""Damaged files by the thousand: never a crash, never a leak, never a lost file."""

import io
import random
import warnings
from pathlib import Path

import polars as pl
import pydicom
import pytest

from ct_assets.errors import SafetyError
from ct_assets_tests.deid import mutations
from ct_assets_tests.deid.corpus import objects, pictures
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People, Person
from ct_assets_tests.deid.corpus.score import Released
from ct_assets_tests.deid.runs import Run, run

pytestmark = pytest.mark.filterwarnings("ignore")


def seeds_of_one_patient(seed: int) -> tuple[Person, list[bytes]]:
    """Return small whole files of one patient: slices, a segmentation, a capture."""
    people, uids = People(seed), Uids(seed)
    person = people.person()
    header = objects.study(person, uids)
    slices = objects.ct_series("26", "ct", person, header, uids)
    seg = objects.segmentation("26", "seg", person, slices, uids)
    capture = objects.thing("26", "sc", person, header, "7", "OT", uids)
    objects.image(capture, pictures.fan(48, 64, seed))
    return person, [thing.content() for thing in (*slices, seg, capture)]


def fuzz(folder: Path, person: Person, contents: list[bytes], *, seed: int, count: int) -> Run | None:
    """De-identify damaged files beside whole ones and hold the three promises.

    A damaged file can bring what only the leak scan sees, a UID where a class is expected, say: then the
    whole batch is held back, nothing is released, and None is returned.
    """
    dice = random.Random(seed)
    source, output = folder / "input", folder / "output"
    source.mkdir(parents=True)
    for number, content in enumerate(contents):
        (source / f"whole_{number}").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            content = mutations.mutated(under_a_uid_of_its_own(dice.choice(contents), number), dice, person)
            (source / f"damaged_{number:05d}").write_bytes(content)
        try:
            ran = run(source, output, workers=1)
        except SafetyError:
            assert not list(output.rglob("*.dcm"))
            return None
        assert_nothing_lost(ran)
        assert_nothing_leaked(ran, person)
    return ran


def under_a_uid_of_its_own(content: bytes, number: int) -> bytes:
    """Return the file under another SOPInstanceUID of the same length, so that no file doubles another."""
    old = pydicom.dcmread(io.BytesIO(content), specific_tags=["SOPInstanceUID"]).SOPInstanceUID
    return content.replace(old.encode(), f"{old[:-7]}1{number:06d}".encode())


def assert_nothing_lost(ran: Run) -> None:
    rows = pl.read_parquet(ran.paths.files)
    assert sorted(rows["path"]) == sorted(path.name for path in ran.input.iterdir())
    kept_back = rows.filter(pl.col("disposition") != "released")
    assert kept_back["reasons"].list.len().min() is None or kept_back["reasons"].list.len().min() > 0
    released = {path.stem for path in ran.paths.dicom.rglob("*.dcm")}
    assert released == set(rows.filter(pl.col("disposition") == "released")["new_sop_instance_uid"])
    held = {path.stem for path in ran.paths.quarantine.glob("*.dcm")}
    assert held == set(rows.filter(pl.col("disposition") == "quarantined")["sha256"])


def assert_nothing_leaked(ran: Run, person: Person) -> None:
    """No identifier of five characters or more as it was written, nor in capitals."""
    secrets = [token for token in person.secrets().values() if len(token) > 4]
    for path in ran.paths.dicom.rglob("*.dcm"):
        released = Released(path)
        leaks = [
            kind for kind, token in person.secrets().items() if token in secrets and released.holds(token)
        ]
        leaks += ["in capitals" for token in secrets if released.holds(token.upper())]
        assert not leaks, f"{path.stem}: {leaks}"
        assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"


def test_a_sample_of_damaged_files(tmp_path):
    person, contents = seeds_of_one_patient(1)
    ran = fuzz(tmp_path, person, contents, seed=1, count=120)
    assert ran is not None
    assert ran.summary.released > 20


@pytest.mark.parametrize("damage", mutations.DAMAGES, ids=lambda damage: damage.__name__)
def test_each_kind_of_damage_alone(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(mutations, "DAMAGES", (damage,))
    person, contents = seeds_of_one_patient(2)
    fuzz(tmp_path, person, contents, seed=2, count=12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 15))
def test_damaged_files_by_the_thousand(tmp_path, seed):
    person, contents = seeds_of_one_patient(seed)
    fuzz(tmp_path, person, contents, seed=seed, count=500)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("seed", range(4))
def test_damaged_real_headers(tmp_path, real_data, seed):
    """Real slices and masks, their pixels cut to a few rows, so that thousands are quick."""
    week = real_data / "lung_cohort/drops/2024-03-week2/Oxentrough"
    files = sorted(path for path in week.rglob("*") if path.is_file())
    contents = [path.read_bytes() for path in (files[0], files[9], files[-1])]
    dataset = pydicom.dcmread(files[0])
    family, _, given = str(dataset.PatientName).partition("^")
    tokens = {"accession number": dataset.AccessionNumber, "phone": dataset.PatientTelephoneNumbers}
    birth, number = dataset.PatientBirthDate, dataset.PatientID.strip()
    person = Person(family, given, number, "", birth, "", "", tokens=tokens)
    fuzz(tmp_path, person, contents, seed=seed, count=250)
