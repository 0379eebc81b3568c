"""Requests: accepted once, worked on in order, results published whole, nothing of a person kept too long."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ct_assets import files
from ct_assets.serving import jobs, spool
from ct_assets.serving.predictor import Worker
from ct_assets.serving.spool import Spool
from ct_assets.serving.store import JOBS
from ct_assets_tests.serving import studies

ZIP = {"Content-Type": "application/zip"}


def predict(folder, source, output):
    """Stand-in for a model: counts the slices it was given."""
    found = sorted(path.name for path in source.iterdir())
    (output / "series").mkdir()
    files.write_json(output / "series/stage.json", {"slices": len(found)})
    (output / "series/mask.nii.gz").write_bytes(b"mask")
    return [{"series": "series", "status": "predicted", "reasons": [], "mask": "series/mask.nii.gz"}]


@pytest.fixture
def model(api):
    folder = api.serving.settings.data_root / "models/stub/final"
    files.write_json(folder / "bundle.json", {"system": "lung", "digest": "d" * 64, "experiment": "stub"})
    return folder


@pytest.fixture
def worker(api, model):
    return Worker(api.serving.settings, api.serving.store, predict)


@pytest.fixture
def send(api, model):
    def post(body=None, headers=ZIP, path="/v1/inference", **more):
        body = studies.archive(studies.slices()) if body is None else body
        return api.client.post(path, content=body, headers={**api.headers("operator"), **headers, **more})

    return post


@pytest.fixture
def rooms(api):
    return Spool(api.serving.settings.layout.serving)


def state_of(api, answer):
    return api.client.get(answer.headers["location"], headers=api.headers("viewer")).json()


class TestAccepting:
    def test_the_answer_is_202_and_names_the_request(self, api, send):
        answer = send()
        assert answer.status_code == 202
        assert state_of(api, answer)["state"] == "accepted"
        assert [one["status"] for one in answer.json()["instances"]] == ["accepted"] * 3

    def test_files_in_a_form_count_as_one_study(self, api, send, rooms):
        parts = [("file", (f"../../{n}.dcm", one)) for n, one in enumerate(studies.slices())]
        answer = api.client.post("/v1/inference", files=parts, headers=api.headers("operator"))
        job = answer.json()["id"]
        assert sorted(path.name for path in rooms.input(job).iterdir()) == [
            "000000.dcm",
            "000001.dcm",
            "000002.dcm",
        ]

    def test_the_spool_is_closed_to_others(self, send, rooms):
        job = send().json()["id"]
        assert {
            path.stat().st_mode & 0o777 for path in (rooms.root, rooms.folder(job), rooms.input(job))
        } == {0o700}

    def test_names_inside_an_archive_lead_nowhere(self, api, send, rooms):
        one = studies.slices(1)[0]
        answer = send(
            studies.archive({"../../../../evil.dcm": one, "/etc/evil.dcm": studies.slices(1, seed="b")[0]})
        )
        root = api.serving.settings.data_root.parent
        assert answer.status_code == 202
        assert not list(root.rglob("evil*"))

    def test_the_database_and_the_log_hold_nothing_of_the_patient(self, api, send):
        send()
        kept = b"".join(path.read_bytes() for path in api.serving.settings.layout.serving.glob("serving.db*"))
        assert studies.NAME.encode() not in kept
        assert studies.study_uid(studies.slices()[0]).encode() not in kept

    def test_unusable_files_are_named_and_the_rest_is_used(self, send):
        one, two, three = studies.slices()
        answer = send(studies.archive({"a": one, "b": two[:200], "c": b"hello", "d": one, "e": three}))
        told = [(part["status"], part["reason"]) for part in answer.json()["instances"]]
        assert told == [
            ("accepted", None),
            ("refused", "upload_damaged"),
            ("refused", "upload_not_an_image"),
            ("refused", "upload_duplicate"),
            ("accepted", None),
        ]

    def test_nothing_usable_is_refused_and_leaves_nothing(self, send, rooms):
        answer = send(b"hello", {"Content-Type": "application/octet-stream"})
        assert (answer.status_code, answer.json()["code"]) == (422, "nothing_usable")
        assert not list(rooms.root.iterdir())

    def test_an_unknown_model_is_refused_with_the_known_ones(self, send):
        answer = send(path="/v1/inference?model=other")
        assert (answer.status_code, answer.json()["models"]) == (422, ["stub"])


class TestLimits:
    @pytest.fixture
    def limited(self, api, monkeypatch):
        def limit(**limits):
            settings = api.serving.settings
            changed = settings.serving.model_copy(update=limits)
            api.serving.settings = settings.model_copy(update={"serving": changed})

        return limit

    def test_a_zip_bomb_is_refused_before_it_is_unpacked(self, send, rooms, tried):
        bomb = studies.archive({"a.dcm": bytes(50_000_000)})
        answer = send(bomb)
        assert (answer.status_code, answer.json()["code"]) == (422, "archive_bomb")
        assert not list(rooms.root.iterdir())
        tried("zip bomb", "422 archive_bomb, nothing kept", f"{len(bomb)} bytes that unpack to 50 MB")

    @pytest.mark.parametrize(
        ("limits", "code"),
        [
            ({"max_upload_mb": 0}, "too_large"),
            ({"max_files": 2}, "too_many_files"),
            ({"max_unpacked_mb": 0}, "too_large"),
        ],
    )
    def test_each_limit_answers_413_and_leaves_nothing(self, limited, send, rooms, limits, code):
        limited(**limits)
        answer = send()
        assert (answer.status_code, answer.json()["code"]) == (413, code)
        assert not list(rooms.root.iterdir())

    def test_a_full_queue_answers_429(self, limited, send):
        limited(max_queued=1)
        assert send().status_code == 202
        answer = send()
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")

    def test_a_full_disk_answers_507(self, limited, send):
        limited(min_free_gb=1e9)
        assert send().json()["code"] == "disk_full"

    def test_a_disk_that_fills_up_while_receiving_answers_507(self, send, rooms, monkeypatch, tried):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ct_assets.serving.uploads._keep", full)
        answer = send()
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
        assert not list(rooms.root.iterdir())
        tried("disk full while receiving", "507 disk_full, nothing kept")

    @pytest.mark.parametrize("cut", [0.3, 0.9])
    def test_a_body_that_ends_early_is_refused(self, send, rooms, cut):
        body, headers = studies.related(studies.slices())
        answer = send(body[: int(len(body) * cut)], headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "broken_multipart")
        assert not list(rooms.root.iterdir())


class TestIdempotency:
    def test_the_same_key_and_body_is_the_same_request(self, api, send, rooms):
        first, second = (send(**{"Idempotency-Key": "study-0001"}) for _ in range(2))
        assert first.json()["id"] == second.json()["id"]
        assert len(list(rooms.root.iterdir())) == 1

    def test_the_same_key_with_another_body_is_refused(self, send):
        send(**{"Idempotency-Key": "study-0001"})
        answer = send(studies.archive(studies.slices(seed="b")), **{"Idempotency-Key": "study-0001"})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")

    def test_the_key_of_another_caller_is_another_key(self, api, send):
        first = send(**{"Idempotency-Key": "study-0001"})
        other = send(**{"Idempotency-Key": "study-0001"}, **api.headers("admin"))
        assert other.status_code == 202
        assert other.json()["id"] != first.json()["id"]

    def test_twenty_at_once_are_one_request(self, api, send, rooms, tried):
        body = studies.archive(studies.slices())
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: send(body, **{"Idempotency-Key": "study-0001"}), range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(list(rooms.root.iterdir())) == len(api.serving.store.rows(sa.select(JOBS))) == 1
        tried("the same Idempotency-Key twenty times at once", "one request, twenty times 202")


class TestWorking:
    def test_results_come_as_json_and_nifti_with_an_etag(self, api, send, worker):
        answer = send()
        assert worker.work_once()
        done = state_of(api, answer)
        assert (done["state"], done["result"]) == ("done", {"predicted": 1, "refused": 0, "reasons": []})
        viewer = api.headers("viewer")
        [line] = api.client.get(answer.headers["location"] + "/results", headers=viewer).json()
        assert sorted(line["files"]) == ["json", "nifti"]
        fetched = api.client.get(line["files"]["json"], headers=viewer)
        assert fetched.json() == {"slices": 3}
        again = api.client.get(
            line["files"]["json"], headers={**viewer, "If-None-Match": fetched.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        missing = api.client.get(line["files"]["json"].replace("/json", "/seg"), headers=viewer)
        assert missing.json()["code"] == "no_such_result"

    def test_results_before_the_end_are_a_conflict(self, api, send):
        answer = api.client.get(send().headers["location"] + "/results", headers=api.headers("viewer"))
        assert (answer.status_code, answer.json()["state"]) == (409, "accepted")

    def test_urgent_before_normal_and_older_before_newer(self, api, send, worker):
        low, first, second, urgent = (
            send(path=f"/v1/inference?priority={priority}").json()["id"]
            for priority in ("low", "normal", "normal", "urgent")
        )
        order = [jobs.claim(api.serving.store, "inference")["job_id"] for _ in range(4)]
        assert order == [urgent, first, second, low]

    def test_a_failed_prediction_is_reported_by_code(self, api, send, worker):
        def broken(*_):
            raise RuntimeError("DOE^JANE")

        worker.predict = broken
        answer = send()
        worker.work_once()
        told = state_of(api, answer)
        assert (told["state"], told["reason"]["code"]) == ("failed", "request_failed")

    def test_a_model_withdrawn_before_it_answers_refuses(self, api, send, worker, model):
        answer = send()
        files.write_json(model.parent / "withdrawals.json", {"t": {}})
        worker.work_once()
        assert state_of(api, answer)["reason"]["code"] == "model_withdrawn"
        refused = send()
        assert (refused.status_code, refused.json()["code"]) == (409, "model_withdrawn")

    def test_a_model_withdrawn_while_it_answers_publishes_nothing(
        self, api, send, worker, model, rooms, tried
    ):
        def late(folder, source, output):
            lines = predict(folder, source, output)
            files.write_json(model.parent / "withdrawals.json", {"t": {}})
            return lines

        worker.predict = late
        answer = send()
        worker.work_once()
        assert state_of(api, answer)["reason"]["code"] == "model_withdrawn"
        assert not rooms.output(answer.json()["id"]).exists()
        tried("model withdrawn while it answers", "failed, model_withdrawn; no result")

    def test_a_model_that_is_not_there_is_reported(self, api, send, worker, model):
        answer = send()
        files.remove_tree(model)
        worker.work_once()
        assert state_of(api, answer)["reason"]["code"] == "model_missing"


class TestLostWorker:
    def test_what_it_was_doing_is_done_by_the_next(self, api, send, worker, tried):
        answer = send()
        jobs.claim(api.serving.store, "inference")  # and then the process is gone
        jobs.recover(api.serving.store, "inference", attempts=2)
        worker.work_once()
        told = state_of(api, answer)
        assert (told["state"], told["attempts"]) == ("done", 2)
        tried("predictor killed in the middle", "the request is begun again, one result")

    def test_after_the_last_attempt_it_is_reported(self, api, send):
        answer = send()
        for _ in range(2):
            jobs.claim(api.serving.store, "inference")
            jobs.recover(api.serving.store, "inference", attempts=2)
        told = state_of(api, answer)
        assert (told["state"], told["reason"]["code"]) == ("failed", "run_worker_lost")

    def test_a_result_that_was_published_is_not_made_again(self, api, send, worker, rooms):
        answer = send()
        job = answer.json()["id"]
        rooms.output(job).mkdir()
        files.write_jsonl(
            rooms.output(job) / "prediction.jsonl", [{"series": "s", "status": "refused", "reasons": ["x"]}]
        )
        worker.predict = lambda *_: pytest.fail("it was done already")
        worker.work_once()
        assert state_of(api, answer)["result"] == {"predicted": 0, "refused": 1, "reasons": ["x"]}


class TestForgetting:
    def test_a_request_can_be_withdrawn_by_its_sender(self, api, send, rooms):
        answer = send()
        gone = api.client.delete(answer.headers["location"], headers=api.headers("operator"))
        assert gone.status_code == 204
        assert not list(rooms.root.iterdir())
        assert api.client.get(answer.headers["location"], headers=api.headers("viewer")).status_code == 404

    def test_a_running_one_cannot(self, api, send):
        answer = send()
        jobs.claim(api.serving.store, "inference")
        refused = api.client.delete(answer.headers["location"], headers=api.headers("operator"))
        assert (refused.status_code, refused.json()["code"]) == (409, "is_running")

    def test_the_input_goes_first_and_the_results_later(self, api, send, worker, rooms):
        job = send().json()["id"]
        worker.work_once()
        now = time.time()
        spool.expire(api.serving, now=now + 23 * 3600)
        assert rooms.input(job).exists()
        spool.expire(api.serving, now=now + 25 * 3600)
        assert (rooms.input(job).exists(), rooms.output(job).exists()) == (False, True)
        spool.expire(api.serving, now=now + 169 * 3600)
        assert (list(rooms.root.iterdir()), api.serving.store.rows(sa.select(JOBS))) == ([], [])

    def test_a_broken_upload_is_removed_after_hours(self, api, rooms):
        rooms.make("f" * 32)
        spool.expire(api.serving)
        assert rooms.folder("f" * 32).exists()
        spool.expire(api.serving, now=time.time() + 7 * 3600)
        assert not rooms.folder("f" * 32).exists()


class TestStow:
    def test_every_instance_has_its_own_status(self, api, send, worker):
        one, two = studies.slices(2)
        body, headers = studies.related([one, two, two[:300], b"no image"])
        answer = send(body, headers, path="/v1/dicomweb/studies")
        told = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+json")
        assert len(told["00081199"]["Value"]) == 2
        assert len(told["0008119A"]["Value"]) == 2
        assert state_of(api, answer)["state"] == "accepted"

    def test_all_stored_answers_200(self, send):
        body, headers = studies.related(studies.slices())
        assert send(body, headers, path="/v1/dicomweb/studies").status_code == 200

    def test_an_instance_of_another_study_fails_by_itself(self, send):
        own, other = studies.slices(1)[0], studies.slices(1, seed="b")[0]
        body, headers = studies.related([own, other])
        told = send(body, headers, path=f"/v1/dicomweb/studies/{studies.study_uid(own)}").json()
        [failed] = told["00081198"]["Value"]
        assert failed["00081197"]["Value"] == [0xC409]

    def test_nothing_stored_answers_409(self, send):
        body, headers = studies.related([b"no image"])
        assert send(body, headers, path="/v1/dicomweb/studies").status_code == 409

    def test_another_type_answers_415(self, send):
        assert send(path="/v1/dicomweb/studies").status_code == 415
