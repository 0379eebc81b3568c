"""`ct-assets nodules froc`: what the four files may look like, what is counted, and what cannot be evaluated."""

import json
import resource

import numpy as np
import pytest
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.systems.nodules import froc

FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.001,0,0,0,10\n1.2.002,5,5,5,6\n"
EXCLUDED = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.001,50,0,0,-1\n"
MARKS = "seriesuid,coordX,coordY,coordZ,probability\n1.2.001,1,0,0,0.9\n1.2.002,99,0,0,0.8\n"
SERIES = "1.2.001\n1.2.002\n1.2.003\n"


@pytest.fixture
def evaluate(tmp_path):
    def run(*, annotations=FINDINGS, excluded=EXCLUDED, series=SERIES, marks=MARKS, **options):
        texts = {"annotations": annotations, "excluded": excluded, "series": series, "marks": marks}
        paths = {name: tmp_path / f"{name}.csv" for name in texts}
        for name, text in texts.items():
            paths[name].write_bytes(text if isinstance(text, bytes) else text.encode())
        return froc.evaluate(*paths.values(), **options)

    return run


def test_what_is_counted(evaluate):
    result = evaluate(marks=MARKS + "1.2.001,50,1,0,0.7\n1.2.001,0,1,0,0.6\n9.9,0,0,0,1\n")
    assert (result["scans"], result["findings"]) == (3, 2)
    assert result["counts"] == {
        "hits": 1, "missed": 1, "false_marks": 1, "on_excluded": 1, "further_hits": 1, "beyond_limit": 0,
        "marks_outside_series": 1, "findings_outside_series": 0, "excluded_outside_series": 0,
        "scans_without_marks": 1,
    }  # fmt: skip
    assert result["scans_without_marks"] == ["1.2.003"]
    assert result["series_of_marks_outside"] == ["9.9"]
    assert result["cpm"] == 0.5  # found before the first false mark, the other never
    assert list(result["sensitivity_at"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]


def test_findings_of_one_fold_against_the_annotations_of_all(evaluate):
    result = evaluate(series="1.2.001\n")
    assert (result["findings"], result["cpm"]) == (1, 1.0)
    assert result["counts"]["findings_outside_series"] == 1
    assert result["counts"]["marks_outside_series"] == 1


@pytest.mark.parametrize(
    "marks",
    [
        MARKS.replace("\n", "\r\n"),
        MARKS.replace("\n", "\r"),
        MARKS.rstrip("\n"),
        "\ufeff" + MARKS,
        MARKS.encode("utf-16"),
        MARKS.replace("\n", "\n\n"),
        MARKS.replace(",", " , "),
        "probability,coordZ,note,coordY,coordX,seriesuid\n0.9,0,x,0,1,1.2.001\n0.8,0,,0,99,1.2.002\n",
        '"seriesuid","coordX","coordY","coordZ","probability"\n"1.2.001","1","0","0","0.9"\n1.2.002,99,0,0,8e-1\n',
    ],
    ids=["CRLF", "CR", "no last line end", "BOM", "UTF-16", "blank lines", "blanks", "order", "quotes"],
)
def test_forms_of_one_file_give_one_result(evaluate, marks):
    assert evaluate(marks=marks) == evaluate()


def test_identifiers_are_text(evaluate):
    result = evaluate(
        series="001\n1\n", annotations=FINDINGS.replace("1.2.001", "001"), marks=MARKS.replace("1.2.001", "1")
    )
    assert result["counts"]["hits"] == 0
    assert result["scans_without_marks"] == ["001"]


def test_no_marks_at_all_is_zero(evaluate):
    result = evaluate(marks="seriesuid,coordX,coordY,coordZ,probability\n", bootstraps=20)
    assert result["cpm"] == 0
    assert result["interval"]["cpm"] == [0, 0]
    assert result["counts"]["scans_without_marks"] == 3


def test_without_the_excluded_findings_the_result_says_so_first(tmp_path):
    for name, text in (("a", FINDINGS), ("s", SERIES), ("m", MARKS)):
        (tmp_path / name).write_text(text)
    result = froc.evaluate(tmp_path / "a", None, tmp_path / "s", tmp_path / "m")
    assert froc.summary(result).startswith("no list of excluded findings")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"marks": MARKS + "1.2.001,0,0,0,nan\n"}, "marks.csv: line 4: probability"),
        ({"marks": MARKS + "1.2.001,0,0,0,\n"}, "line 4: probability"),
        ({"marks": MARKS + "1.2.001,0,0,0,1_0\n"}, "line 4: probability"),
        ({"marks": MARKS + "1.2.001,inf,0,0,1\n"}, "line 4: coordX"),
        ({"marks": MARKS + "1.2.001,0,0,0\n"}, "line 4 has 4 cells"),
        ({"marks": MARKS + "1.2.001,0,0,0,0,5\n"}, "line 4 has 6 cells"),
        ({"marks": MARKS + ",0,0,0,1\n"}, "line 4: seriesuid is empty"),
        ({"marks": MARKS.replace("probability", "score")}, "no column probability"),
        ({"marks": MARKS.replace(",", ";")}, "no column seriesuid"),
        ({"marks": "seriesuid," + MARKS}, "seriesuid is there twice"),
        ({"marks": b"\x80\x81"}, "no CSV"),
        ({"marks": ""}, "no column"),
        ({"annotations": FINDINGS + "1.2.001,0,0,-inf,1\n"}, "annotations.csv: line 4: coordZ"),
        ({"annotations": FINDINGS + "1.2.001,0,0,0,nan\n"}, "line 4: diameter_mm"),
        ({"excluded": EXCLUDED + "9.9,0,nan,0,1\n"}, "excluded.csv: line 3: coordY"),
        ({"series": SERIES + "1.2.002\n"}, "series 1.2.002 was listed on line 2"),
        ({"series": "1.2.001,1.2.002\n"}, "not one series UID a line"),
        ({"series": "\n"}, "no series"),
        ({"series": "9.9\n"}, "no finding in any"),
    ],
)
def test_what_cannot_be_evaluated_is_named(evaluate, files, message):
    with pytest.raises(UsageError) as refusal:
        evaluate(**files)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        froc.evaluate(tmp_path / "a", None, tmp_path / "s", tmp_path / "m")


