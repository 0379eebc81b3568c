"""Whole batches: dispositions, tables, repeatability, and that nothing is released on a leak."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import polars as pl
import pydicom
import pytest

from ct_assets import parallel
from ct_assets.deid.batch import run as run_module
from ct_assets.deid.batch import second_pass
from ct_assets.deid.batch.staging import Staging
from ct_assets.deid.elements import method
from ct_assets.deid.elements.derive import is_ambiguous
from ct_assets.deid.elements.spelling import fold
from ct_assets.deid.proof import batch as proof
from ct_assets.deid.proof.checks import lost_files, uid_map_faults
from ct_assets.deid.proof.leak_scan import Hit
from ct_assets.errors import SafetyError, UsageError
from ct_assets.files import sha256_file
from ct_assets.identity.uids import new_uid
from ct_assets.progress import Timings
from ct_assets.settings.deid import DeidProfile
from ct_assets_tests.deid.made import PDF, SEG, SR, as_bytes, ct, save, sequence
from ct_assets_tests.deid.runs import KEY, run


def slices(folder: Path, count: int = 3, **values: object) -> list[Path]:
    return [
        save(ct(SOPInstanceUID=f"1.2.3.{n}", InstanceNumber=str(n), **values), folder / f"im{n}")
        for n in range(1, count + 1)
    ]


def files_of(made) -> dict[str, tuple[str, tuple[str, ...]]]:
    table = pl.read_parquet(made.paths.files)
    return {row["path"]: (row["disposition"], tuple(row["reasons"])) for row in table.iter_rows(named=True)}


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestWhatIsWritten:
    def test_released_objects_lie_under_their_new_names(self, tmp_path):
        slices(tmp_path / "in/Quenneville")
        made = run(tmp_path / "in", tmp_path / "out")
        for path in made.paths.dicom.rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            names = (dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
            assert path == made.paths.dicom.joinpath(*names, f"{dataset.SOPInstanceUID}.dcm")
        assert made.summary.released == len(list(made.paths.dicom.rglob("*.dcm"))) == 3

    def test_the_crosswalk_is_for_its_owner_only(self, tmp_path):
        slices(tmp_path / "in")
        paths = run(tmp_path / "in", tmp_path / "out").paths
        for restricted in (paths.uid_dir, paths.quarantine):
            assert restricted.stat().st_mode & 0o777 == 0o700
        for table in (paths.files, paths.uid_map, paths.patient_map):
            assert table.stat().st_mode & 0o777 == 0o600

    def test_the_audit_has_a_line_an_instance_and_no_original_value(self, tmp_path):
        slices(tmp_path / "in", StudyDescription="CT Quenneville")
        made = run(tmp_path / "in", tmp_path / "out")
        lines = [orjson.loads(line) for line in made.paths.audit.read_bytes().splitlines()]
        assert [line["disposition"] for line in lines] == ["released"] * 3
        assert all(line["pixel_digest_before"] == line["pixel_digest_after"] for line in lines)
        text = made.paths.audit.read_text()
        assert not [word for word in ("uenneville", "QX4471093", "19610417", "1.2.3.1") if word in text]
        fates = {fate["path"]: fate for fate in lines[0]["elements"]}
        assert fates["StudyDescription"] == {
            "path": "StudyDescription", "rule": "113105 C", "action": "cleaned",
        }  # fmt: skip

    def test_the_patient_map_holds_every_spelling(self, tmp_path):
        save(ct(SOPInstanceUID="1.2.3.1", PatientID="abc 1 "), tmp_path / "in/a")
        save(ct(SOPInstanceUID="1.2.3.2", PatientID="ABC 1"), tmp_path / "in/b")
        table = pl.read_parquet(run(tmp_path / "in", tmp_path / "out").paths.patient_map)
        assert table["old_patient_id"].to_list() == ["ABC 1", "abc 1"]
        assert table["new_patient_id"].n_unique() == table["shift_days"].n_unique() == 1

    def test_timings_name_the_steps(self, tmp_path):
        slices(tmp_path / "in")
        timings = Timings()
        run_module.deidentify(
            tmp_path / "in",
            run(tmp_path / "in", tmp_path / "o").paths,
            DeidProfile(),
            KEY,
            workers=1,
            timings=timings,
        )
        assert [step["step"] for step in timings.steps] == [
            "inventory",
            "deidentify",
            "burned_in",
            "leak_scan",
        ]


class TestTheUidMap:
    def test_is_a_graph_with_types_and_parents(self, tmp_path):
        slices(
            tmp_path / "in", count=1, ReferencedImageSequence=sequence(ReferencedSOPInstanceUID="1.2.3.99")
        )
        paths = run(tmp_path / "in", tmp_path / "out").paths
        rows = {row["old_uid"]: row for row in pl.read_parquet(paths.uid_map).iter_rows(named=True)}
        made = ct()
        assert rows["1.2.3.1"]["uid_type"] == "instance"
        assert rows["1.2.3.1"]["parent_new_uid"] == rows[made.SeriesInstanceUID]["new_uid"]
        assert rows[made.SeriesInstanceUID]["parent_new_uid"] == rows[made.StudyInstanceUID]["new_uid"]
        assert rows[made.FrameOfReferenceUID]["uid_type"] == "frame_of_reference"
        assert (rows["1.2.3.99"]["seen_as"], rows["1.2.3.1"]["seen_as"]) == ("reference", "instance")
        assert uid_map_faults(paths) == []

    def test_dangling_references_are_counted(self, tmp_path):
        slices(
            tmp_path / "in", count=1, ReferencedImageSequence=sequence(ReferencedSOPInstanceUID="1.2.3.99")
        )
        assert run(tmp_path / "in", tmp_path / "out").summary.dangling_references == 1


class TestCase6And8AcrossBatches:
    def test_a_segmentation_in_another_run_gets_the_same_uids_and_shift(self, tmp_path):
        slices(tmp_path / "ct")
        seg = ct(SOPClassUID=SEG, SOPInstanceUID="1.2.3.77", SeriesInstanceUID="1.2.3.70",
                 ReferencedSeriesSequence=sequence(SeriesInstanceUID=ct().SeriesInstanceUID))  # fmt: skip
        save(seg, tmp_path / "seg/a")
        first = run(tmp_path / "seg", tmp_path / "out1")
        second = run(tmp_path / "ct", tmp_path / "out2")
        (out_seg,) = [pydicom.dcmread(path) for path in first.paths.dicom.rglob("*.dcm")]
        out_ct = pydicom.dcmread(next(second.paths.dicom.rglob("*.dcm")))
        assert out_seg.ReferencedSeriesSequence[0].SeriesInstanceUID == out_ct.SeriesInstanceUID
        assert (out_seg.PatientID, out_seg.StudyDate) == (out_ct.PatientID, out_ct.StudyDate)


class TestCase9Persons:
    def test_one_number_of_two_issuers_is_two_persons(self, tmp_path):
        save(ct(SOPInstanceUID="1.2.3.1", IssuerOfPatientID="A"), tmp_path / "in/a")
        save(ct(SOPInstanceUID="1.2.3.2", IssuerOfPatientID="B", StudyInstanceUID="1.2.9"), tmp_path / "in/b")
        assert run(tmp_path / "in", tmp_path / "out").summary.patients == 2

    def test_an_object_without_issuer_has_that_of_its_study(self, tmp_path):
        save(ct(SOPInstanceUID="1.2.3.1"), tmp_path / "in/a")
        save(ct(SOPInstanceUID="1.2.3.2", IssuerOfPatientID=None), tmp_path / "in/b")
        save(
            ct(SOPInstanceUID="1.2.3.3", IssuerOfPatientID=None, StudyInstanceUID="1.2.9"), tmp_path / "in/c"
        )
        assert run(tmp_path / "in", tmp_path / "out").summary.patients == 2

    def test_without_a_patient_id_it_waits_in_quarantine(self, tmp_path):
        save(ct(PatientID=""), tmp_path / "in/a")
        made = run(tmp_path / "in", tmp_path / "out")
        assert files_of(made) == {"a": ("quarantined", ("missing_patient_id",))}


class TestCase23OurOwnOutput:
    def test_given_in_again_is_held_and_never_shifted_twice(self, tmp_path):
        slices(tmp_path / "in")
        first = run(tmp_path / "in", tmp_path / "out")
        shutil.copytree(first.paths.dicom, tmp_path / "again")
        second = run(tmp_path / "again", tmp_path / "out2")
        assert set(files_of(second).values()) == {("quarantined", ("own_output",))}

    def test_an_object_drawn_on_our_output_is_held_too(self, tmp_path):
        study = new_uid(KEY, "1.2.3")
        save(ct(SOPInstanceUID="1.2.9", StudyInstanceUID=study), tmp_path / "in/a")
        made = run(tmp_path / "in", tmp_path / "out")
        assert files_of(made)["a"] == ("quarantined", ("own_output",))

    def test_a_foreign_claim_is_no_proof(self, tmp_path):
        slices(tmp_path / "in", count=1, PatientIdentityRemoved="YES", DeidentificationMethod="other")
        made = run(tmp_path / "in", tmp_path / "out")
        assert made.summary.released == 1
        assert "Quenneville" not in str(pydicom.dcmread(next(made.paths.dicom.rglob("*.dcm"))))


class TestCase25Duplicates:
    def test_of_equal_ones_the_one_among_its_series_stays(self, tmp_path):
        original, *_ = slices(tmp_path / "in/z_series")
        shutil.copy(original, tmp_path / "in/a_copy")
        made = files_of(run(tmp_path / "in", tmp_path / "out"))
        assert made["a_copy"] == ("rejected", ("exact_duplicate",))
        assert made["z_series/im1"] == ("released", ())

    def test_of_unequal_ones_none_stays(self, tmp_path):
        slices(tmp_path / "in/a")
        save(ct(SOPInstanceUID="1.2.3.1", KVP="80"), tmp_path / "in/b")
        made = files_of(run(tmp_path / "in", tmp_path / "out"))
        assert made["a/im1"] == made["b"] == ("quarantined", ("conflicting_duplicate",))


class TestCase26BadFiles:
    def test_each_has_its_line(self, tmp_path):
        folder = tmp_path / "in"
        whole = slices(folder, count=1)[0].read_bytes()
        (folder / "cut").write_bytes(whole[:-40])
        (folder / "cut_in_header").write_bytes(whole[:700])
        (folder / "empty").write_bytes(b"")
        (folder / "letter.txt").write_text("Dear Mrs Quenneville")
        (folder / "noise").write_bytes(random.Random(1).randbytes(5000))
        (folder / "link").symlink_to(folder / "im1")
        (folder / "sub").mkdir()
        (folder / "sub/.hidden").write_bytes(b"x")
        os.mkfifo(folder / "pipe")
        made = files_of(run(folder, tmp_path / "out"))
        assert made == {
            "im1": ("released", ()),
            "cut": ("rejected", ("truncated",)),
            "cut_in_header": ("rejected", ("truncated",)),
            "empty": ("rejected", ("empty_file",)),
            "letter.txt": ("rejected", ("not_dicom",)),
            "noise": ("rejected", ("not_dicom",)),
            "link": ("rejected", ("symbolic_link",)),
            "pipe": ("rejected", ("not_a_file",)),
            "sub/.hidden": ("rejected", ("not_dicom",)),
        }

    def test_a_file_without_preamble_is_read(self, tmp_path):
        content = as_bytes(ct(), "1.2.840.10008.1.2")
        start = content.index(b"\x08\0\x08\0")
        (tmp_path / "in").mkdir()
        (tmp_path / "in/bare").write_bytes(content[start:])
        made = run(tmp_path / "in", tmp_path / "out")
        assert made.summary.released == 1

    @pytest.mark.parametrize(
        ("values", "code"),
        [
            ({"SOPInstanceUID": ""}, "missing_sop_instance_uid"),
            ({"SeriesInstanceUID": ""}, "missing_series_instance_uid"),
            ({"SOPClassUID": "1.2.3.4.5.6"}, "unknown_sop_class"),
            ({"SOPClassUID": SR, "PixelData": None}, "structured_report"),
            (
                {"SOPClassUID": PDF, "PixelData": None, "EncapsulatedDocument": b"%PDF"},
                "encapsulated_document",
            ),
        ],
    )
    def test_what_cannot_be_made_safe_is_held_untouched(self, tmp_path, values, code):
        path = save(ct(**values), tmp_path / "in/a")
        made = run(tmp_path / "in", tmp_path / "out")
        disposition, reasons = files_of(made)["a"]
        assert disposition == "quarantined"
        assert code in reasons
        assert (made.paths.quarantine / f"{sha256_file(path)}.dcm").read_bytes() == path.read_bytes()

    def test_nothing_is_lost(self, tmp_path):
        slices(tmp_path / "in")
        (tmp_path / "in" / "na\udcffme.txt").write_text("x")
        made = run(tmp_path / "in", tmp_path / "out")
        assert lost_files(tmp_path / "in", made.paths) == []
        assert pl.read_parquet(made.paths.files).height == 4


class TestRepeatability:
    @pytest.fixture(scope="class")
    @classmethod
    def batch(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("batch") / "in"
        for patient in range(4):
            values = {
                "PatientID": f"P{patient}",
                "StudyInstanceUID": f"1.9.{patient}",
                "SeriesInstanceUID": f"1.8.{patient}",
            }
            for n in range(12):
                save(ct(SOPInstanceUID=f"1.7.{patient}.{n}", **values), folder / f"{patient}/{n:02d}")
        (folder / "note.txt").write_text("x")
        return folder

    def test_workers_make_no_difference(self, batch, tmp_path):
        trees = [tree(run(batch, tmp_path / str(workers), workers=workers).output) for workers in (1, 2, 4)]
        for made in trees:
            made.pop("audits/deid/leak_scan.json")
        assert trees[0] == trees[1] == trees[2]

    def test_neither_does_where_the_files_lay(self, batch, tmp_path):
        shuffled = tmp_path / "shuffled"
        shuffled.mkdir()
        paths = sorted(path for path in batch.rglob("*") if path.is_file())
        random.Random(7).shuffle(paths)
        for n, path in enumerate(paths):
            shutil.copy(path, shuffled / f"{n:03d}")
        first, second = (
            tree(run(source, tmp_path / out).output) for source, out in ((batch, "a"), (shuffled, "b"))
        )
        first.pop("audits/uid/files.parquet")
        second.pop("audits/uid/files.parquet")
        assert first == second


class TestALeak:
    @pytest.fixture
    def leaky(self, monkeypatch):
        hit = Hit("2.25.1.dcm", "(00104000)", "old UID", "ab12")
        monkeypatch.setattr(run_module.proof.Proof, "objects", lambda *_: [hit])

    def test_releases_nothing_and_says_where(self, tmp_path, leaky):
        slices(tmp_path / "in")
        with pytest.raises(SafetyError, match="nothing was released"):
            run(tmp_path / "in", tmp_path / "out")
        made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert [path.name for path in made] == ["leak_scan.json"]
        (told,) = orjson.loads(made[0].read_bytes())["hits"]
        assert told == {
            "object": "2.25.1.dcm",
            "element": "(00104000)",
            "path": "PatientComments",
            "rule": "",
            "kind": "old UID",
            "digest": "ab12",
        }

    def test_leaves_what_was_released_before(self, tmp_path, monkeypatch):
        slices(tmp_path / "in")
        before = tree(run(tmp_path / "in", tmp_path / "out").paths.dicom)
        monkeypatch.setattr(run_module.proof.Proof, "objects", lambda *_: [Hit("a", "b", "c", "d")])
        slices(tmp_path / "in", KVP="80")
        with pytest.raises(SafetyError):
            run(tmp_path / "in", tmp_path / "out")
        assert tree(tmp_path / "out/dicom") == before

    def test_in_one_object_of_several_holds_that_object_and_names_the_rule(self, tmp_path, monkeypatch):
        """Where engine and scan disagree about one value only its object is held."""
        from ct_assets.deid.elements import engine

        kept = engine._Walk._text

        def forgets_one(self, tag, vr, raw, rule, encodings):
            return (raw, "kept") if b"Quenneville" in raw else kept(self, tag, vr, raw, rule, encodings)

        monkeypatch.setattr(engine._Walk, "_text", forgets_one)
        first, *_ = slices(tmp_path / "in", count=3)
        save(ct(SOPInstanceUID="1.2.3.1", StudyDescription="CT Quenneville"), first)
        made = run(tmp_path / "in", tmp_path / "out")
        assert (made.summary.released, made.summary.quarantined) == (2, 1)
        assert made.summary.reasons == {"identifier_found": 1}
        (told,) = orjson.loads((tmp_path / "out/audits/deid/leak_scan.json").read_bytes())["hits"]
        assert (told["path"], told["rule"]) == ("StudyDescription", "113105 C: kept")
        assert "uenneville" not in str(told)
        lines = [orjson.loads(line) for line in made.paths.audit.read_bytes().splitlines()]
        assert sorted(line["disposition"] for line in lines) == ["quarantined", "released", "released"]
        assert len(list(made.paths.dicom.rglob("*.dcm"))) == 2
        assert len(list(made.paths.quarantine.glob("*.dcm"))) == 1

    def test_by_a_broken_engine_is_caught(self, tmp_path, monkeypatch):
        """Without its rule for descriptions the engine leaks; the scan, which shares no code, finds it."""
        from ct_assets.deid.elements import engine

        monkeypatch.setattr(engine._Walk, "_text", lambda self, tag, vr, raw, rule, encodings: (raw, "kept"))
        slices(tmp_path / "in", StudyDescription="CT Quenneville")
        with pytest.raises(SafetyError):
            run(tmp_path / "in", tmp_path / "out")
        assert not (tmp_path / "out/dicom").exists()


class TestAPatientCalledLikeOurOwnWords:
    """Names and numbers that page, audit and DeidentificationMethod hold for everyone."""

    @pytest.mark.parametrize(
        ("name", "number"),
        [("Rule^Every", "113105"), ("Refer^Warnings", "113107"), ("Stand^Written", "113100")],
    )
    def test_is_released(self, tmp_path, name, number):
        slices(tmp_path / "in", PatientName=name, PatientID=number)
        made = run(tmp_path / "in", tmp_path / "out")
        assert made.summary.released == 3

    def test_and_is_removed_from_text_all_the_same(self, tmp_path):
        slices(
            tmp_path / "in", PatientName="Rule^Every", PatientID="113105", StudyDescription="CT RULE 113105"
        )
        made = run(tmp_path / "in", tmp_path / "out")
        (path, *_) = made.paths.dicom.rglob("*.dcm")
        assert pydicom.dcmread(path).StudyDescription == "CT"

    def test_every_word_of_an_audit_is_known_for_our_own(self, corpus_run):
        audit = corpus_run.paths.audit.read_text()
        told = re.sub(r'"path":"[^"]*"|"(new_[a-z_]+|file)":"[^"]*"|[0-9a-f]{32,}', "", audit)
        words = {fold(word) for word in re.findall(r"[A-Za-z0-9]+", told)}
        assert {
            word
            for word in words
            if not is_ambiguous(word)
            and ((word.isdigit() and len(word) > 4) or (word.isalpha() and len(word) > 3))
        } <= proof.own_words(method.own_text())


class TestUsage:
    def test_no_folder_an_empty_one_and_one_inside_the_other_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="no such folder"):
            run(tmp_path / "none", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="holds no file"):
            run(tmp_path / "empty", tmp_path / "out")
        slices(tmp_path / "in")
        with pytest.raises(UsageError, match="in each other"):
            run(tmp_path / "in", tmp_path / "in/out")

    def test_another_key_into_the_same_folder_is_refused(self, tmp_path, secret_hex):
        from ct_assets.identity.key import SecretKey

        slices(tmp_path / "in")
        made = run(tmp_path / "in", tmp_path / "out")
        with pytest.raises(UsageError, match="another key"):
            run_module.deidentify(
                tmp_path / "in", made.paths, DeidProfile(), SecretKey.from_hex(secret_hex), workers=1
            )


class TestTheClinicsTable:
    def test_its_names_and_numbers_are_searched_too(self, tmp_path):
        slices(tmp_path / "in", count=1, StudyDescription="CT Fennimarsh 5550106")
        table = tmp_path / "labels.csv"
        table.write_text(
            '\ufeffPatientID,Stage,Remarks\r\nQX4471093,I,"letter to Mr Leopold Fennimarsh, (555) 555-0106"\r\n'
        )
        made = run(tmp_path / "in", tmp_path / "out")
        summary = run_module.deidentify(
            tmp_path / "in", made.paths, DeidProfile(), KEY, labels_csv=table, workers=1
        )
        assert summary.tokens_searched > made.summary.tokens_searched
        assert pydicom.dcmread(next(made.paths.dicom.rglob("*.dcm"))).StudyDescription == "CT"


class TestAFullOrBrokenDisk:
    """It ends the stage; what it interrupted counts neither as done nor as a fault of the file."""

    def test_is_no_fault_of_the_file_that_was_being_written(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        slices(tmp_path / "in")
        monkeypatch.setattr(second_pass, "_write_file", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "in", tmp_path / "out")
        assert not (tmp_path / "out/dicom").exists()

    def test_what_a_decoder_says_of_broken_pixels_is_one(self, tmp_path, monkeypatch):
        def broken(*_):
            raise OSError("image file is truncated")

        slices(tmp_path / "in", count=1)
        monkeypatch.setattr(second_pass, "_judge", broken)
        made = run(tmp_path / "in", tmp_path / "out")
        assert files_of(made) == {"im1": ("quarantined", ("not_processable",))}

    def test_its_leavings_are_removed_once_nobody_writes_any_more(self, tmp_path, monkeypatch):
        """The audit does not fit, while worker processes write the objects that they are at."""
        happened = []
        map_ordered, clear = parallel.map_ordered, Staging.clear

        def watched(*arguments, **options):
            try:
                yield from map_ordered(*arguments, **options)
            finally:
                happened.append("workers ended")

        def full(*_):
            happened.append("disk full")
            raise OSError(errno.ENOSPC, "No space left on device")

        def cleared(staging):
            happened.append("cleared")
            clear(staging)

        slices(tmp_path / "in", count=80)
        monkeypatch.setattr(Staging, "clear", cleared)
        monkeypatch.setattr(second_pass.Spent, "add", full)
        monkeypatch.setattr(second_pass.parallel, "map_ordered", watched)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "in", tmp_path / "out", workers=2)
        assert happened[-3:] == ["disk full", "workers ended", "cleared"]
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


class TestAKilledRun:
    def test_leaves_the_old_and_the_next_run_finishes(self, tmp_path):
        slices(tmp_path / "in")
        before = tree(run(tmp_path / "in", tmp_path / "out").output)
        slices(tmp_path / "in", KVP="80")
        script = textwrap.dedent(
            f"""
            import os, signal
            from pathlib import Path
            from ct_assets.deid.batch import run as module
            from ct_assets_tests.deid.runs import run
            module.proof.Proof.objects = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            run(Path({str(tmp_path / "in")!r}), Path({str(tmp_path / "out")!r}))
            """
        )
        killed = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2])
        assert killed.returncode == -signal.SIGKILL
        visible = {name: digest for name, digest in tree(tmp_path / "out").items() if ".partial-" not in name}
        assert visible == before
        after = run(tmp_path / "in", tmp_path / "out")
        assert pydicom.dcmread(next(after.paths.dicom.rglob("*.dcm"))).KVP == 80
        assert not [path for path in (tmp_path / "out").rglob("*") if ".partial-" in path.name]

    def test_between_two_renames_is_finished_by_the_next(self, tmp_path):
        from ct_assets.deid.batch.staging import Staging

        slices(tmp_path / "in")
        made = run(tmp_path / "in", tmp_path / "out")
        staging = Staging.beside(made.paths)
        (staging.staged.dicom / "new").write_text("new")
        staging.staged.audit.write_text("new")
        staging.staged.report.write_text("new")
        staging.journal.write_text("{}")
        staging.staged.dicom.rename(tmp_path / "moved")
        shutil.rmtree(made.paths.dicom)
        (tmp_path / "moved").rename(
            made.paths.dicom
        )  # the first of five renames is done, then the power fails
        Staging.beside(made.paths)
        assert (made.paths.dicom / "new").read_text() == made.paths.audit.read_text() == "new"
        assert not staging.journal.exists()


class TestThePage:
    def test_shows_counts_options_reasons_small_cells_and_kept_text(self, tmp_path):
        slices(tmp_path / "in", StudyDescription="CT Thorax Quenneville")
        (tmp_path / "in/x.txt").write_text("x")
        page = run(tmp_path / "in", tmp_path / "out").paths.report.read_text()
        for shown in (
            "113107",
            "not_dicom",
            "CT Thorax",
            "058Y",
            "fewer than 5",
            "3 instances of 1 patients",
        ):
            assert shown in page
        assert "Quenneville" not in page


class TestRetainedUids:
    """The option 113110 at the level of a batch."""

    PROFILE = DeidProfile(retain_uids=True)

    def test_every_uid_stays_and_the_objects_say_so(self, tmp_path):
        paths = slices(tmp_path / "in")
        made = run(tmp_path / "in", tmp_path / "out", self.PROFILE)
        released = {path.stem: pydicom.dcmread(path) for path in made.paths.dicom.rglob("*.dcm")}
        originals = [pydicom.dcmread(path) for path in paths]
        assert set(released) == {one.SOPInstanceUID for one in originals}
        for one in originals:
            new = released[one.SOPInstanceUID]
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                assert new[keyword].value == one[keyword].value
            assert new.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
            assert "113110" in {code.CodeValue for code in new.DeidentificationMethodCodeSequence}
            assert new.PatientID != one.PatientID

    def test_the_map_says_that_nothing_was_renamed(self, tmp_path):
        slices(tmp_path / "in")
        made = run(tmp_path / "in", tmp_path / "out", self.PROFILE)
        uid_map = pl.read_parquet(made.paths.uid_map)
        assert (uid_map["old_uid"] == uid_map["new_uid"]).all()
        assert uid_map_faults(made.paths) == []

    def test_our_own_output_is_known_all_the_same_and_never_shifted_twice(self, tmp_path):
        slices(tmp_path / "in")
        made = run(tmp_path / "in", tmp_path / "out", self.PROFILE)
        again = run(made.paths.dicom, tmp_path / "again", self.PROFILE)
        assert again.summary.released == 0
        assert again.summary.reasons == {"own_output": 3}

    def test_a_mark_under_another_key_is_no_proof(self, tmp_path):
        slices(tmp_path / "in", DeidentificationMethod=["CT_ASSETS", "2.25.12345678901234567890"])
        assert run(tmp_path / "in", tmp_path / "out", self.PROFILE).summary.released == 3
