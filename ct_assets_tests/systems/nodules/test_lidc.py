"""LIDC-IDRI messages: dispositions of files, marks in millimetres, nodules that readers agree on."""

import json
import math

import polars as pl
import pytest
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.reasons import reason
from ct_assets.systems.nodules import lidc_folder
from ct_assets_tests.systems.nodules import lidc_factory as make


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return folder, make.images(folder)


@pytest.fixture
def read(ct, tmp_path):
    def run(**texts):
        for name, text in texts.items():
            path = tmp_path / "xml" / f"{name}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        lidc_folder.run(tmp_path / "xml", tmp_path / "out", ct[0], workers=1)
        files = [json.loads(line) for line in (tmp_path / "out" / "files.jsonl").read_text().splitlines()]
        for file in files:
            assert all(reason(code) for code in file["reasons"])
        tables = {
            name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
            for name in ("scans", "marks", "nodules")
        }
        for name in ("marks", "nodules"):
            assert all(reason(code) for codes in tables[name]["warnings"] for code in codes)
        return files, tables

    return run


def cube(uids, column=5, row=7, size=4, slices=(3, 4), **facts):
    return make.nodule(*(make.roi(uids[k], make.square(column, row, size)) for k in slices), **facts)


class TestMarks:
    def test_a_nodule_lies_where_its_pixels_are_by_the_image_that_the_uid_names(self, read, ct):
        _, tables = read(a=make.message(cube(ct[1])))
        row = tables["marks"].row(0, named=True)
        assert (row["kind"], row["voxels"], row["session"], row["nodule_id"]) == (
            "nodule_ge3",
            32,
            0,
            "Nodule 001",
        )
        assert (row["x_mm"], row["y_mm"], row["z_mm"]) == pytest.approx(make.world(6.5, 8.5, 3.5))
        assert (row["malignancy"], row["internal_structure"], row["calcification"]) == (3, 1, 6)
        assert row["warnings"] == []

    def test_a_hole_is_taken_out_with_its_outline(self, read, ct):
        ring = make.nodule(
            make.roi(ct[1][3], make.square(5, 7, 9)),
            make.roi(ct[1][3], make.square(9, 11, 1), inclusion="FALSE"),
        )
        _, tables = read(a=make.message(ring))
        assert tables["marks"]["voxels"].to_list() == [81 - 9]

    def test_under_three_millimetres_one_point_without_voxels(self, read, ct):
        small = make.nodule(make.roi(ct[1][2], [(10, 12)]), rated=None)
        _, tables = read(a=make.message(small))
        row = tables["marks"].row(0, named=True)
        assert (row["kind"], row["voxels"], row["malignancy"]) == ("nodule_lt3", None, None)
        assert (row["x_mm"], row["y_mm"], row["z_mm"]) == pytest.approx(make.world(10, 12, 2))
        assert len(tables["nodules"]) == 0

    def test_empty_ratings_of_a_small_nodule(self, read, ct):
        small = make.nodule(make.roi(ct[1][2], [(10, 12)]), rated=dict.fromkeys(make.RATED, ""))
        _, tables = read(a=make.message(small))
        assert tables["marks"]["warnings"].to_list() == [[]]

    def test_a_non_nodule(self, read, ct):
        _, tables = read(a=make.message(make.non_nodule(ct[1][8], 3, 4)))
        row = tables["marks"].row(0, named=True)
        assert (row["kind"], row["nodule_id"], row["voxels"]) == ("non_nodule", "N1", None)
        assert (row["x_mm"], row["y_mm"], row["z_mm"]) == pytest.approx(make.world(3, 4, 8))

    def test_an_outline_without_interior_keeps_the_place_of_its_points(self, read, ct):
        thin = make.nodule(make.roi(ct[1][2], [(10, 12), (11, 12)]))
        _, tables = read(a=make.message(thin))
        row = tables["marks"].row(0, named=True)
        assert (row["kind"], row["voxels"], row["warnings"]) == (
            "nodule_ge3",
            0,
            ["outline_without_interior"],
        )
        assert row["x_mm"] == pytest.approx(make.world(10.5, 12, 2)[0])
        assert tables["nodules"].row(0, named=True)["consensus_voxels"] == 0

    @pytest.mark.parametrize(
        ("ratings", "malignancy", "warnings"),
        [
            ({"subtlety": 3}, None, []),
            ({"malignancy": 0}, None, ["rating_out_of_range"]),
            ({"malignancy": "x"}, None, ["rating_out_of_range"]),
            ({"malignancy": 5}, 5, []),
        ],
    )
    def test_ratings_that_are_missing_or_no_ratings(self, read, ct, ratings, malignancy, warnings):
        _, tables = read(a=make.message(cube(ct[1], rated=ratings)))
        assert tables["marks"]["malignancy"].to_list() == [malignancy]
        assert tables["marks"]["warnings"].to_list() == [warnings]
        assert tables["nodules"]["malignancy"].to_list() == [malignancy]

    @pytest.mark.parametrize(
        ("second", "warning"),
        [
            (lambda uids: make.roi("9.9", make.square(5, 7, 4)), "image_not_in_series"),
            (lambda uids: make.roi(uids[4], make.square(35, 7, 6)), "outline_outside_image"),
            (lambda uids: make.roi(uids[4], [(0, -1), (3, 0), (3, 3)]), "outline_outside_image"),
            (lambda uids: make.roi(uids[4], []), "outline_unreadable"),
            (lambda uids: make.roi(uids[4], [("x", 1), (2, 2)]), "outline_unreadable"),
            (lambda uids: make.roi(uids[4], [("inf", 1), (2, 2)]), "outline_unreadable"),
            (lambda uids: make.roi(uids[4], make.square(5, 7, 4), inclusion="MAYBE"), "outline_unreadable"),
        ],
    )
    def test_an_outline_that_cannot_be_used_is_left_out_with_a_warning(self, read, ct, second, warning):
        marks = make.nodule(make.roi(ct[1][3], make.square(5, 7, 4)), second(ct[1]))
        _, tables = read(a=make.message(marks))
        assert tables["marks"]["voxels"].to_list() == [16]
        assert tables["marks"]["warnings"].to_list() == [[warning]]

    def test_a_mark_on_no_known_image_has_no_place_and_no_nodule(self, read):
        files, tables = read(a=make.message(make.nodule(make.roi("9.9", make.square(5, 7, 4)))))
        assert tables["marks"].select("x_mm", "y_mm", "z_mm", "voxels").row(0) == (None,) * 4
        assert len(tables["nodules"]) == 0
        assert files == [{"file": "a.xml", "disposition": "read", "reasons": ["image_not_in_series"]}]

    def test_a_hole_alone_is_no_nodule(self, read, ct):
        hole = make.nodule(make.roi(ct[1][3], make.square(5, 7, 4), inclusion="FALSE"))
        _, tables = read(a=make.message(hole))
        assert tables["marks"].select("x_mm", "voxels").row(0) == (None, None)
        assert tables["marks"]["warnings"].to_list() == [["outline_without_interior"]]
        assert len(tables["nodules"]) == 0

    def test_slices_left_out_and_another_z_are_warned_of(self, read, ct):
        marks = make.nodule(
            make.roi(ct[1][2], make.square(5, 7, 4), z=104.0),
            make.roi(ct[1][5], make.square(5, 7, 4), z=77.0),
        )
        _, tables = read(a=make.message(marks))
        assert tables["marks"]["warnings"].to_list() == [["outline_skips_slices", "slice_position_differs"]]

    @pytest.mark.parametrize("namespace", ["", "urn:other"])
    def test_any_namespace_or_none(self, read, ct, namespace):
        _, tables = read(a=make.message(cube(ct[1]), namespace=namespace))
        assert tables["marks"]["voxels"].to_list() == [32]

    def test_a_prefix_and_an_encoding(self, read, ct):
        text = make.message(cube(ct[1])).replace("<", "<l:").replace("<l:/", "</l:").replace("<l:?", "<?")
        text = text.replace('xmlns="', 'xmlns:l="').replace("UTF-8", "UTF-16")
        _, tables = read(a=text.encode("utf-16"))
        assert tables["marks"]["voxels"].to_list() == [32]