def test_intervals_hold_the_figure_and_follow_the_seed(evaluate):
    first = evaluate(bootstraps=200)
    low, high = first["interval"]["cpm"]
    assert low <= first["cpm"] <= high
    assert first == evaluate(bootstraps=200)
    assert first["interval"]["samples"] == 200
    assert set(first["interval"]["sensitivity_at"]) == set(first["sensitivity_at"])


def test_one_scan_has_no_interval(evaluate):
    assert evaluate(series="1.2.001\n", bootstraps=50)["interval"]["cpm"] == [None, None]


def test_the_command(tmp_path):
    for name, text in (("a", FINDINGS), ("e", EXCLUDED), ("s", SERIES), ("m", MARKS)):
        (tmp_path / name).write_text(text)
    options = {
        "--annotations": "a",
        "--excluded": "e",
        "--series": "s",
        "--marks": "m",
        "--output": "out/o.json",
    }
    arguments = [part for option, name in options.items() for part in (option, str(tmp_path / name))]
    done = CliRunner().invoke(app, ["nodules", "froc", *arguments, "--bootstraps", "10"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "o.json").read_text())["cpm"] == 0.5


def test_time_follows_the_number_of_marks(evaluate):
    rng = np.random.default_rng(0)
    scans = [f"1.2.{n:04d}" for n in range(200)]
    of = lambda rows: [scans[n] for n in rng.integers(200, size=rows)]  # noqa: E731
    lines = lambda rows, last: [  # noqa: E731
        f"{scan},{x:.3f},{y:.3f},{z:.3f},{value:.6f}"
        for scan, (x, y, z), value in zip(
            of(rows), rng.uniform(-150, 150, (rows, 3)), last(rows), strict=True
        )
    ]
    files = {
        "annotations": [FINDINGS.splitlines()[0], *lines(300, lambda n: rng.uniform(4, 30, n))],
        "excluded": [FINDINGS.splitlines()[0], *lines(3000, lambda n: -np.ones(n))],
        "marks": [MARKS.splitlines()[0], *lines(10000, rng.random)],
        "series": scans,
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    evaluate(bootstraps=100, **{name: "\n".join(rows) for name, rows in files.items()})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 2
