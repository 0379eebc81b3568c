"""`ct-assets longitudinal tables`: filters, choices, pairs and growth against rows worked out by hand."""

import json
import os
import pickle

import polars as pl
import pytest
from typer.testing import CliRunner

from ct_assets.cli import app

EXAM = {"series": "1.2", "num_slices": 120, "days_at_event": 900, "cancer": 0, "split": "train"}


def exam(pid, timepoint, exam_id, thickness=1.25, **values):
    row = {"pid": pid, "exam_id": exam_id, "screen_timepoint": timepoint, "slice_thickness": thickness}
    return EXAM | {"days_at_event": 900 - 365 * timepoint} | row | values


def nodule(pid, index, exam_id, volume, group="g1", **values):
    return {"pid": pid, "nodule_group": group, "exam_idx": index, "exam": exam_id, "volume": volume} | values


def build(folder, exams, tracking=(), *options):
    folder.mkdir(exist_ok=True)
    empty = [nodule("nobody", 0, "none", 1.0)]
    pl.DataFrame(exams, infer_schema_length=None).write_csv(folder / "exams.csv")
    pl.DataFrame(list(tracking) or empty, infer_schema_length=None).write_csv(folder / "tracking.csv")
    arguments = [
        "longitudinal",
        "tables",
        *(str(folder / name) for name in ("exams.csv", "tracking.csv", "out")),
    ]
    ended = CliRunner().invoke(app, [*arguments, *map(str, options)])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return {path.stem: pl.read_parquet(path) for path in (folder / "out").glob("*.parquet")}


def reasons(table, **wanted):
    rows = table.filter(*(pl.col(name) == value for name, value in wanted.items()))
    return [list(codes) for codes in rows["reasons"]]


class TestTheChoiceOfExams:
    def test_identifiers_keep_their_leading_zeros(self, tmp_path):
        written = build(tmp_path, [exam("0012", 0, "00120")])
        assert written["single_timepoints"].select("pid", "exam_id").row(0) == ("0012", "00120")

    @pytest.mark.parametrize(
        ("values", "code"),
        [
            ({"thickness": 2.501}, "exam_too_thick"),
            ({"thickness": 0}, "exam_without_thickness"),
            ({"num_slices": 49}, "exam_too_few_slices"),
            ({"is_localizer": True}, "exam_is_localizer"),
            ({"y_mask": "[0, 0, 0, 0, 0, 0]"}, "exam_label_window_empty"),
            ({"has_nifti": True, "sorted_paths": '["a"]'}, "exam_image_ambiguous"),
            ({"has_nifti": False, "sorted_paths": ""}, "exam_without_image"),
        ],
    )
    def test_an_exam_that_cannot_be_used_is_listed(self, tmp_path, values, code):
        written = build(tmp_path, [exam("p", 0, "a", **values)])
        assert reasons(written["excluded"], exam_id="a") == [[code]]
        assert written["single_timepoints"].is_empty()

    def test_limits_are_inclusive_and_float_noise_is_none(self, tmp_path):
        written = build(tmp_path, [exam("p", 0, "a", 2.5000001, num_slices=50)])
        assert written["single_timepoints"]["slice_thickness_class"].to_list() == [2.5]

    def test_thickness_then_slices_then_series_decide(self, tmp_path):
        rows = [
            exam("p", 0, "thick", 2.0),
            exam("p", 0, "few", 1.0, num_slices=100),
            exam("p", 0, "later", 1.0, num_slices=200, series="1.9"),
            exam("p", 0, "best", 1.0, num_slices=200, series="1.10"),
        ]
        for number, order in enumerate((rows, rows[::-1])):
            written = build(tmp_path / str(number), order)
            assert written["single_timepoints"]["exam_id"].to_list() == ["best"]
            assert reasons(written["excluded"]) == [["exam_not_chosen"]] * 3

    def test_one_identifier_of_two_exams_refuses_both_and_an_equal_row_counts_once(self, tmp_path):
        rows = [
            exam("p", 0, "a", series="1"),
            exam("p", 1, "a", series="2"),
            exam("q", 0, "b"),
            exam("q", 0, "b"),
        ]
        written = build(tmp_path, rows)
        assert reasons(written["excluded"], exam_id="a") == [["exam_id_collision"]] * 2
        assert reasons(written["excluded"], exam_id="b") == [["exam_exact_duplicate"]]
        assert written["single_timepoints"]["exam_id"].to_list() == ["b"]

    def test_a_patient_of_two_splits_is_left_out(self, tmp_path):
        written = build(tmp_path, [exam("p", 0, "a"), exam("p", 1, "b", split="test"), exam("q", 0, "c")])
        assert written["single_timepoints"]["pid"].to_list() == ["q"]
        assert reasons(written["excluded"], pid="p") == [["patient_in_two_splits"]] * 2


