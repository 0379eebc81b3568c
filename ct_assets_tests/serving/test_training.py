"""Trainings over the API: one state from run and folder, legal transitions only, streams that go on by number."""

import json
import threading

import pytest

from ct_assets import files
from ct_assets.serving import batches, jobs, sessions, training
from ct_assets_tests.serving import studies

START = {"experiment": "lung-a", "fold": "0"}


@pytest.fixture
def start(api):
    def post(body=START, **headers):
        return api.client.post("/v1/training", json=body, headers={**api.headers("operator"), **headers})

    return post


@pytest.fixture
def folder(api):
    return api.serving.settings.layout.fold_model("lung-a", "0")


@pytest.fixture
def session(api, start, folder):
    """A session whose run has begun and trains."""
    made = start().json()
    api.runs.states[made["run_id"]] = "STARTED"
    write_state(folder, "training")
    return made["id"]


def write_state(folder, phase):
    files.write_json(
        folder / "state.json", {"phase": phase, "epoch": 3, "epochs": 10, "step": 30, "steps": 100}
    )


def ask(api, session, wish):
    return api.client.post(f"/v1/training/{session}/{wish}", headers=api.headers("operator"))


def get(api, path):
    return api.client.get(path, headers=api.headers("viewer"))


class TestStarting:
    def test_a_start_launches_one_run_of_the_fold(self, api, start):
        answer = start()
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        [run] = api.runs.launched.values()
        assert (run["job"], run["partition"], run["tag"]) == (
            "cross_validation",
            "lung-a|0",
            answer.json()["id"],
        )

    def test_a_second_session_of_the_fold_is_refused_by_name(self, start):
        first = start().json()["id"]
        answer = start()
        assert (answer.status_code, answer.json()["code"], answer.json()["session"]) == (
            409,
            "session_open",
            first,
        )

    def test_the_same_key_is_the_same_session(self, api, start):
        made = {start(**{"Idempotency-Key": "train-0001"}).json()["id"] for _ in range(3)}
        assert (len(made), len(api.runs.launched)) == (1, 1)

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "unknown"])
    def test_a_configuration_is_a_known_name_never_a_path(self, start, name):
        assert start({**START, "configuration": name}).status_code == 422

    def test_an_unknown_field_is_refused(self, start):
        assert start({**START, "environment": {"A": "b"}}).status_code == 422

    def test_without_the_scheduler_it_waits_and_is_launched_once(self, api, start, tried):
        api.runs.is_away = True
        assert start().status_code == 202
        api.runs.is_away = False
        training.reconcile(api.serving)
        training.reconcile(api.serving)
        assert len(api.runs.launched) == 1
        tried("Dagster's webserver away at a launch", "202; launched once when it is back")

    def test_a_crash_between_launch_and_its_note_launches_nothing_twice(self, api, start, tried):
        made = start().json()
        with api.serving.store.write() as connection:
            connection.execute(jobs.JOBS.update().values(run_id=None))
        training.reconcile(api.serving)
        assert get(api, f"/v1/training/{made['id']}").json()["run_id"] == made["run_id"]
        assert len(api.runs.launched) == 1
        tried("API killed between launch and its note", "the run is found by its tag, none is launched again")


class TestSteering:
    def test_every_state_lists_what_may_be_asked(self):
        assert set(sessions.ALLOWED) == set(sessions.SessionState.__args__)

    def test_pause_asks_the_training_and_a_paused_one_is_no_failure(self, api, session, folder):
        assert ask(api, session, "pause").json()["state"] == "pausing"
        assert files.read_json(folder / "request.json") == {"request": "pause"}
        write_state(folder, "paused")
        api.runs.states["run-1"] = "FAILURE"  # what Dagster calls it
        assert get(api, f"/v1/training/{session}/status").json()["state"] == "paused"

    def test_resume_is_a_new_run_of_the_same_session(self, api, session, folder):
        write_state(folder, "paused")
        api.runs.states["run-1"] = "FAILURE"
        resumed = ask(api, session, "resume").json()
        assert (resumed["state"], resumed["run_id"], resumed["id"]) == ("queued", "run-2", session)
        assert api.runs.launched["run-2"]["tag"] == f"{session}-1"

    def test_a_queued_one_is_taken_out_of_the_queue(self, api, start):
        made = start().json()
        assert ask(api, made["id"], "pause").json()["state"] == "paused"
        assert api.runs.states[made["run_id"]] == "CANCELED"

    def test_what_is_not_allowed_is_409_with_what_is(self, api, session):
        answer = ask(api, session, "resume")
        assert (answer.status_code, answer.json()["state"], answer.json()["allowed"]) == (
            409,
            "running",
            ["pause", "stop"],
        )

    def test_a_stopped_training_stays_stopped(self, api, session, folder):
        ask(api, session, "stop")
        write_state(folder, "stopped")
        api.runs.states["run-1"] = "SUCCESS"
        assert get(api, f"/v1/training/{session}").json()["state"] == "stopped"
        assert ask(api, session, "resume").json()["allowed"] == []

    def test_the_row_is_closed_when_the_training_has_finished(self, api, session, folder):
        write_state(folder, "finished")
        api.runs.states["run-1"] = "SUCCESS"
        training.reconcile(api.serving)
        assert jobs.get(api.serving.store, session)["state"] == "done"


