"""A person looks at what is held, and decides; the decision is an audit line and an input of the next run."""

import stat
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from ct_assets import files
from ct_assets.cli import app
from ct_assets.deid.batch import review
from ct_assets.errors import UsageError
from ct_assets.reasons import reason
from ct_assets_tests.deid.corpus import cases_files, cases_pixels
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People
from ct_assets_tests.deid.runs import KEY, run

WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def things():
    people, uids = People(5), Uids(5)
    held = {thing.path: thing for thing in cases_pixels.text_in_pixels(people, uids)}
    return [
        held["pixels/us_denied"], held["pixels/us_clean"], held["pixels/report"], held["pixels/letter.pdf"],
        *cases_files.duplicates(people, uids),
    ]  # fmt: skip


@pytest.fixture
def ran(things, tmp_path):
    for thing in things:
        thing.write(tmp_path / "input")
    return run(tmp_path / "input", tmp_path / "output")


@pytest.fixture
def held(ran):
    """What is held, by its first reason."""
    return {one.reasons[0]: one for one in review.held({"": ran.paths})}


def again(ran):
    return run(ran.input, ran.output)


def test_everything_in_quarantine_is_listed_with_its_reasons(held):
    assert set(held) == {
        "burned_in_text",
        "structured_report",
        "encapsulated_document",
        "conflicting_duplicate",
    }


def test_an_object_is_found_by_the_start_of_its_name(ran, held):
    one = held["burned_in_text"]
    assert review.find({"": ran.paths}, one.sha256[:8]) == one


@pytest.mark.parametrize("name", ["abc", "zzzzzz", "../../x", "0" * 12])
def test_a_name_that_fits_nothing_is_refused(ran, name):
    with pytest.raises(UsageError):
        review.find({"": ran.paths}, name)


class TestLooking:
    def test_pictures_are_for_the_owner_alone_and_text_goes_to_no_public_place(self, things, held):
        one = held["burned_in_text"]
        told = "\n".join(review.show(one))
        assert "Ultrasound Image Storage, 320 x 240, 1 frame" in told
        assert "pieces of text" in told
        person = things[0].person
        assert not any(token in told for token in person.secrets().values())
        pictures = list(one.pictures.iterdir())
        assert {path.name for path in pictures} == {"frame_0001.png", "header.txt"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in pictures} == {0o600}
        assert stat.S_IMODE(one.pictures.stat().st_mode) == 0o700
        assert one.pictures.is_relative_to(one.paths.quarantine)

    def test_a_document_can_be_read(self, held):
        one = held["encapsulated_document"]
        review.show(one)
        assert (one.pictures / "document").read_bytes().startswith(b"%PDF")

    def test_the_pictures_go_with_the_decision(self, held):
        one = held["burned_in_text"]
        review.show(one)
        review.decide(one, "reject", who="Officer", why="names in the image", key=KEY)
        assert not one.pictures.exists()


