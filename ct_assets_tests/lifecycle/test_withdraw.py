"""One person leaves a platform: nothing of theirs stays, nothing of others goes, and nobody brings them back."""

import json
import shutil

import polars as pl
import pydicom
import pytest

from ct_assets import files
from ct_assets.deid.proof.verify import verify_store
from ct_assets.errors import UsageError
from ct_assets.identity import withdrawn
from ct_assets.identity.key import SecretKey
from ct_assets.intake import batches, markers
from ct_assets.layout import WITHDRAWALS_NAME
from ct_assets.lifecycle import affected_models as learners
from ct_assets.lifecycle import formats, sweep, withdraw
from ct_assets.lifecycle.unfinished import refuse_unfinished
from ct_assets.tables.cohort import SplitLedger
from ct_assets.tables.io import read_table
from ct_assets_tests.lifecycle import small
from ct_assets_tests.lifecycle.small import HERS, HIS, KEY, STRANGER


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small.platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture
def here(original, tmp_path):
    """A copy of the platform of its own."""
    shutil.copytree(original.layout.root, tmp_path / "data", symlinks=True)
    return small.Small(
        type(original.layout)(tmp_path / "data"), original.drop, original.first, original.second
    )


@pytest.fixture(scope="module")
def left(original, tmp_path_factory):
    """The platform that she has left, and what was said about it."""
    folder = tmp_path_factory.mktemp("left")
    shutil.copytree(original.layout.root, folder / "data", symlinks=True)
    place = small.Small(
        type(original.layout)(folder / "data"), original.drop, original.first, original.second
    )
    return place, small.carry_out(place)


def instances(folder) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("IM*")) if path.is_file()]


class TestNothingOfHersStays:
    def test_a_search_of_every_byte_finds_nothing(self, original, left):
        place, _ = left
        words = original.her_words
        assert small.files_with(original.layout.root, words), "the search can find her where she is"
        leftovers = [
            (path, word)
            for path, word in small.files_with(place.layout.root, words)
            if not (path == "cohort/case_numbers.parquet" and word == "case_0001")
        ]
        assert leftovers == []

    def test_her_slice_without_a_number_and_the_torso_are_gone_too(self, left):
        place, _ = left
        below = {path.name for path in place.layout.raw_batch(place.first).rglob("*")}
        assert not {"IM3", "torso.dcm", "letter.txt", "DICOMDIR"} & below
        assert "export.log" in below, "a log that names nobody stays"

    def test_what_waits_in_the_inbox_is_hers_no_more(self, left):
        place, _ = left
        [waiting] = batches.complete_batches(place.layout)
        kept = instances(place.layout.inbox_batch(waiting.batch))
        assert [one.PatientID for one in kept] == [HIS]

    def test_pages_and_volumes_of_her_case_are_gone_and_lists_no_longer_name_it(self, left):
        layout = left[0].layout
        assert not (layout.nifti / "imagesTr/case_0001.nii.gz").exists()
        assert not (layout.root / "models/e/0/predictions/case_0001").exists()
        assert json.loads((layout.nifti / "dataset.json").read_text()) == {
            "dataset": {"case_0000": "x", "case_0002": "x"}
        }
        assert not (layout.reports / "cases/index.html").exists(), "made anew by the next run"

    def test_the_record_of_the_withdrawal_itself_is_gone(self, left):
        assert not left[0].layout.withdrawal_under_way.exists()


