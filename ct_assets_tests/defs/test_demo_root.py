"""The demo's data root: its own or an empty one, and everything below it."""

import pytest

from ct_assets import files
from ct_assets.defs.operations import demo, demo_root
from ct_assets.errors import UsageError


def test_another_root_takes_key_and_labels_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_ASSETS_DATA", str(tmp_path / "mine"))
    settings = demo.demo_settings()
    inside = (settings.data_root, settings.deid.key_file, settings.labels.csv)
    assert all(path.is_relative_to(tmp_path / "mine") for path in inside)


@pytest.mark.parametrize("content", ["phantom/x", "cohort/cohort_manifest.parquet", "demo.key", "note.txt"])
def test_a_root_that_no_demo_made_is_refused_and_kept(tmp_path, monkeypatch, content):
    path = tmp_path / "platform" / content
    path.parent.mkdir(parents=True)
    path.write_text("somebody's")
    monkeypatch.setenv("CT_ASSETS_DATA", str(tmp_path / "platform"))
    with pytest.raises(UsageError, match="not the platform of an earlier demo; nothing was touched"):
        demo.run_demo()
    assert path.read_text() == "somebody's"


def test_an_earlier_demo_and_an_empty_folder_are_taken(tmp_path):
    demo.refuse_foreign(tmp_path / "absent")
    demo.refuse_foreign(tmp_path)
    demo._write_public_key(tmp_path / demo.KEY_NAME)
    (tmp_path / "phantom").mkdir()
    demo.refuse_foreign(tmp_path)


def test_a_store_is_no_place_for_a_demo(monkeypatch):
    monkeypatch.setenv("CT_ASSETS_DATA", "s3://bucket/data")
    with pytest.raises(UsageError, match="folder of this machine"):
        demo.demo_settings()


class TestAgain:
    """A second demo removes the first one's data, and nothing that a person added."""

    @pytest.fixture
    def root(self, tmp_path):
        for path in ("raw/dicom_input/first", "inbox", "models/demo/0"):
            (tmp_path / path).mkdir(parents=True)
        demo_root.record_batches(tmp_path, ["first"])
        return tmp_path

    def prepare(self, root, wish=None):
        demo_root.prepare(root, wish, own_experiments=frozenset({"demo"}))

    def test_what_the_demo_made_is_made_again(self, root):
        self.prepare(root)
        assert not root.exists()

    @pytest.mark.parametrize("work", ["inbox/mine", "raw/dicom_input/mine", "models/mine"])
    def test_work_of_a_person_is_refused_and_kept_where_nobody_can_be_asked(self, root, work):
        (root / work).mkdir()
        with pytest.raises(UsageError, match=r"1 (batches|experiments).*--keep.*--fresh"):
            self.prepare(root)
        self.prepare(root, "keep")
        assert (root / work).is_dir()
        self.prepare(root, "fresh")
        assert not root.exists()

    @pytest.mark.parametrize(
        "line", ["audits/deid/first/quarantine_review.jsonl", "audits/withdrawals/tombstones.jsonl"]
    )
    def test_decisions_and_withdrawals_are_work(self, root, line):
        files.write_jsonl(root / line, [{"a": 1}])
        with pytest.raises(UsageError, match=r"1 (decisions|withdrawals)"):
            self.prepare(root)