class TestPairsOfExams:
    def test_are_consecutive_kept_exams_with_days_and_skipped_timepoints(self, tmp_path):
        written = build(
            tmp_path, [exam("p", 2, "c"), exam("p", 0, "a"), exam("q", 1, "x"), exam("p", 3, "d")]
        )
        pairs = written["paired_exams"].select("exam_id_a", "exam_id_b", "delta_days", "timepoints_skipped")
        assert pairs.rows() == [("a", "c", 730.0, 1), ("c", "d", 365.0, 0)]
        timeline = written["timelines"].filter(pid="p").row(0, named=True)
        assert timeline["exam_ids"] == ["a", "c", "d"]
        assert timeline["screen_timepoints"] == [0, 2, 3]
        assert (timeline["n_exams"], timeline["cancer_any"]) == (3, False)

    def test_an_interval_that_is_not_positive_is_refused_and_none_is_made_across(self, tmp_path):
        rows = [
            exam("p", 0, "a"),
            exam("p", 1, "b", days_at_event=900),
            exam("p", 2, "c", days_at_event=None),
        ]
        written = build(tmp_path, rows)
        assert written["paired_exams"].is_empty()
        assert written["refused_pairs"].select("exam_id_a", "exam_id_b", "reasons").rows() == [
            ("a", "b", ["interval_not_positive"]),
            ("b", "c", ["interval_unknown"]),
        ]


class TestBadExams:
    @pytest.mark.parametrize("text", ['{"exam_id": "b"}\n', "b\n", '"b"\n\n'])
    def test_the_policy_exam_pairs_again_without_it(self, tmp_path, text):
        (tmp_path / "bad").write_text(text)
        rows = [exam("p", 0, "a"), exam("p", 1, "b"), exam("p", 2, "c")]
        tracking = [nodule("p", 0, "a", 100), nodule("p", 1, "b", 110), nodule("p", 2, "c", 150)]
        written = build(tmp_path, rows, tracking, "--bad-exams", tmp_path / "bad")
        assert written["paired_exams"].select("exam_id_a", "exam_id_b").rows() == [("a", "c")]
        assert written["paired_nodules"].select("exam_a", "exam_b", "delta_days").rows() == [
            ("a", "c", 730.0)
        ]
        assert reasons(written["unpaired_nodules"], exam="b") == [["exam_known_bad"]]

    def test_the_policy_patient_leaves_the_patient_out(self, tmp_path):
        (tmp_path / "bad").write_text("b\n")
        rows = [exam("p", 0, "a"), exam("p", 1, "b"), exam("q", 0, "x")]
        tracking = [nodule("p", 0, "a", 100), nodule("p", 1, "b", 110)]
        written = build(tmp_path, rows, tracking, "--bad-exams", tmp_path / "bad", "--policy", "patient")
        assert written["single_timepoints"]["pid"].to_list() == ["q"]
        assert written["paired_nodules"].is_empty()
        assert reasons(written["excluded"], exam_id="a") == [["patient_with_bad_exam"]]