class TestDeciding:
    def test_a_decision_is_an_audit_line_of_who_when_why_and_no_original_digest(self, held):
        one = held["burned_in_text"]
        review.decide(one, "release", who="Officer", why="a scale bar only", key=KEY, now=WHEN)
        [line] = files.read_jsonl(one.paths.review)
        assert {name: line[name] for name in ("verdict", "reasons", "who", "why", "decided_at")} == {
            "verdict": "release",
            "reasons": ["burned_in_text"],
            "who": "Officer",
            "why": "a scale bar only",
            "decided_at": "2026-03-01T12:00:00+00:00",
        }
        assert one.sha256 not in one.paths.review.read_text()

    def test_the_line_names_the_file_as_the_audit_does(self, ran, held):
        one = held["burned_in_text"]
        decision = review.decide(one, "release", who="Officer", why="scale bar", key=KEY)
        [audited] = [row for row in files.read_jsonl(ran.paths.audit) if row["reasons"] == ["burned_in_text"]]
        assert decision.file == audited["file"]

    def test_the_last_decision_counts_and_the_earlier_stays_on_record(self, held):
        one = held["burned_in_text"]
        review.decide(one, "release", who="Officer", why="scale bar", key=KEY)
        last = review.decide(one, "reject", who="Officer", why="on second thought", key=KEY)
        assert review.decisions(one.paths)[last.file].verdict == "reject"
        assert len(files.read_jsonl(one.paths.review)) == 2

    @pytest.mark.parametrize("code", ["encapsulated_document", "conflicting_duplicate"])
    def test_what_cannot_be_made_safe_by_saying_so_is_refused(self, held, code):
        with pytest.raises(UsageError, match=code):
            review.decide(held[code], "release", who="Officer", why="seems fine", key=KEY)

    @pytest.mark.parametrize("why", ["", "   "])
    def test_a_decision_without_a_reason_is_refused(self, held, why):
        with pytest.raises(UsageError, match="--why"):
            review.decide(held["burned_in_text"], "release", who="Officer", why=why, key=KEY)

    def test_a_reason_that_repeats_an_identifier_is_refused_and_not_written(self, things, held):
        one = held["burned_in_text"]
        person = things[0].person
        for token in (person.family, person.patient_id, person.tokens["institution"]):
            with pytest.raises(UsageError, match="identifier"):
                review.decide(one, "reject", who="Officer", why=f"it shows {token.lower()} on top", key=KEY)
        assert not one.paths.review.exists()


class TestTheNextRun:
    def test_a_released_object_goes_through_the_engine_and_says_so_in_the_audit(self, things, ran, held):
        review.decide(held["burned_in_text"], "release", who="Officer", why="checked", key=KEY)
        after = again(ran)
        assert after.summary.released == ran.summary.released + 1
        [line] = [row for row in files.read_jsonl(ran.paths.audit) if "released_by_review" in row["warnings"]]
        assert (line["disposition"], line["burned_in"]) == ("released", "text_found")
        [released] = ran.paths.dicom.rglob(f"{line['new_sop_instance_uid']}.dcm")
        assert things[0].person.family.encode() not in released.read_bytes()

    def test_a_rejected_object_leaves_the_quarantine_and_keeps_its_line(self, ran, held):
        review.decide(held["structured_report"], "reject", who="Officer", why="not needed", key=KEY)
        again(ran)
        left = {one.reasons[0] for one in review.held({"": ran.paths})}
        assert "structured_report" not in left
        [line] = [
            row for row in files.read_jsonl(ran.paths.audit) if row["reasons"] == ["rejected_by_review"]
        ]
        assert line["disposition"] == "rejected"

    def test_decisions_stand_when_the_batch_is_made_again(self, ran, held):
        review.decide(held["burned_in_text"], "release", who="Officer", why="checked", key=KEY)
        first = again(ran).summary
        assert again(ran).summary == first

    def test_a_decision_is_about_that_content_only(self, things, ran, held):
        review.decide(held["burned_in_text"], "release", who="Officer", why="checked", key=KEY)
        changed = ran.input / things[0].path
        changed.write_bytes(changed.read_bytes().replace(b"Heliotrope 64", b"Heliotrope 65"))
        assert again(ran).summary.reasons["burned_in_text"] == 1


def test_the_codes_of_review_are_registered():
    for code in (review.RELEASED_CODE, review.REJECTED_CODE, *review.RELEASABLE):
        assert reason(code).code == code


def test_the_commands_list_and_decide(ran, held, monkeypatch):
    monkeypatch.setenv("CT_ASSETS_DEID_KEY", bytes(range(7, 39)).hex())
    name, output = held["burned_in_text"].identifier, ["--output", str(ran.output)]
    cli = CliRunner()
    listed = cli.invoke(app, ["quarantine", "list", *output])
    assert listed.exit_code == 0
    assert f"{name}  burned_in_text" in listed.output
    told = cli.invoke(
        app, ["quarantine", "release", name, "--why", "a scale bar", "--who", "Officer", *output]
    )
    assert (told.exit_code, "release recorded" in told.output) == (0, True)
    listed = cli.invoke(app, ["quarantine", "list", *output])
    assert "release decided by Officer" in listed.output