class TestCurves:
    @pytest.fixture
    def written(self, folder):
        files.write_jsonl(
            folder / "metrics.jsonl",
            [
                {"epoch": n, "step": 10 * n, "stage": "all", "train_loss": 1 / n, "val_loss": 2 / n,
                 "val_dice": n / 10, "learning_rate": 0.01}
                for n in (1, 2, 3)
            ],
        )  # fmt: skip
        files.write_jsonl(
            folder / "tracking.jsonl",
            [
                {"kind": "params", "values": {"path": "/secret"}},
                *(
                    {"kind": "metrics", "values": {"train_loss": 1 / n}, "step": n, "at_ms": n}
                    for n in (1, 2, 3)
                ),
            ],
        )

    def test_epochs_latest_and_history(self, api, session, written):
        base = f"/v1/training/{session}"
        assert [row["epoch"] for row in get(api, f"{base}/epochs?after=1").json()] == [2, 3]
        assert get(api, f"{base}/metrics/latest").json()["latest"]["val_dice"] == 0.3
        history = get(api, f"{base}/metrics/history?name=val_dice").json()
        assert (history["x"], history["y"]) == ([1, 2, 3], [0.1, 0.2, 0.3])
        assert get(api, f"{base}/metrics/history?name=other").status_code == 404

    def test_graphs(self, api, session, written):
        base = f"/v1/training/{session}/graphs"
        assert [one["name"] for one in get(api, f"{base}/loss").json()["series"]] == [
            "train_loss",
            "val_loss",
        ]
        assert [one["name"] for one in get(api, f"{base}/metrics").json()["series"]] == ["val_dice"]
        assert get(api, f"{base}/learning-rate").json()["series"][0]["y"] == [0.01] * 3
        assert get(api, f"{base}/gpu-usage").json() == {"is_available": False, "series": []}

    def test_the_socket_goes_on_after_a_number(self, api, session, written):
        with api.client.websocket_connect(
            f"/v1/training/{session}/stream?after=2", headers=api.headers("viewer")
        ) as socket:
            got = [socket.receive_json() for _ in range(2)]
        assert [one["number"] for one in got] == [3, 4]

    def test_server_sent_events_go_on_after_the_last_id_and_end_with_the_server(self, api, session, written):
        threading.Timer(0.3, api.serving.stopping.set).start()
        headers = {**api.headers("viewer"), "Last-Event-ID": "2"}
        text = api.client.get(f"/v1/training/{session}/events", headers=headers).text
        assert [line for line in text.splitlines() if line.startswith("id:")] == ["id: 3", "id: 4"]
        data = [line for line in text.splitlines() if line.startswith("data:")]
        assert json.loads(data[0].removeprefix("data: "))["step"] == 2

    def test_no_stream_tells_a_path(self, api, session, written):
        threading.Timer(0.3, api.serving.stopping.set).start()
        text = api.client.get(f"/v1/training/{session}/events", headers=api.headers("viewer")).text
        assert "id: 2" in text
        assert "secret" not in text

    def test_a_torn_last_line_is_not_told_before_it_is_whole(self, folder):
        from ct_assets.serving.curves import Curves

        folder.mkdir(parents=True)
        (folder / "tracking.jsonl").write_bytes(b'{"kind":"metrics"}\n{"kind":"met')
        assert Curves(folder).events(0) == [(1, {"kind": "metrics"})]


class TestBatches:
    @pytest.fixture
    def batch(self, api):
        folder = api.serving.settings.data_root / "models/stub/final"
        files.write_json(folder / "bundle.json", {"system": "lung"})
        body = studies.archive(studies.slices())
        headers = {**api.headers("operator"), "Content-Type": "application/zip"}
        return api.client.post("/v1/batches", content=body, headers=headers).json()["id"]

    def test_a_batch_is_one_run_of_the_graph(self, api, batch):
        batches.reconcile(api.serving)
        batches.reconcile(api.serving)
        [run] = api.runs.launched.values()
        assert (run["job"], run["config"]) == ("serving_batch", {"request_id": batch})

    def test_a_run_that_was_lost_is_reported(self, api, batch):
        batches.reconcile(api.serving)
        api.runs.states["run-1"] = "FAILURE"
        batches.reconcile(api.serving)
        assert get(api, f"/v1/batches/{batch}").json()["reason"]["code"] == "run_worker_lost"

    def test_the_run_does_the_work_and_a_second_run_does_nothing(self, api, batch, monkeypatch):
        calls = []

        def predict(folder, source, output):
            calls.append(source)
            return [{"series": "s", "status": "predicted", "reasons": []}]

        monkeypatch.setattr(batches, "predict_with_system", lambda _: predict)
        assert batches.work(api.serving.settings, batch) == "done"
        assert batches.work(api.serving.settings, batch) == "done"
        assert len(calls) == 1
