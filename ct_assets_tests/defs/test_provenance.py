"""What decides whether an asset is made again."""

import shutil

import dagster as dg
import pytest

from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.provenance import Records, input_digest
from ct_assets.settings import load_settings
from ct_assets.settings.load import PROJECT_ROOT


@pytest.fixture
def machine(tmp_path):
    """Return how to set up a machine: the same settings in a folder of its own, with the files that they name."""

    def of(name, labels="PatientID,Stage\n1,I\n", query="eligibility.sql"):
        folder = tmp_path / name
        shutil.copytree(PROJECT_ROOT / "configs", folder)
        (folder / "raw_manifest.csv").write_text(labels)
        (folder / "eligibility.sql").rename(folder / query)
        settings = f"\neligibility: {{query: {query}}}\n"
        path = folder / "settings.yaml"
        path.write_text(
            (folder / "local.yaml").read_text().replace("# csv:", "csv: raw_manifest.csv #") + settings
        )
        return Platform(load_settings(path, environ={}))

    return of


def digest(platform, name):
    with dg.DagsterInstance.ephemeral() as instance:
        return input_digest(Records(instance), platform, name, None)


@pytest.mark.parametrize("asset", ["labels", "eligibility"])
def test_where_an_outside_file_lies_does_not_count(machine, asset):
    """Two machines of one platform have their checkouts in different folders."""
    assert digest(machine("here"), asset) == digest(machine("there"), asset)


def test_what_stands_in_it_counts(machine):
    assert digest(machine("here"), "labels") != digest(
        machine("there", labels="PatientID,Stage\n1,II\n"), "labels"
    )


def test_another_file_counts(machine):
    assert digest(machine("here"), "eligibility") != digest(
        machine("there", query="strict.sql"), "eligibility"
    )
