"""Tables, the mode mapping as a file, the preview page."""

import numpy as np
import pytest

from ct_assets import tables
from ct_assets.errors import UsageError
from ct_assets.neuro import CacheManager, DatasetMetadata, ImageDataset
from ct_assets.systems.neuro import preview, statistics
from ct_assets.systems.neuro.modes import read_modes
from ct_assets.tables.neuro import NeuroImages, NeuroStreams
from ct_assets_tests.systems.neuro.factories import box_head, data_set, dicom_series, nifti_file


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("data"), {"one": ("ct", 1), "two": ("mri", 2)})


class TestTables:
    def test_streams_are_measured_over_foreground(self, data_dir):
        found = {
            row["stream"]: row for row in statistics.summarise(CacheManager(data_dir)).streams.to_dicts()
        }
        cached = CacheManager(data_dir).load_image("one", "image0", "blood")
        values = cached["data"][cached["mask"] == 0].numpy().astype(np.float64)
        assert found["blood"]["mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert found["blood"]["std"] == pytest.approx(values.std(), abs=1e-6)
        assert found["blood"]["foreground_voxels"] == values.size
        assert found["mri"]["images"] == 2

    def test_tables_are_written_and_read(self, data_dir, tmp_path):
        measured = statistics.summarise(CacheManager(data_dir))
        measured.write(tmp_path)
        assert tables.read_table(tmp_path / "images.parquet", NeuroImages).equals(measured.images)
        assert tables.read_table(tmp_path / "streams.parquet", NeuroStreams).equals(measured.streams)
        row = measured.images.to_dicts()[0]
        assert (row["status"], row["tokens"], row["depth"]) == ("cached", 96, 32)

    def test_a_data_set_standardised_by_its_statistics_has_mean_0_and_deviation_1(self, data_dir):
        normalisation = statistics.summarise(CacheManager(data_dir)).normalisation()
        items = ImageDataset(data_dir, mode_filter="mri", normalisation=normalisation, tokenize=False)
        foreground = np.concatenate(
            [
                items[n]["img"].numpy()[
                    CacheManager(data_dir).load_image("two", f"image{n}")["mask"].numpy() == 0
                ]
                for n in range(2)
            ]
        )
        assert foreground.mean() == pytest.approx(0, abs=1e-4)
        assert foreground.std() == pytest.approx(1, abs=1e-4)

    def test_images_without_entry_are_told(self, tmp_path):
        nifti_file(tmp_path / "raw/s/good.nii.gz", box_head(), (1, 1, 4))
        nifti_file(tmp_path / "raw/s/small.nii.gz", box_head((48, 64, 3), margin=1), (1, 1, 4))
        nifti_file(tmp_path / "raw/t/later.nii.gz", box_head(), (1, 1, 4))
        (tmp_path / "raw/u").mkdir()
        metadata = DatasetMetadata.from_directory(tmp_path, {"s": "ct", "t": "ct"})
        metadata.save(tmp_path / "metadata.json")
        cache = CacheManager(tmp_path)
        cache.build_cache(studies=["s"])
        status = {row["image"]: row["status"] for row in statistics.summarise(cache).images.to_dicts()}
        assert status == {"good": "cached", "small": "refused", "later": "missing"}
        rows = statistics.study_table(metadata).to_dicts()
        assert [(row["study"], row["is_usable"]) for row in rows] == [("s", True), ("t", True), ("u", False)]
        assert rows[2]["reasons"] == ["mode_unmapped", "study_without_images"]


class TestModes:
    def test_csv_and_json(self, tmp_path):
        (tmp_path / "modes.csv").write_text("study_id,mode\none,ct\n two , mri \n")
        (tmp_path / "modes.json").write_text('{"one": "ct", "two": "mri"}')
        expected = {"one": "ct", "two": "mri"}
        assert read_modes(tmp_path / "modes.csv") == read_modes(tmp_path / "modes.json") == expected

    @pytest.mark.parametrize(
        "text", ["", "study,mode\na,ct\n", "study_id,mode\na,ct\na,mri\n", "study_id,mode\na\n"]
    )
    def test_other_tables_are_refused(self, tmp_path, text):
        (tmp_path / "modes.csv").write_text(text)
        with pytest.raises(UsageError, match=r"modes\.csv"):
            read_modes(tmp_path / "modes.csv")

    def test_a_missing_file_says_what_it_is_for(self, tmp_path):
        with pytest.raises(UsageError, match="`ct` or `mri`"):
            read_modes(tmp_path / "modes.csv")


class TestPreview:
    def test_a_page_with_a_picture_an_image_and_what_was_refused(self, data_dir, tmp_path):
        cache = CacheManager(data_dir)
        studies = statistics.study_table(cache.metadata)
        page = preview.write(cache, studies, statistics.summarise(cache), tmp_path)
        assert page.read_text().count("<figure>") == len(list(tmp_path.glob("*.png"))) == 3
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        preview.write(cache, studies, statistics.summarise(cache), tmp_path)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_files_that_are_no_image_are_told_with_their_reasons(self, tmp_path):
        dicom_series(tmp_path / "raw/colour/scan", slices=3, samples=3)
        nifti_file(tmp_path / "raw/good/a.nii.gz", box_head(), (1, 1, 4))
        nifti_file(tmp_path / "raw/good/time.nii.gz", np.zeros((8, 8, 8, 3), dtype=np.int16))
        metadata = DatasetMetadata.from_directory(tmp_path, {"colour": "ct", "good": "ct"})
        metadata.save(tmp_path / "metadata.json")
        cache = CacheManager(tmp_path)
        page = preview.write(cache, statistics.study_table(metadata), statistics.summarise(cache), tmp_path)
        assert "colour: 1 x not_monochrome (scan)" in page.read_text()
        assert "good: 1 x not_three_dimensional (time.nii.gz)" in page.read_text()

    def test_background_tokens_are_dimmed(self):
        volume = np.ones((1, 4, 32, 32), dtype=np.float32)
        mask = np.zeros_like(volume, dtype=np.uint8)
        mask[0, 0, 20, 20] = 1
        shown = preview.picture(volume, mask)
        assert shown[5, 5] == 255
        assert shown[30, 30] == round(0.35 * 255)