class TestNodules:
    def test_readers_are_sessions_not_marks(self, read, ct):
        twice = cube(ct[1], name="1") + cube(ct[1], name="2")
        _, tables = read(a=make.message(twice, cube(ct[1]), "", ""))
        row = tables["nodules"].row(0, named=True)
        assert (row["readers"], row["marks"], row["in_reference"]) == (2, 3, False)
        assert row["warnings"] == ["more_marks_than_readers"]

    @pytest.mark.parametrize(("sessions", "expected"), [(2, False), (3, True), (4, True)])
    def test_three_readers_make_the_reference_however_many_sessions(self, read, ct, sessions, expected):
        _, tables = read(a=make.message(*[cube(ct[1])] * sessions))
        assert tables["nodules"]["in_reference"].to_list() == [expected]

    def test_half_of_its_readers_agree_on_a_voxel(self, read, ct):
        # 4 readers: two draw 4 x 4, one 6 x 6 around it, one 2 x 2 within: 16 pixels have 3 or 4, 20 one
        sessions = [cube(ct[1]), cube(ct[1]), cube(ct[1], 4, 6, 6), cube(ct[1], 6, 8, 2)]
        _, tables = read(a=make.message(*sessions))
        row = tables["nodules"].row(0, named=True)
        assert (row["readers"], row["consensus_voxels"]) == (4, 32)
        assert (row["x_mm"], row["y_mm"], row["z_mm"]) == pytest.approx(make.world(6.5, 8.5, 3.5))
        volume = 32 * make.ROW_MM * make.COLUMN_MM * make.STEP_MM
        assert row["diameter_mm"] == pytest.approx((6 * volume / math.pi) ** (1 / 3))

    def test_of_two_readers_one_is_half(self, read, ct):
        _, tables = read(a=make.message(cube(ct[1]), cube(ct[1], 7, 7)))
        assert tables["nodules"]["consensus_voxels"].to_list() == [2 * (16 + 16 - 8)]

    def test_of_three_readers_two_are_needed(self, read, ct):
        sessions = [cube(ct[1]), cube(ct[1]), cube(ct[1], 4, 6, 6)]
        _, tables = read(a=make.message(*sessions))
        assert tables["nodules"]["consensus_voxels"].to_list() == [32]

    def test_distant_marks_are_two_nodules(self, read, ct):
        _, tables = read(a=make.message(cube(ct[1], 5), cube(ct[1], 25)))
        assert tables["nodules"]["readers"].to_list() == [1, 1]

    def test_a_small_nodule_adds_no_reader(self, read, ct):
        small = make.nodule(make.roi(ct[1][3], [(6, 8)]), rated=None)
        _, tables = read(a=make.message(cube(ct[1]), cube(ct[1]), small, make.non_nodule(ct[1][3], 6, 8)))
        assert tables["nodules"]["readers"].to_list() == [2]

    def test_means_are_over_the_ratings_that_were_given(self, read, ct):
        rated = [cube(ct[1], rated={"malignancy": value} if value else None) for value in (2, 5, None)]
        _, tables = read(a=make.message(*rated))
        assert tables["nodules"].select("malignancy", "texture").row(0) == (3.5, None)