class TestOthersStay:
    def test_every_delivery_still_agrees_with_its_marker(self, left):
        layout = left[0].layout
        folders = [*layout.raw.glob("b*"), *layout.inbox.glob("b*")]
        for folder in folders:
            assert not markers.differences(folder, markers.read(folder), "holding"), folder.name

    def test_released_objects_are_as_the_audit_says(self, left):
        verified = verify_store(left[0].layout)
        assert verified.faults == ()
        assert verified.files == 5

    def test_a_mention_is_overwritten_and_the_object_keeps_everything_else(self, original, left):
        place, report = left
        before, after = (
            next(
                one
                for one in instances(where.layout.raw_batch(where.first))
                if one.get("PatientID") == STRANGER and "ImageComments" in one
            )
            for where in (original, place)
        )
        assert report.outcome.masked == 1
        assert "same week" in after.ImageComments
        assert len(after.ImageComments) == len(before.ImageComments)
        assert after.PixelData == before.PixelData
        assert after.PatientName == before.PatientName
        for mention in ("ImageComments", "OtherPatientIDs", "ResponsiblePerson"):
            del after[mention], before[mention]
        assert after == before

    def test_her_brother_keeps_the_name_they_share(self, left):
        place, _ = left
        kept = [one for one in instances(place.layout.raw_batch(place.first)) if one.PatientID == HIS]
        assert [str(one.PatientName) for one in kept] == ["Quenneville^Barnabas"] * 2

    def test_a_folder_that_bore_her_name_keeps_its_files_under_another(self, left):
        place, _ = left
        kept = [one for one in instances(place.layout.raw_batch(place.first)) if one.PatientID == STRANGER]
        assert len(kept) == 2

    def test_nobody_moves_and_her_place_is_a_tombstone(self, original, left):
        before, after = (read_table(where.layout.splits, SplitLedger) for where in (original, left[0]))
        kept = ["row", "split", "fold", "added_at"]
        assert before.select(kept).equals(after.select(kept))
        changed = before.join(after, on="row", suffix="_after").filter(
            pl.col("patient_id") != pl.col("patient_id_after")
        )
        assert changed["patient_id_after"].to_list() == [
            withdrawn.tombstone(KEY, original.pseudonym_of(HERS))
        ]
        assert changed["stage_after"].to_list() == [None]

    def test_files_of_others_keep_their_dispositions(self, original, left):
        """Her files and what named her leave the crosswalk; every other file keeps its row."""
        before, after = (
            pl.read_parquet(where.layout.deid_paths(where.first).files) for where in (original, left[0])
        )
        assert before.height == 11
        assert after.height == 5
        stranger = after.filter(pl.col("path").str.contains("IM")).sort("path")
        there = {
            path.relative_to(left[0].layout.raw_batch(left[0].first)).as_posix()
            for path in left[0].layout.raw_batch(left[0].first).rglob("*")
            if path.is_file()
        }
        assert set(after["path"]) == there - {".complete"}
        on_disk = [
            files.sha256_file(left[0].layout.raw_batch(left[0].first) / path) for path in stranger["path"]
        ]
        assert stranger["sha256"].to_list() == on_disk


class TestShesRefused:
    def test_a_later_delivery_of_hers_is_not_taken_and_others_in_it_are(self, here, tmp_path):
        small.carry_out(here)
        again = small.delivery(tmp_path / "again")
        batch = small.take_in(here.layout, again)
        ids = {one.get("PatientID") for one in instances(here.layout.raw_batch(batch))}
        assert HERS not in ids
        assert {HIS, STRANGER} <= ids
        released = {path.name for path in here.layout.deid_batch(batch).iterdir()}
        assert here.pseudonym_of(HERS) not in released

    def test_a_delivery_of_nobody_else_leaves_nothing_behind(self, here, tmp_path):
        small.carry_out(here)
        only = tmp_path / "only"
        small.made.save(small.slice_of(1, 77), only / "IM77")
        with pytest.raises(UsageError, match="every file is of people who have withdrawn"):
            batches.ingest(only, here.layout, KEY)
        assert not any("partial" in path.name for path in here.layout.inbox.iterdir())

    def test_a_delivery_that_others_put_into_the_inbox_is_cleaned_when_it_is_registered(self, here):
        small.carry_out(here)
        folder = here.layout.inbox_batch("direct")
        small.made.save(small.slice_of(1, 78), folder / "a/IM78")
        small.made.save(small.slice_of(3, 78), folder / "a/IM79")
        markers.take(folder, "test").write(folder)
        registered = batches.register(here.layout, "direct", withdrawn.load(here.layout.tombstones, KEY))
        assert registered.files == 1
        [line] = [
            json.loads(line) for line in here.layout.deliveries.read_text().splitlines() if '"direct"' in line
        ]
        assert line["reasons"] == {"withdrawn": 1}

    def test_deidentification_refuses_her_files_with_a_row_and_releases_nothing(self, here, tmp_path):
        from ct_assets.deid.batch.run import deidentify
        from ct_assets.layout import DeidPaths
        from ct_assets.settings.deid import DeidProfile

        small.carry_out(here)
        gone = withdrawn.load(here.layout.tombstones, KEY)
        paths = DeidPaths.of_command(tmp_path / "out")
        deidentify(here.drop, paths, DeidProfile(), KEY, refused=gone, workers=1)
        rows = pl.read_parquet(paths.files).filter(pl.col("reasons").list.contains("withdrawn"))
        assert rows["path"].to_list() == ["DICOMDIR", "hers/IM1", "hers/IM2", "loose/IM3"]
        assert rows["disposition"].unique().to_list() == ["rejected"]
        written = [
            path for path in (paths.dicom, paths.audit.parent) for path in path.rglob("*") if path.is_file()
        ]
        assert not [path for path in written if here.pseudonym_of(HERS).encode() in path.read_bytes()]
        uids = pl.read_parquet(paths.uid_map)["old_uid"]
        assert not uids.str.starts_with(f"{small.ROOT}.1.").any()

    def test_her_study_is_known_again_under_another_number(self, here):
        small.carry_out(here)
        gone = withdrawn.load(here.layout.tombstones, KEY)
        assert gone.holds("SOMEBODY-ELSE", ISSUER := "HOSP-B", f"{small.ROOT}.1.1"), ISSUER
        assert not gone.holds(HIS, small.ISSUER, f"{small.ROOT}.2.1")

    def test_without_the_key_nothing_is_taken_in_once_somebody_withdrew(self, here):
        small.carry_out(here)
        with pytest.raises(UsageError, match="without the key nobody can tell"):
            batches.ingest(here.drop, here.layout, None)

    def test_the_ledgers_give_her_no_new_place(self, here):
        from ct_assets.cohort import splits
        from ct_assets.settings.folds import SplitSettings

        small.carry_out(here)
        patients = pl.DataFrame({"patient_id": [here.pseudonym_of(one) for one in (HERS, HIS)]})
        ledger = read_table(here.layout.splits, SplitLedger)
        again = splits.extend(
            ledger, patients, SplitSettings(folds=2), small.NOW, tombstone=withdrawn.tombstone_of(KEY)
        )
        assert again.equals(ledger)


