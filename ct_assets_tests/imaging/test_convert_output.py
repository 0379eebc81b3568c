"""`ct-assets convert` writes and deletes in its own folders only, whatever a header or a record says."""

import json

import pytest

from ct_assets import files
from ct_assets.imaging.convert_tree import convert
from ct_assets.settings import Settings
from ct_assets_tests.imaging.ct_factory import ct_series

NO_UIDS = [
    "../victim",
    "/victim",
    ".",
    "..",
    "1.2/3",
    "1.2\\3",
    "1.",
    ".1",
    "1..2",
    "1.2 .3",
    "1.2a",
    "1." + "2" * 300,
]


def named(series_uid, name="odd"):
    series = ct_series(shape=(4, 6, 7), name=name)
    for ds in series.slices:
        ds.add_new(0x0020000E, "UI", series_uid)
    return series


@pytest.fixture
def place(tmp_path):
    """OUTPUT_DIR some levels deep, with files of others beside it and above."""
    output = tmp_path / "a/b/out"
    for kept in (tmp_path / "above.txt", tmp_path / "a/b/thesis.txt", tmp_path / "a/b/victim/kept.txt"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("to be kept")
    return tmp_path, output


def others(root, output):
    return {
        str(path): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and output not in path.parents
    }


def run(source, output):
    convert(source, output, Settings(), workers=1)
    return files.read_jsonl(output / "conversion.jsonl")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", NO_UIDS)
def test_a_value_that_is_no_uid_is_no_folder_and_refuses_its_series_alone(place, value):
    root, output = place
    named(value).save(root / "in/odd")
    ct_series(shape=(4, 6, 7), name="ordinary").save(root / "in/ordinary")
    before = others(root, output)
    lines = run(root / "in", output)
    assert others(root, output) == before
    assert sorted((line["status"], *line["reasons"]) for line in lines) == [
        ("converted",),
        ("refused", "invalid_uid"),
    ]
    (refused,) = [line for line in lines if line["status"] == "refused"]
    assert refused["uid"].startswith("bad-uid-")
    assert {path.name for path in output.iterdir() if path.is_dir()} == {
        line["uid"] for line in lines if line["status"] == "converted"
    }


@pytest.mark.filterwarnings("ignore")
def test_leading_zeros_are_read_as_real_devices_write_them(place):
    root, output = place
    named("1.2.007.4").save(root / "in")
    (line,) = run(root / "in", output)
    assert line["path"] == "1.2.007.4/image.nii.gz"


@pytest.mark.parametrize(
    "path", ["../victim/image.nii.gz", "../../above.txt", "/victim/x", "./x", ".", "", "victim/x"]
)
def test_a_record_that_names_other_places_deletes_nothing(place, path):
    root, output = place
    ct_series(shape=(4, 6, 7)).save(root / "in")
    (output / "victim").mkdir(parents=True)
    (output / "victim/notes.txt").write_text("somebody's")
    (output / "conversion.jsonl").write_text(json.dumps({"path": path}) + "\n")
    before = others(root, output)
    run(root / "in", output)
    assert others(root, output) == before
    assert (output / "victim/notes.txt").exists()


def test_a_folder_with_files_of_somebody_else_is_neither_replaced_nor_removed(place):
    root, output = place
    first, second = ct_series(shape=(4, 6, 7), name="first"), ct_series(shape=(4, 6, 7), name="second")
    uid = first.slices[0].SeriesInstanceUID
    first.save(root / "in1")
    second.save(root / "in2")
    (output / uid).mkdir(parents=True)
    (output / uid / "reading.docx").write_text("somebody's")
    (line,) = run(root / "in1", output)
    assert (line["status"], line["reasons"]) == ("refused", ["output_occupied"])
    (output / uid / "reading.docx").rename(output / "reading.docx")
    assert run(root / "in1", output)[0]["status"] == "converted"
    (output / "reading.docx").rename(output / uid / "reading.docx")
    run(root / "in2", output)  # the first series is gone from the input, somebody's file is not
    assert (output / uid / "reading.docx").exists()


def test_a_folder_that_is_a_link_is_not_followed(place):
    root, output = place
    series = ct_series(shape=(4, 6, 7))
    series.save(root / "in")
    output.mkdir(parents=True)
    (output / series.slices[0].SeriesInstanceUID).symlink_to(root / "a/b/victim")
    before = others(root, output)
    assert run(root / "in", output)[0]["reasons"] == ["output_occupied"]
    assert others(root, output) == before
