"""The NIfTI cache: what the manifest says and nothing else, made again only where something changed."""

from pathlib import Path

import monai.data
import nibabel as nib
import numpy as np
import polars as pl
import pytest

from ct_assets import files, reasons
from ct_assets.dicom import index as headers
from ct_assets.imaging.nifti_cohort import build
from ct_assets.layout import Layout
from ct_assets.settings import Settings
from ct_assets.settings.conversion import ConversionSettings
from ct_assets_tests.imaging.ct_factory import ct_series, seg_of

SHAPE = (6, 9, 11)


def drawn(rows):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:4, rows, 3:8] = True
    return mask


class Cohort:
    """Three patients with a CT and a SEG each, and the manifest of them."""

    def __init__(self, root: Path) -> None:
        self.dicom, self.layout, self.rows = root / "dicom", Layout(root / "data"), []
        for number, split in enumerate(("train", "test", "train")):
            name = f"patient{number}"
            series = ct_series(shape=SHAPE, name=name, patient=name)
            series.save(self.dicom / name)
            inner, outer = drawn(slice(3, 5)), drawn(slice(2, 6))
            seg = seg_of(series, {1: outer, 2: inner}, labels={1: "CTV", 2: "GTV"})
            seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
            seg.save_as(self.dicom / name / "seg.dcm")
            place = "Ts" if split == "test" else "Tr"
            self.rows.append(
                {
                    "case_id": f"case_{number:04d}",
                    "patient_id": name,
                    "split": split,
                    "fold": None if split == "test" else number,
                    "image": f"nifti/images{place}/case_{number:04d}.nii.gz",
                    "label": f"nifti/labels{place}/case_{number:04d}.nii.gz",
                    "image_series_id": series.slices[0].SeriesInstanceUID,
                    "mask_sop_instance_uid": seg.SOPInstanceUID,
                }
            )

    def build(self, settings=None, rows=None, workers=1):
        index = headers.scan(self.dicom, root=self.dicom, workers=1)
        manifest = pl.DataFrame(self.rows if rows is None else rows)
        chosen = settings or Settings()
        return build(manifest, index, self.dicom, self.layout, chosen.conversion, chosen.audit, workers)

    def contents(self):
        folder = self.layout.nifti
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.nii.gz")}


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


def test_each_case_has_its_image_and_the_better_ranked_segment_as_tumour(cohort):
    summary = cohort.build()
    assert (summary.cases, summary.made, summary.refused) == (3, 3, 0)
    for row in cohort.rows:
        image, label = (nib.load(cohort.layout.root / row[name]) for name in ("image", "label"))
        np.testing.assert_array_equal(image.affine, label.affine)
        got = np.asanyarray(label.dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(got, drawn(slice(3, 5)))  # GTV before CTV, labelled 1
    assert summary.digests["tumour_segment_label"].to_list() == ["GTV"] * 3


def test_nothing_new_is_no_work(cohort):
    cohort.build()
    before = {p: p.stat().st_mtime_ns for p in cohort.layout.nifti.rglob("*.nii.gz")}
    summary = cohort.build()
    assert (summary.made, summary.unchanged) == (0, 3)
    assert before == {p: p.stat().st_mtime_ns for p in cohort.layout.nifti.rglob("*.nii.gz")}


def test_a_changed_slice_makes_only_its_case_again(cohort):
    cohort.build()
    before = cohort.contents()
    victim = cohort.dicom / "patient1/im0002"
    victim.write_bytes(victim.read_bytes()[:-2] + b"\x01\x02")
    summary = cohort.build()
    assert summary.made_cases == ("case_0001",)
    changed = {path.name for path, content in cohort.contents().items() if content != before[path]}
    assert changed == {"case_0001.nii.gz"}


def test_other_settings_make_every_case_again(cohort):
    cohort.build()
    summary = cohort.build(Settings(conversion=ConversionSettings(orientation="RAS")))
    assert summary.made == 3


def test_a_lost_file_is_made_again(cohort):
    cohort.build()
    (cohort.layout.root / cohort.rows[2]["label"]).unlink()
    assert cohort.build().made_cases == ("case_0002",)


def test_a_case_that_leaves_the_manifest_leaves_the_cache_and_others_keep_their_numbers(cohort):
    cohort.build()
    before = cohort.contents()
    summary = cohort.build(rows=[cohort.rows[0], cohort.rows[2]])
    assert (summary.made, summary.removed) == (0, 1)
    after = cohort.contents()
    assert set(before) - set(after) == {Path("imagesTs/case_0001.nii.gz"), Path("labelsTs/case_0001.nii.gz")}
    assert all(before[path] == after[path] for path in after)


def test_workers_change_no_byte(cohort, tmp_path):
    cohort.build()
    first = cohort.contents()
    cohort.layout = Layout(tmp_path / "again")
    cohort.build(workers=2)
    assert first == cohort.contents()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image_series_id": "1.2.3.4"}, "image_series_missing"),
        ({"mask_sop_instance_uid": "1.2.3.4"}, "mask_object_missing"),
        ({"mask_sop_instance_uid": "1.2.3.0"}, "mask_references_other_series"),
    ],
)
def test_a_case_that_cannot_be_made_is_a_row_with_its_reason(cohort, change, code):
    rows = [*cohort.rows[:2], cohort.rows[2] | change]
    summary = cohort.build(rows=rows)
    refused = summary.digests.filter(pl.col("status") == "refused").row(0, named=True)
    assert (refused["case_id"], refused["reasons"]) == ("case_0002", [code])
    assert reasons.reason(code).meaning
    assert not (cohort.layout.root / cohort.rows[2]["image"]).exists()
    assert "case_0002" not in files.read_json(cohort.layout.nifti / "dataset.json")["dataset"]


class TestLists:
    def test_nnunet_finds_every_training_case_by_explicit_paths(self, cohort):
        cohort.build()
        dataset = files.read_json(cohort.layout.nifti / "dataset.json")
        assert {"channel_names", "labels", "numTraining", "file_ending"} <= set(dataset)
        assert dataset["labels"] == {"background": 0, "tumour": 1}
        assert dataset["numTraining"] == len(dataset["dataset"]) == 2
        for case_id, entry in dataset["dataset"].items():
            assert case_id in ("case_0000", "case_0002")
            for path in (*entry["images"], entry["label"]):
                assert (cohort.layout.nifti / path).is_file()
                assert path.endswith(dataset["file_ending"])

    def test_monai_reads_the_datalist(self, cohort):
        cohort.build()
        path = cohort.layout.nifti / "datalist.json"
        training = monai.data.load_decathlon_datalist(str(path), True, "training")
        assert [item["fold"] for item in training] == [0, 2]
        testing = monai.data.load_decathlon_datalist(str(path), True, "testing")
        assert all(Path(item[key]).is_file() for item in (*training, *testing) for key in ("image", "label"))
