"""The scorer passes a right output and fails every kind of wrong one; the shipped profile passes the corpus."""

import shutil

import polars as pl
import pydicom
import pytest

from ct_assets_tests.deid.corpus import answers
from ct_assets_tests.deid.corpus.make import make
from ct_assets_tests.deid.corpus.score import CLASSES, score
from ct_assets_tests.deid.runs import run


class TestTheCorpus:
    def test_it_covers_every_hard_case(self, corpus):
        rows = answers.read_rows(corpus.files)
        # 5 (form of new UIDs), 6 (order of files) and 11, 15, 17 stand in the files of a neighbouring case.
        assert {int(row["case"]) for row in rows} | {5, 6, 8, 11, 15, 17} == set(range(1, 27))

    def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_people(self, corpus, tmp_path):
        again, other = make(tmp_path / "again", seed=11), make(tmp_path / "other", seed=12)
        for path in sorted(corpus.folder.rglob("*")):
            if path.is_file():
                assert (again.folder / path.relative_to(corpus.folder)).read_bytes() == path.read_bytes(), (
                    path.name
                )
        tokens = [{row["token"] for row in answers.read_rows(made.tokens)} for made in (corpus, other)]
        assert len(tokens[0] & tokens[1]) < 0.2 * len(tokens[0])  # telephone numbers are few


class TestTheShippedProfile:
    def test_it_passes_every_check_of_the_corpus(self, corpus, corpus_run):
        found = score(corpus.input, corpus_run.output, corpus.answers)
        assert dict(found.failures) == {}
        assert set(found.passed) >= set(CLASSES)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [2, 3])
    def test_it_passes_other_seeds(self, tmp_path, seed):
        made = make(tmp_path / "corpus", seed=seed)
        ran = run(made.input, tmp_path / "output", workers=2)
        assert dict(score(made.input, ran.output, made.answers).failures) == {}

    @pytest.mark.slow
    @pytest.mark.real
    def test_it_passes_the_answer_key_of_real_images_and_settles_the_odd_files(self, real_data, tmp_path):
        cohort = real_data / "lung_cohort"
        ran = run(cohort / "drops", tmp_path, workers=2)
        found = score(cohort / "drops", ran.output, cohort / "answers.csv")
        assert dict(found.failures) == {}
        assert found.total > 19000
        rows = {row["path"]: row for row in pl.read_parquet(ran.paths.files).iter_rows(named=True)}
        odd = answers.read_rows(cohort / "expected_files.csv")
        for expected in odd:
            row = rows[expected["path"]]
            allowed, _, code = expected["expected"].partition(" as ")
            assert row["disposition"] in allowed.split(" or "), expected
            assert not code or code in row["reasons"], expected
        # No plain slice is taken for text.
        held = {path for path, row in rows.items() if row["disposition"] != "released"}
        assert not {path for path in held if "burned_in_text" in rows[path]["reasons"]}
        assert {row["path"] for row in odd} <= held


class TestWrongOutputFails:
    """Each test plants one fault into a right output, and names the class that must see it."""

    @pytest.fixture
    def output(self, corpus_run, tmp_path):
        return shutil.copytree(corpus_run.output, tmp_path / "output")

    @pytest.fixture
    def failed(self, corpus, output):
        def classes() -> set[str]:
            return {
                kind
                for kind, places in score(corpus.input, output, corpus.answers).failures.items()
                if places
            }

        return classes

    @staticmethod
    def change(output, edit, *, modality="CT", keyword="ImagePositionPatient"):
        """Edit the first released object of a modality that has `keyword`."""
        for path in sorted((output / "dicom").rglob("*.dcm")):
            dataset = pydicom.dcmread(path)
            if dataset.Modality == modality and keyword in dataset:
                edit(dataset)
                dataset.save_as(path)
                return dataset
        raise AssertionError("nothing to change")

    def test_a_date_off_by_one_day(self, output, failed):
        def edit(dataset):
            dataset.StudyDate = str(int(dataset.StudyDate) + (1 if dataset.StudyDate[-2:] < "28" else -1))

        self.change(output, edit)
        assert "date_shifted" in failed()

    def test_an_identifier_in_a_description(self, corpus, output, failed):
        token = next(row["token"] for row in answers.read_rows(corpus.tokens) if row["kind"] == "street")
        self.change(output, lambda dataset: setattr(dataset, "SeriesDescription", f"at {token}"))
        assert "text_removed" in failed()

    def test_an_identifier_in_a_private_element_in_utf_16(self, corpus, output, failed):
        token = next(
            row["token"] for row in answers.read_rows(corpus.tokens) if row["kind"] == "accession number"
        )
        self.change(output, lambda dataset: dataset.add_new(0x00091001, "UN", token.encode("utf-16-le")))
        assert "text_removed" in failed()

    def test_an_identifier_in_the_audit(self, corpus, output, failed):
        token = next(row["token"] for row in answers.read_rows(corpus.tokens) if row["kind"] == "patient id")
        audit = output / "audits/deid/deid_audit.jsonl"
        audit.write_text(audit.read_text() + f'{{"note": "{token}"}}\n')
        assert "text_removed" in failed()

    def test_an_old_uid_in_a_reference(self, output, failed):
        old = pl.read_parquet(output / "audits/uid/uid_map.parquet")["old_uid"][0]

        def edit(dataset):
            item = pydicom.Dataset()
            item.ReferencedSOPInstanceUID = old
            dataset.SourceImageSequence = [item]

        self.change(output, edit)
        assert "uid_changed" in failed()

    def test_a_reference_that_leads_elsewhere(self, output, failed):
        def edit(dataset):
            dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.4711"

        self.change(output, edit, modality="SEG", keyword="ReferencedSeriesSequence")
        assert "uid_consistent" in failed()

    def test_two_pseudonyms_for_one_person(self, output, failed):
        self.change(output, lambda dataset: setattr(dataset, "PatientID", "SOMEONEELSE"))
        assert "patid_consistent" in failed()

    def test_one_pixel_changed(self, output, failed):
        def edit(dataset):
            dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]

        self.change(output, edit)
        assert "pixels_retained" in failed()

    def test_a_parameter_lost_and_one_changed(self, output, failed):
        self.change(output, lambda dataset: dataset.pop("SliceThickness"), keyword="SliceThickness")
        assert {"tag_retained", "text_retained"} <= failed()

    def test_a_name_emptied(self, output, failed):
        self.change(output, lambda dataset: setattr(dataset, "PatientName", ""))
        assert "text_notnull" in failed()

    def test_a_file_missing(self, output, failed):
        next(iter(sorted((output / "dicom").rglob("*.dcm")))).unlink()
        assert {"text_removed", "text_retained", "uid_changed"} <= failed()

    def test_a_preamble_kept(self, output, failed):
        path = next(iter(sorted((output / "dicom").rglob("*.dcm"))))
        path.write_bytes(b"II*\0" + path.read_bytes()[4:])
        assert "file_meta" in failed()

    def test_a_claim_of_cleaned_faces(self, output, failed):
        def edit(dataset):
            code = pydicom.Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
                "113102",
                "DCM",
                "Clean Recognizable …",
            )
            dataset.DeidentificationMethodCodeSequence.append(code)

        self.change(output, edit)
        assert "method_stated" in failed()

    def test_a_file_without_a_line(self, output, failed):
        target = output / "audits/uid/files.parquet"
        pl.read_parquet(target).slice(1).write_parquet(target)
        assert "nothing_lost" in failed()
