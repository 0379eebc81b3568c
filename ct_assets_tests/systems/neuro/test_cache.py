"""The cache: layout, keys, resuming, torn writes, many workers."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from ct_assets.errors import UsageError
from ct_assets.neuro import CacheManager, DatasetMetadata, load_image, prepare_for_inference
from ct_assets.settings.neuro import PreprocessingSettings
from ct_assets.systems.neuro import entries as entries_module
from ct_assets.systems.neuro import voxel_code
from ct_assets_tests.systems.neuro.factories import box_head, data_set, dicom_series, nifti_file

STUDIES = {"one": ("ct", 1), "two": ("mri", 2)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("built"), STUDIES)


@pytest.fixture
def data_dir(built, tmp_path):
    return shutil.copytree(built, tmp_path / "data")


def flags(data_dir) -> dict:
    studies = json.loads((data_dir / "metadata.json").read_text())["studies"]
    return {(s, i): entry["processed"] for s, info in studies.items() for i, entry in info["images"].items()}


def tensors(data_dir) -> dict:
    return {
        path.relative_to(data_dir).as_posix(): path.read_bytes() for path in sorted(data_dir.rglob("*.pt"))
    }


class TestLayout:
    def test_files_of_ct_and_mr(self, built):
        assert {
            path.relative_to(built / "processed").as_posix() for path in (built / "processed").rglob("*.*")
        } == {
            *(f"one/image0_{end}" for end in ("brain.pt", "blood.pt", "bone.pt", "mask.pt", "metadata.json")),
            *(f"two/image{n}{end}" for n in (0, 1) for end in (".pt", "_mask.pt", "_metadata.json")),
        }

    def test_uint8_on_disk_and_loadable_without_pickled_code(self, built):
        for path in (built / "processed").rglob("*.pt"):
            content = torch.load(path, weights_only=True)
            tensor = content if path.name.endswith("_mask.pt") else content["data"]
            assert tensor.dtype == torch.uint8
            assert tensor.shape == (1, 32, 64, 48)

    def test_the_record_says_what_the_entry_is(self, built):
        record = json.loads((built / "processed/one/image0_metadata.json").read_text())
        assert record["source"] == "raw/one/image0.nii.gz"
        assert record["shape"] == [1, 32, 64, 48]
        assert record["spacing"] == [1, 1, 4]
        assert record["view"] == 0
        assert {"version", "date", "key", "source_digest"} <= set(record)


class TestReading:
    def test_a_cached_volume_is_the_volume_on_the_fly_to_half_a_step(self, built):
        cached = CacheManager(built).load_image("two", "image0")
        (volume,), mask, view = prepare_for_inference(load_image(built / "raw/two/image0.nii.gz"), "mri")
        assert cached["data"].dtype == torch.float32
        assert float((cached["data"] - volume).abs().max()) <= 0.5 / 255 + 1e-6
        assert torch.equal(cached["mask"], mask)
        assert cached["view"] == view

    def test_a_ct_gives_one_window_or_all_with_one_mask(self, built):
        cache = CacheManager(built)
        every = cache.load_image("one", "image0")
        assert [one["window"] for one in every] == ["brain", "blood", "bone"]
        bone = cache.load_image("one", "image0", window="bone")
        assert torch.equal(bone["data"], every[2]["data"])
        assert torch.equal(bone["mask"], every[0]["mask"])

    def test_a_cached_read_touches_neither_source_nor_resampling(self, data_dir, monkeypatch):
        # How much faster that is, `benchmarks/neuro_cache.py` measures.
        cache = CacheManager(data_dir)
        shutil.rmtree(data_dir / "raw")
        monkeypatch.setattr("ct_assets.imaging.resample.onto", None)
        assert cache.load_image("two", "image0") is not None

    def test_what_is_not_there_is_none_and_a_wrong_window_is_told(self, built):
        cache = CacheManager(built)
        assert cache.load_image("one", "image7") is None
        assert cache.load_image("seven", "image0") is None
        with pytest.raises(ValueError, match="brain, blood, bone"):
            cache.load_image("one", "image0", window="lung")
        with pytest.raises(ValueError, match="mri"):
            cache.load_image("two", "image0", window="brain")

    def test_a_cache_without_metadata_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match=r"metadata\.json"):
            CacheManager(tmp_path)


class TestBuilding:
    def test_stats_count(self, built):
        stats = CacheManager(built).get_cache_stats()
        assert (stats["total_studies"], stats["total_images"], stats["cached_images"]) == (2, 3, 3)
        assert stats["cache_coverage"] == 1.0
        assert stats["size_bytes"] == sum(path.stat().st_size for path in (built / "processed").rglob("*.pt"))

    def test_a_second_build_makes_nothing(self, data_dir):
        before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.pt")}
        report = CacheManager(data_dir).build_cache()
        assert report.count("current") == 3
        assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.pt")} == before

    def test_force_makes_everything_again_with_the_same_bytes(self, data_dir):
        before = tensors(data_dir)
        assert CacheManager(data_dir).build_cache(force=True).count("made") == 3
        assert tensors(data_dir) == before

    def test_flags_persist_and_bytes_are_equal_with_several_workers(self, built, tmp_path):
        data_dir = data_set(tmp_path, STUDIES, cached=False)
        assert not any(flags(data_dir).values())
        report = CacheManager(data_dir).build_cache(num_workers=2)
        assert report.count("made") == 3
        assert all(flags(data_dir).values())
        assert tensors(data_dir) == tensors(built)
        assert CacheManager(data_dir).build_cache(num_workers=2).count("current") == 3

    def test_new_metadata_finds_what_is_done(self, data_dir):
        DatasetMetadata.from_directory(data_dir, {"one": "ct", "two": "mri"}).save(data_dir / "metadata.json")
        assert not any(flags(data_dir).values())
        assert CacheManager(data_dir).build_cache().count("current") == 3
        assert all(flags(data_dir).values())

    def test_one_study_at_a_time(self, tmp_path):
        data_dir = data_set(tmp_path, STUDIES, cached=False)
        CacheManager(data_dir).build_cache(studies=["two"])
        assert flags(data_dir) == {("one", "image0"): False, ("two", "image0"): True, ("two", "image1"): True}
        with pytest.raises(UsageError, match="three"):
            CacheManager(data_dir).build_cache(studies=["three"])

    def test_images_that_cannot_be_used_are_counted_with_reasons(self, tmp_path):
        nifti_file(tmp_path / "raw/s/good.nii.gz", box_head(), (1, 1, 4))
        nifti_file(tmp_path / "raw/s/small.nii.gz", box_head((48, 64, 3), margin=1), (1, 1, 4))
        broken = nifti_file(
            tmp_path / "raw/s/broken.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20))
        )
        broken.write_bytes(broken.read_bytes()[:-2000])
        gone = nifti_file(tmp_path / "raw/s/gone.nii.gz", box_head())
        DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).save(tmp_path / "metadata.json")
        gone.unlink()
        cache = CacheManager(tmp_path)
        report = cache.build_cache()
        assert {one.image: one.reasons for one in report.refused} == {
            "broken": ("unreadable_image",),
            "gone": ("source_missing",),
            "small": ("smaller_than_a_token",),
        }
        assert flags(tmp_path)["s", "good"]
        assert not flags(tmp_path)["s", "small"]
        assert cache.get_cache_stats()["refused_images"] == 3

    def test_a_ct_that_is_not_in_hounsfield_units_is_warned_of(self, tmp_path):
        nifti_file(tmp_path / "raw/s/a.nii.gz", np.full((32, 32, 8), 90, dtype=np.uint8), (1, 1, 4))
        DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).save(tmp_path / "metadata.json")
        (outcome,) = CacheManager(tmp_path).build_cache().outcomes
        assert outcome.warnings == ("no_air_in_ct",)

    def test_each_series_of_a_folder_has_its_own_entry(self, tmp_path):
        for end, hu in (("5", 30), ("6", 60)):
            dicom_series(tmp_path / "raw/s/scan", series_uid=f"1.2.3.4.{end}", value=lambda k, hu=hu: hu)
        DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).save(tmp_path / "metadata.json")
        cache = CacheManager(tmp_path)
        assert cache.build_cache().count("made") == 2
        brains = {
            round(float(cache.load_image("s", image, "brain")["data"].max()), 3)
            for image in cache.metadata.get_study("s")["images"]
        }
        assert brains == {round(96 / 255, 3), round(191 / 255, 3)}  # 30 and 60 HU of 80, in 255 steps


class TestKeys:
    def test_a_changed_source_is_made_again(self, data_dir):
        nifti_file(data_dir / "raw/one/image0.nii.gz", box_head((48, 64, 32), tissue=70), (1, 1, 4))
        report = CacheManager(data_dir).build_cache()
        assert [one.image for one in report.outcomes if one.status == "made"] == ["image0"]
        assert report.count("current") == 2

    def test_a_source_that_was_only_touched_is_not(self, data_dir):
        os.utime(data_dir / "raw/one/image0.nii.gz", ns=(1, 1))
        assert CacheManager(data_dir).build_cache().count("current") == 3

    def test_other_parameters_neither_read_nor_keep_the_cache(self, data_dir):
        other = CacheManager(data_dir, PreprocessingSettings(ct_background_hu=-300))
        assert other.load_image("one", "image0") is None
        assert other.get_cache_stats()["cached_images"] == 0
        assert other.build_cache().count("made") == 3
        assert other.load_image("one", "image0") is not None

    def test_other_code_does_not_read_the_cache_either(self, data_dir, monkeypatch):
        monkeypatch.setattr(voxel_code, "digest", lambda: "other code")
        entries_module.parameters_digest.cache_clear()
        assert CacheManager(data_dir).load_image("one", "image0") is None
        monkeypatch.undo()
        entries_module.parameters_digest.cache_clear()

    def test_every_module_that_decides_voxels_is_part_of_the_key(self):
        names = voxel_code.reachable()
        for name in (
            "dicom/series.py",
            "dicom/geometry.py",
            "dicom/pixels.py",
            "imaging/stack.py",
            "imaging/hu.py",
        ):
            assert any(path.startswith(("dicom/", "imaging/")) and name in path for path in names), (
                name,
                names,
            )

    def test_an_image_that_became_another_mode_is_made_again(self, data_dir):
        DatasetMetadata.from_directory(data_dir, {"one": "mri", "two": "mri"}).save(
            data_dir / "metadata.json"
        )
        assert CacheManager(data_dir).build_cache().count("made") == 1


class TestTornWrites:
    """Whatever a killed build leaves is no entry, and the next build goes on."""

    @pytest.mark.parametrize("survivors", range(5))
    def test_a_build_killed_after_any_file(self, data_dir, survivors, monkeypatch):
        written = []
        write_bytes = entries_module.files.write_bytes

        def killed_after(path, content, **options):
            if path.suffix == ".pt" or path.name.endswith("_metadata.json"):
                if len(written) == survivors:
                    raise KeyboardInterrupt
                written.append(path)
            write_bytes(path, content, **options)

        monkeypatch.setattr(entries_module.files, "write_bytes", killed_after)
        with pytest.raises(KeyboardInterrupt):
            CacheManager(data_dir).build_cache(force=True, studies=["one"])
        monkeypatch.undo()
        cache = CacheManager(data_dir)
        assert cache.load_image("one", "image0") is None
        assert cache.build_cache().count("made") == 1
        assert cache.load_image("one", "image0") is not None

    @pytest.mark.parametrize("name", ["image0_brain.pt", "image0_mask.pt", "image0_metadata.json"])
    def test_a_truncated_file_is_no_entry(self, data_dir, name):
        path = data_dir / "processed/one" / name
        path.write_bytes(path.read_bytes()[:-100])
        cache = CacheManager(data_dir)
        assert cache.load_image("one", "image0", "brain") is None
        assert cache.build_cache().count("made") == 1

    def test_files_of_two_generations_are_never_mixed(self, data_dir):
        processed = data_dir / "processed/one"
        old = (processed / "image0_brain.pt").read_bytes()
        other = CacheManager(data_dir, PreprocessingSettings(ct_background_hu=-300))
        other.build_cache(studies=["one"])
        (processed / "image0_brain.pt").write_bytes(old)
        assert other.load_image("one", "image0", "brain") is None

    def test_no_partial_file_stays(self, built):
        assert not [path for path in built.rglob("*") if "partial" in path.name]
