"""The feature table: a row a slice whatever is wrong with it, and who belongs together."""

import json

import numpy as np
import polars as pl
import pydicom
import pytest

from ct_assets import tables
from ct_assets.systems.brain import features
from ct_assets.systems.brain.features import Item
from ct_assets.tables.brain import BrainFeatures
from ct_assets_tests.systems.brain.factories import data_set, dicom, head, table_of


def row(path, **elements):
    dicom(path / "ID_a.dcm", **elements)
    return features.features([Item("ID_a", "ID_a.dcm", 1)], path).row(0, named=True)


class TestOneSlice:
    def test_header_and_values(self, tmp_path):
        hu = head()
        told = row(
            tmp_path, hu=hu, PixelSpacing=[2.0, 1.5], SliceThickness="5", WindowCenter=["40", "600"],
            WindowWidth=["80", "2800"], Manufacturer="Maker", KVP="120",
        )  # fmt: skip
        assert (told["ok"], told["error"], told["label"]) == (1, None, 1)
        assert (told["pixel_spacing_x"], told["pixel_spacing_y"]) == (1.5, 2.0)
        assert told["slice_thickness"] == 5
        assert (told["window_center"], told["window_width"]) == (40, 80)
        assert told["orientation"] == [1, 0, 0, 0, 1, 0]
        assert (told["shape_0"], told["shape_1"]) == hu.shape
        assert told["hu_max"] == hu.max()
        assert told["hu_min"] == -1024
        assert told["pixel_array_min"] == hu.min() + 1024
        assert told["pixel_array_max"] == hu.max() + 1024
        assert told["pixel_array_mean"] == pytest.approx((hu.astype(float) + 1024).mean())
        assert (told["manufacturer"], told["kvp_kv"]) == ("Maker", 120)

    def test_what_the_header_lacks_is_null(self, tmp_path):
        told = row(tmp_path, PixelSpacing=None, ImagePositionPatient=None, ImageOrientationPatient=None)
        assert told["ok"] == 1
        assert [
            told[name] for name in ("pixel_spacing_x", "slice_thickness", "window_center", "position")
        ] == [None] * 4
        assert told["orientation"] is None

    def test_numbers_that_are_none_are_null(self, tmp_path):
        assert row(tmp_path, WindowCenter="", SliceThickness=None or "")["window_center"] is None


class TestManySlices:
    def test_a_broken_file_is_a_row_with_its_reason_and_the_rest_goes_on(self, tmp_path):
        root = data_set(tmp_path, patients=4)
        (root / "CTs/ID_0010.dcm").write_bytes(b"broken")
        dicom(root / "CTs/ID_0020.dcm", RescaleSlope=None)
        table = table_of(root)
        tables.validate("features", table, BrainFeatures)
        assert dict(table.select("id", "error").iter_rows()) == {
            "ID_0000": None, "ID_0010": "no_dicom_file", "ID_0020": "missing_rescale", "ID_0030": None,
        }  # fmt: skip
        assert table["ok"].to_list() == [1, 0, 0, 1]

    @pytest.mark.slow
    def test_results_do_not_depend_on_the_number_of_workers(self, tmp_path, monkeypatch):
        monkeypatch.setattr(features, "FEW_SLICES", 0)
        root = data_set(tmp_path, patients=4)
        assert table_of(root, workers=1).equals(table_of(root, workers=2))

    def test_a_file_that_went_is_a_row_too(self, tmp_path):
        (only,) = features.features([Item("ID_a", "ID_a.dcm", 0)], tmp_path).to_dicts()
        assert (only["ok"], only["error"]) == (0, "unreadable_image")