class TestFiles:
    def test_a_scan_in_which_nobody_marked_anything(self, read):
        _, tables = read(a=make.message("", "", "", ""))
        assert tables["scans"].rows() == [(make.SERIES, 4)]
        assert len(tables["marks"]) == len(tables["nodules"]) == 0

    @pytest.mark.parametrize(
        ("text", "disposition", "code"),
        [
            (make.RADIOGRAPH, "radiograph", "lidc_radiograph"),
            (make.message("")[:-30], "refused", "lidc_broken_xml"),
            ("", "refused", "lidc_no_xml"),
            ("readme", "refused", "lidc_no_xml"),
            ("<html/>", "refused", "lidc_other_message"),
            (make.message("", series=""), "refused", "lidc_no_series"),
            (make.message("", series="../../x"), "refused", "lidc_no_series"),
            (make.message("", series="1.2.3"), "refused", "lidc_images_missing"),
            (
                '<!DOCTYPE a [<!ENTITY b "c">]>' + make.message("").split("\n", 1)[1],
                "refused",
                "lidc_forbidden_xml",
            ),
            (
                '<!DOCTYPE a SYSTEM "file:///etc/hostname">' + make.message("").split("\n", 1)[1],
                "refused",
                "lidc_forbidden_xml",
            ),
        ],
    )
    def test_dispositions(self, read, text, disposition, code):
        files, tables = read(a=text, b=make.message("", ""))
        assert files[0] == {"file": "a.xml", "disposition": disposition, "reasons": [code]}
        assert files[1]["disposition"] == "read"
        assert tables["scans"]["sessions"].to_list() == [2]

    def test_an_exact_copy_counts_once(self, read, ct):
        text = make.message(cube(ct[1]))
        files, tables = read(a=text, b=text)
        assert [file["disposition"] for file in files] == ["read", "exact_duplicate"]
        assert len(tables["marks"]) == 1

    def test_the_same_sessions_in_another_form_count_once(self, read, ct):
        files, tables = read(a=make.message(cube(ct[1])), b=make.message(cube(ct[1]), note="<!-- again -->"))
        assert files[1] == {
            "file": "b.xml",
            "disposition": "exact_duplicate",
            "reasons": ["lidc_sessions_repeated"],
        }
        assert tables["nodules"]["readers"].to_list() == [1]

    def test_different_sessions_of_one_series_are_joined(self, read, ct):
        files, tables = read(a=make.message(cube(ct[1]), cube(ct[1])), b=make.message(cube(ct[1], 6)))
        assert [file["reasons"] for file in files] == [["lidc_sessions_joined"]] * 2
        assert tables["scans"]["sessions"].to_list() == [3]
        assert tables["marks"]["session"].to_list() == [0, 1, 2]
        assert tables["nodules"]["readers"].to_list() == [3]

    def test_files_that_agree_in_part_are_not_guessed(self, read, ct):
        files, tables = read(
            a=make.message(cube(ct[1]), cube(ct[1], 6)), b=make.message(cube(ct[1]), cube(ct[1], 7))
        )
        assert [file["reasons"] for file in files] == [["lidc_readings_conflict"]] * 2
        assert len(tables["scans"]) == 0

    def test_no_file_at_all_is_a_usage_error(self, tmp_path):
        (tmp_path / "xml").mkdir()
        with pytest.raises(UsageError, match="no file"):
            lidc_folder.run(tmp_path / "xml", tmp_path / "out", tmp_path, workers=1)

    def test_the_command_reads_its_folder_again_with_the_same_bytes(self, ct, tmp_path):
        (tmp_path / "a.xml").write_text(make.message(cube(ct[1])))
        arguments = ["nodules", "lidc", str(tmp_path), str(tmp_path), "--images", str(ct[0])]
        contents = []
        for _ in range(2):
            assert CliRunner().invoke(app, arguments).exit_code == 0
            contents.append([(tmp_path / name).read_bytes() for name in ("files.jsonl", "marks.parquet")])
        assert contents[0] == contents[1]
        assert (tmp_path / "timings.json").exists()