class TestObjectingInAdvance:
    def test_refuses_a_number_of_whom_nothing_is_here_whatever_the_issuer(self, here):
        withdraw.refuse_in_advance(" new-0042 ", here.layout, KEY, small.NOW)
        withdraw.refuse_in_advance("NEW-0042", here.layout, KEY)
        assert len(here.layout.tombstones.read_text().splitlines()) == 1
        gone = withdrawn.load(here.layout.tombstones, KEY)
        assert gone.holds("NEW-0042", "ANY-HOSPITAL")
        assert not gone.holds(HIS, small.ISSUER)
        assert "0042" not in here.layout.tombstones.read_text()


class TestTheTombstone:
    def test_holds_neither_identity_nor_pseudonym_and_differs_by_key(self, original, left):
        text = left[0].layout.tombstones.read_text()
        assert not any(word in text for word in original.her_words)
        other = SecretKey(bytes(range(1, 33)))
        pseudonym = original.pseudonym_of(HERS)
        assert withdrawn.tombstone(KEY, pseudonym) in text
        assert withdrawn.tombstone(other, pseudonym) not in text

    def test_is_written_once(self, here):
        small.carry_out(here)
        before = here.layout.tombstones.read_bytes()
        assert withdraw.has_withdrawn(HERS, here.layout, KEY)
        assert withdraw.has_withdrawn(here.pseudonym_of(HERS), here.layout, KEY)
        with pytest.raises(UsageError, match="nobody of that number"):
            withdraw.look(HERS, here.layout, KEY, workers=1)
        assert here.layout.tombstones.read_bytes() == before


class TestLooking:
    def test_changes_nothing(self, here):
        before = {path: path.read_bytes() for path in here.layout.root.rglob("*") if path.is_file()}
        withdraw.look(HERS, here.layout, KEY, workers=1)
        after = {path: path.read_bytes() for path in here.layout.root.rglob("*") if path.is_file()}
        assert before == after

    def test_tells_no_identity(self, here, original):
        lines = "\n".join(withdraw.look(HERS, here.layout, KEY, workers=1).lines(here.layout))
        assert not [word for word in original.her_words - {"case_0001"} if word in lines]

    def test_finds_her_by_number_in_any_spelling_and_by_pseudonym(self, here):
        looked = [
            withdraw.look(word, here.layout, KEY, workers=1).subject.pseudonyms
            for word in (HERS, " qx4471093 ", here.pseudonym_of(HERS))
        ]
        assert looked == [{here.pseudonym_of(HERS)}] * 3

    def test_two_people_of_one_number_are_told_apart_by_the_pseudonym(self, here, tmp_path):
        other = tmp_path / "other"
        small.made.save(
            small.made.ct(PatientID=HERS, IssuerOfPatientID="HOSP-B", StudyInstanceUID="1.2.3.4.5",
                          SOPInstanceUID="1.2.3.4.5.6", SeriesInstanceUID="1.2.3.4.5.7"),
            other / "IM1",
        )  # fmt: skip
        batches.ingest(other, here.layout, KEY)
        with pytest.raises(UsageError, match="2 people have that number"):
            withdraw.look(HERS, here.layout, KEY, workers=1)

    def test_another_key_is_refused(self, here):
        with pytest.raises(UsageError, match="another key"):
            withdraw.look(HERS, here.layout, SecretKey(bytes(range(1, 33))), workers=1)