class TestChecks:
    def test_the_summary_counts_what_is_wrong(self, tmp_path):
        root = data_set(tmp_path, patients=4)
        (root / "CTs/ID_0010.dcm").write_bytes(b"broken")
        told = features.checks(table_of(root))
        assert told["missing_key"] == {"id": 0, "path": 0, "label": 0, "group_id": 0}
        assert told["duplicate_id_count"] == 0
        assert told["error_rows_count"] == 1
        assert told["errors"] == {"no_dicom_file": 1}
        assert told["usable_by_label"] == {"0": 2, "1": 1}
        json.dumps(told)

    def test_duplicates_and_missing_keys_are_counted(self, tmp_path):
        table = table_of(data_set(tmp_path, patients=2))
        twice = pl.concat([table, table]).with_columns(pl.lit(None, dtype=pl.Int64).alias("label"))
        told = features.checks(twice)
        assert told["duplicate_id_count"] == 2
        assert told["missing_key"]["label"] == 4


class TestGroups:
    def two(self, tmp_path, first, second, **options):
        dicom(tmp_path / "ID_a.dcm", head(seed=1), **first)
        dicom(tmp_path / "ID_b.dcm", head(seed=2), **second)
        items = [Item("ID_a", "ID_a.dcm", 0), Item("ID_b", "ID_b.dcm", 1)]
        return features.features(items, tmp_path, **options)

    @pytest.mark.parametrize(
        ("first", "second", "groups", "studies"),
        [
            ({"PatientID": "P"}, {"PatientID": "P"}, 1, 2),
            ({"PatientID": "P"}, {"PatientID": "Q"}, 2, 2),
            (
                {"PatientID": "P", "IssuerOfPatientID": "X"},
                {"PatientID": "P", "IssuerOfPatientID": "Y"},
                2,
                2,
            ),
            ({"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": "1.2"}, 1, 1),
            (
                {"PatientID": "P", "StudyInstanceUID": "1.2"},
                {"PatientID": "Q", "StudyInstanceUID": "1.2"},
                1,
                1,
            ),
            ({}, {}, 2, 2),
        ],
    )
    def test_a_patient_or_a_study_is_one_group(self, tmp_path, first, second, groups, studies):
        table = self.two(tmp_path, first, second)
        assert table["group_id"].n_unique() == groups
        assert table["study_id"].n_unique() == studies

    def test_equal_pixels_are_one_group_whatever_the_names_say(self, tmp_path):
        dicom(tmp_path / "ID_a.dcm", head(seed=1), PatientID="P")
        dicom(tmp_path / "ID_b.dcm", head(seed=1), PatientID="Q")
        items = [Item("ID_a", "ID_a.dcm", 0), Item("ID_b", "ID_b.dcm", 1)]
        table = features.features(items, tmp_path, group_by="file")
        assert table["group_id"].n_unique() == 1
        assert table["warnings"].to_list() == [["slice_copied"]] * 2

    def test_identifiers_that_mean_nothing_can_be_left_aside(self, tmp_path):
        same = {"PatientID": "ANON", "StudyInstanceUID": "1.2"}
        assert self.two(tmp_path, same, same, group_by="file")["group_id"].n_unique() == 2
        other = {"PatientID": "ANON", "StudyInstanceUID": "1.3"}
        assert self.two(tmp_path, same, other, group_by="study")["group_id"].n_unique() == 2

    def test_no_identity_of_a_header_is_in_the_table(self, tmp_path):
        table = self.two(
            tmp_path,
            {"PatientID": "Brambleworth77", "PatientName": "Brambleworth^Ada", "StudyInstanceUID": "1.2.33"},
            {"PatientID": "Brambleworth78"},
        )
        text = table.write_ndjson()
        assert "Brambleworth" not in text
        assert "1.2.33" not in text


@pytest.mark.real
def test_real_files_that_fit_nothing_are_rows_with_reasons(real_data):
    folder = real_data / "deid_samples"
    names = sorted(path.stem for path in folder.glob("*.dcm"))
    table = features.features([Item(name, f"{name}.dcm", 0) for name in names], folder)
    assert table["ok"].sum() == 0
    assert set(table["error"]) <= {"not_monochrome", "slice_not_ct", "slice_multi_frame"}
    assert np.all([pydicom.dcmread(folder / f"{name}.dcm").SamplesPerPixel for name in names])
