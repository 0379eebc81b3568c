"""The phantom run with its data root in Azurite and in moto's S3: the same digests as on local disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ct_assets.errors import UsageError
from ct_assets.phantom import cohort
from ct_assets.settings import Settings
from ct_assets.storage import session
from ct_assets_tests.defs import platforms
from ct_assets_tests.services.servers_storage import STORES, ObjectStore

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> cohort.PhantomCohort:
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    return cohort.make(folder, patients=7, seed=3, faulty=("no_seg", "missing_slice"), workers=2)


@pytest.fixture(scope="module")
def local(tmp_path_factory, phantom) -> dict[str, str]:
    """Digests of every product of a run on local disk."""
    folder = tmp_path_factory.mktemp("local")
    platforms.write_settings(folder, phantom.labels_csv)
    settings = platforms.settings_of(folder)
    for drop in phantom.drops:
        platforms.take(settings, drop)
    platforms.run(settings)
    return platforms.digests(settings.data_root)


@pytest.fixture(scope="module")
def cases(local) -> dict[str, str]:
    """The same as far as the cases: killed and interrupted runs go no further."""
    return {path: digest for path, digest in local.items() if not path.startswith("folds/")}


@pytest.fixture(scope="module", params=STORES)
def store(request, tmp_path_factory):
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


def machine(folder: Path, phantom: cohort.PhantomCohort, store: ObjectStore, **storage: object) -> Settings:
    """The settings of a machine that has nothing but its configuration and the key."""
    platforms.write_settings(
        folder,
        phantom.labels_csv,
        data_root=store.url,
        storage={"work_root": str(folder / "work"), "patience_seconds": 2, **storage},
    )
    return platforms.settings_of(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom, store) -> Settings:
    """A machine that took both drops and ran once."""
    settings = machine(tmp_path_factory.mktemp("machine"), phantom, store)
    take_both(settings, phantom)
    platforms.run(settings)
    return settings


def take_both(settings: Settings, phantom: cohort.PhantomCohort) -> None:
    for drop in phantom.drops:
        with session.opened(settings):
            platforms.take(settings, drop)


def from_the_store_alone(folder: Path, phantom: cohort.PhantomCohort, store: ObjectStore) -> dict[str, str]:
    """Digests of what a fresh machine fetches."""
    settings = machine(folder, phantom, store)
    session.everything(settings)
    return platforms.digests(settings.data_root)


def test_the_whole_run_gives_the_digests_of_local_disk(finished, local, phantom, store, tmp_path, tried):
    assert platforms.digests(finished.data_root) == local
    assert from_the_store_alone(tmp_path, phantom, store) == local
    tried(
        f"phantom run at {store.url}",
        "the digests of local disk, also from the store alone",
        f"{len(local)} files",
    )


def test_a_second_machine_starts_from_the_store_and_finds_nothing_to_do(finished, phantom, store, tmp_path):
    other = machine(tmp_path, phantom, store)
    assert platforms.run(other).made == []
    there = {path.relative_to(other.data_root).as_posix() for path in other.data_root.rglob("*")}
    originals = {name for name in there if name.startswith("raw/") and name.endswith(".dcm")}
    assert originals == set(), "nothing to do needs no originals"


def test_neither_key_nor_password_nor_name_of_a_person_lies_open_in_the_store(finished, phantom, store):
    import polars as pl

    files, root = store.files()
    tokens = pl.read_csv(phantom.leak_tokens_csv, infer_schema_length=0)["token"].to_list()
    searched = [token.encode() for token in tokens if len(token) >= 6] + [platforms.KEY_HEX.encode()]
    for path in files.find(root):
        inside = path[len(root) + 1 :]
        if inside.startswith("restricted/"):
            continue
        content = files.cat_file(path)
        assert not any(token in content or token.decode() in inside for token in searched)


def run_and_kill(folder: Path, words: str) -> None:
    """Run the command on a machine and kill its whole process group at the first line that holds `words`."""
    command = [
        sys.executable,
        "-c",
        "from ct_assets.cli import main; main()",
        "run",
        "--until",
        "nifti_cohort",
    ]
    running = subprocess.Popen(
        [*command, "--config", str(folder / "settings.yaml")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    for line in running.stderr:
        if words in line:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return
    raise AssertionError(f"the run never came to: {words}")


@pytest.mark.parametrize("words", ["publishing to the store", "cases: "])
def test_killed_anywhere_another_machine_goes_on_from_the_store(words, phantom, cases, tmp_path, tried):
    with STORES["moto"](tmp_path / "store") as store:
        first = machine(tmp_path / "first", phantom, store)
        take_both(first, phantom)
        run_and_kill(tmp_path / "first", words)
        second = machine(tmp_path / "second", phantom, store)
        platforms.run(second, until="nifti_cohort")
        assert from_the_store_alone(tmp_path / "third", phantom, store) == cases
    tried(f"machine killed at `{words}`", "another goes on from the store; same digests")


def test_a_store_that_goes_away_is_told_and_what_was_made_goes_up_later(phantom, cases, tmp_path, tried):
    with STORES["azurite"](tmp_path / "store") as store:
        one = machine(tmp_path / "one", phantom, store)
        take_both(one, phantom)
        store.server.end()
        with pytest.raises(UsageError, match=r"az://ct-assets/lung: the store does not answer"):
            platforms.run(one, until="nifti_cohort")
        store.server = store.restart()
        platforms.run(one, until="nifti_cohort")
        assert from_the_store_alone(tmp_path / "other", phantom, store) == cases
    tried("object store away", "told in one line; what was made goes up later; same digests")