class TestNodules:
    def test_pairs_are_consecutive_by_index_and_rows_without_a_pair_are_listed(self, tmp_path):
        tracking = [
            nodule("p", 2, "c", 300),
            nodule("p", 0, "a", 100),
            nodule("p", 1, "elsewhere", 120),
            nodule("p", 0, "a", 50, "once"),
            nodule("p", 1, "b", 0, "once"),
            nodule("p", 0, "a", 50, "twice"),
            nodule("p", 0, "a", 60, "twice"),
        ]
        written = build(tmp_path, [exam("p", 0, "a"), exam("p", 1, "b"), exam("p", 2, "c")], tracking)
        pairs = written["paired_nodules"].select("exam_a", "exam_b", "volume_a", "volume_b", "delta_days")
        assert pairs.rows() == [
            ("a", "elsewhere", 100.0, 120.0, None),
            ("elsewhere", "c", 120.0, 300.0, None),
        ]
        listed = written["unpaired_nodules"]
        assert reasons(listed, nodule_group="once", exam_idx=0) == [["nodule_seen_once"]]
        assert reasons(listed, nodule_group="once", exam_idx=1) == [["tracking_without_volume"]]
        assert reasons(listed, nodule_group="twice") == [["tracking_contradicts"]] * 2

    def test_growth_and_doubling_time_are_those_by_hand(self, tmp_path):
        volumes = {
            "g25": (80, 100),
            "s25": (100, 75),
            "less": (100, 124.9),
            "same": (100, 100),
            "double": (100, 200),
        }
        tracking = [
            nodule("p", index, exam_id, pair[index], group)
            for group, pair in volumes.items()
            for index, exam_id in enumerate(("a", "b"))
        ]
        written = build(tmp_path, [exam("p", 0, "a"), exam("p", 1, "b")], tracking)
        rows = {row["nodule_group"]: row for row in written["growth"].to_dicts()}
        assert {name: row["growth_class"] for name, row in rows.items()} == {
            "g25": "growing",
            "s25": "shrinking",
            "less": "stable",
            "same": "stable",
            "double": "growing",
        }
        assert rows["double"]["vdt_days"] == pytest.approx(365)
        assert rows["double"]["vdt_class"] == "fast"
        assert rows["g25"]["vdt_days"] == pytest.approx(365 * 3.1062837)  # ln 2 / ln 1.25
        assert rows["g25"]["vdt_class"] == "slow"
        assert rows["same"]["vdt_days"] is None
        assert rows["less"]["vdt_class"] is None


class _Runs:
    def __reduce__(self):
        return os.system, ("true",)


class TestPickles:
    def test_rows_and_columns_are_read(self, tmp_path):
        rows = [nodule("007", 0, "0071", 100.0), nodule("007", 1, "0072", 130.0)]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        pl.DataFrame([exam("007", 0, "0071")]).write_csv(tmp_path / "exams.csv")
        for content in (rows, columns):
            (tmp_path / "tracking.p").write_bytes(pickle.dumps(content))
            arguments = [
                "longitudinal",
                "tables",
                *(str(tmp_path / n) for n in ("exams.csv", "tracking.p", "out")),
            ]
            assert CliRunner().invoke(app, arguments).exit_code == 0
            pairs = pl.read_parquet(tmp_path / "out" / "paired_nodules.parquet")
            assert pairs.select("pid", "exam_a", "exam_b").rows() == [("007", "0071", "0072")]

    def test_a_pickle_that_would_run_code_is_refused_by_name(self, tmp_path):
        pl.DataFrame([exam("p", 0, "a")]).write_csv(tmp_path / "exams.csv")
        (tmp_path / "tracking.p").write_bytes(pickle.dumps([_Runs()]))
        arguments = [
            "longitudinal",
            "tables",
            *(str(tmp_path / n) for n in ("exams.csv", "tracking.p", "out")),
        ]
        ended = CliRunner().invoke(app, arguments)
        assert "posix.system" in str(ended.exception)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pid,exam_id\np,a\n", "series"),
        (
            "pid,exam_id,series,screen_timepoint,num_slices,days_at_event\np,a,1,zero,100,9\n",
            "line 2: screen_timepoint",
        ),
        ("pid,pid,exam_id,series,screen_timepoint,num_slices,days_at_event\np,p,a,1,0,100,9\n", "pid"),
    ],
)
def test_a_table_that_cannot_be_used_names_the_column(tmp_path, text, says):
    (tmp_path / "exams.csv").write_text(text)
    pl.DataFrame([nodule("p", 0, "a", 1.0)]).write_csv(tmp_path / "tracking.csv")
    arguments = ["longitudinal", "tables", *(str(tmp_path / n) for n in ("exams.csv", "tracking.csv", "out"))]
    assert says in str(CliRunner().invoke(app, arguments).exception)