class TestBrokenOff:
    @pytest.mark.parametrize(
        "place",
        ["entomb", "deliveries.remove", "sweep.sweep", "sweep._recount", "search.search", "learners.mark"],
    )
    def test_wherever_it_was_killed_going_on_gives_the_same(self, here, left, monkeypatch, place):
        """Killed at a step, gone on with: the same files as without, and nothing of hers."""
        module, _, name = place.rpartition(".")
        target = getattr(withdraw, module) if module else sweep

        def die(*_args, **_options):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(target, name, die)
            with pytest.raises(KeyboardInterrupt):
                small.carry_out(here)
        with pytest.raises(UsageError, match="withdraw --continue"):
            refuse_unfinished(here.layout)
        small.finish(here, withdraw.look_again(here.layout, KEY, workers=1))
        assert contents(here.layout.root) == contents(left[0].layout.root)

    def test_halfway_through_the_files_of_a_delivery(self, here, left, monkeypatch):
        from ct_assets.intake import taking_out

        with monkeypatch.context() as patched:
            patched.setattr(taking_out, "_write_marker", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                small.carry_out(here)
        small.finish(here, withdraw.look_again(here.layout, KEY, workers=1))
        assert contents(here.layout.root) == contents(left[0].layout.root)


def contents(root) -> dict[str, bytes]:
    """Every file as bytes; tables as rows, databases and clock times left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in (".db", ".lock") and path.name != ".lock":
            name = path.relative_to(root).as_posix()
            found[name] = (
                pl.read_parquet(path).write_ndjson() if path.suffix == ".parquet" else path.read_bytes()
            )
    return found


class TestModels:
    def test_who_learned_from_her_is_known_from_the_list_beside_the_training(self, original):
        found = withdraw.look(HERS, original.layout, KEY, workers=1)
        assert {one for one in found.subject.learners if one[0] == "e"} == {("e", "1", learners.LEARNED)}

    def test_of_brain_ct_all_but_the_fold_that_validated_her_learned(self, original):
        ledger = read_table(original.layout.brain / "splits.parquet", SplitLedger)
        [fold] = ledger.filter(pl.col("patient_id") == original.pseudonym_of(HERS))["fold"]
        found = withdraw.look(HERS, original.layout, KEY, workers=1)
        learned = {name for experiment, name, _ in found.subject.learners if experiment == "brain"}
        assert learned == {"c/0", "c/1", "final"} - {f"c/{fold}"}

    def test_of_brain_ct_are_marked_and_their_ledger_has_the_tombstone(self, original, left):
        brain = left[0].layout.brain
        ledger = read_table(brain / "splits.parquet", SplitLedger)
        assert withdrawn.tombstone(KEY, original.pseudonym_of(HERS)) in ledger["patient_id"].to_list()
        assert learners.HEADING in (brain / "final/card.md").read_text()
        assert not (brain / "prepared").exists()
        assert pl.read_parquet(brain / "features.parquet").height == 2

    def test_bear_a_mark_on_record_and_card(self, left):
        folder = left[0].layout.experiment("e")
        [record] = json.loads((folder / WITHDRAWALS_NAME).read_text()).values()
        assert record["trainings"] == {"1": "learned"}
        card = (folder / "final/card.md").read_text()
        assert card.startswith("# A model\n")
        assert card.count("One person of the training data has withdrawn") == 1

    def test_of_two_people_the_card_tells_both(self, here):
        ledger = read_table(here.layout.splits, SplitLedger).filter(pl.col("split") == "train")
        for patient in sorted(ledger["patient_id"]):
            small.carry_out(here, patient)
        card = (here.layout.experiment("e") / "final/card.md").read_text()
        assert card.count("Withdrawn consent") == 1
        assert "2 people of the training data have" in card


class TestJson:
    def test_entries_of_hers_go_at_the_level_at_which_they_are_hers(self, tmp_path):
        from ct_assets.lifecycle.finder import Finder

        path = tmp_path / "some.json"
        content = {
            "by_patient": {"PABC": {"x": 1}, "POTHER": {"x": 2}},
            "cases": [{"case_id": "case_0001", "dice": 0.5}, {"case_id": "case_00011", "dice": 0.7}],
            "folds": {"0": ["PABC", "POTHER"]},
            "note": "nothing",
        }
        files.write_json(path, content)
        assert formats.json(path, Finder(frozenset({"PABC", "case_0001"}))) == 3
        assert files.read_json(path) == {
            "by_patient": {"POTHER": {"x": 2}},
            "cases": [{"case_id": "case_00011", "dice": 0.7}],
            "folds": {"0": ["POTHER"]},
            "note": "nothing",
        }