def test_a_bad_line_of_bad_exams_is_named(tmp_path):
    from ct_assets.errors import UsageError
    from ct_assets.systems.longitudinal.build_tables import read_bad_exams

    (tmp_path / "bad.jsonl").write_text(json.dumps({"exam_id": "a"}) + "\n{broken\n")
    with pytest.raises(UsageError, match="line 2"):
        read_bad_exams(tmp_path / "bad.jsonl")


class TestExamsOfTheTrackingTable:
    @pytest.mark.parametrize("order", [1, -1])
    def test_an_exam_holds_as_long_as_one_of_its_series_can_be_used(self, tmp_path, order):
        rows = [
            exam("p", 0, "a", exam="X"),
            exam("p", 1, "b", exam="Y", days_at_event=500),
            exam("p", 1, "c", 5.0, exam="Y", days_at_event=None),
        ]
        written = build(tmp_path, rows[::order], [nodule("p", 0, "X", 100.0), nodule("p", 1, "Y", 150.0)])
        assert written["paired_nodules"]["delta_days"].to_list() == [400.0]

    def test_no_series_usable_leaves_the_nodule_out(self, tmp_path):
        rows = [
            exam("p", 0, "a", exam="X"),
            exam("p", 0, "b", 5.0, exam="Y"),
            exam("p", 1, "c", 4.0, exam="Y"),
        ]
        written = build(tmp_path, rows, [nodule("p", 0, "X", 100.0), nodule("p", 1, "Y", 150.0)])
        assert reasons(written["unpaired_nodules"], exam="Y") == [["exam_too_thick"]]

    def test_one_exam_is_no_pair_with_itself(self, tmp_path):
        tracking = [nodule("p", 0, "unknown", 100.0), nodule("p", 1, "unknown", 150.0)]
        written = build(tmp_path, [exam("p", 0, "a")], tracking)
        assert reasons(written["unpaired_nodules"]) == [["interval_not_positive"]] * 2

    def test_an_exam_of_another_patient_is_named(self, tmp_path):
        written = build(tmp_path, [exam("p", 0, "a")], [nodule("q", 0, "a", 100.0)])
        assert reasons(written["unpaired_nodules"], pid="q") == [["tracking_of_another_patient"]]


@pytest.mark.parametrize("text", ["[0.7, 0.7, 2.0]", "(0.7, 0.7, 2.0)", "[0.7 0.7 2.0]", "[ 0.7  0.7  2. ]"])
def test_a_list_is_read_as_json_python_or_numpy_print_it(tmp_path, text):
    row = exam("p", 0, "a", None, pixel_spacing=text, sorted_paths="['a', 'b']")
    assert build(tmp_path, [row])["single_timepoints"]["slice_thickness"].to_list() == [2.0]


@pytest.mark.parametrize(
    "text", ['["007", "b"]', '[\n {"exam_id": "007"},\n "b"]', "why,exam_id\nmotion,007\n,b\n", "007\n\nb\n"]
)
def test_bad_exams_are_read_in_any_usual_form(tmp_path, text):
    from ct_assets.systems.longitudinal.build_tables import read_bad_exams

    (tmp_path / "bad").write_text(text)
    assert read_bad_exams(tmp_path / "bad") == {"007", "b"}
