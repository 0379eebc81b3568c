"""Tracking: everything arrives, in parent and child runs, and a server that is away costs nothing."""

import pytest

from ct_assets import files
from ct_assets.learning.training import tracking
from ct_assets.learning.training.train import train_fold
from ct_assets_tests.learning import tiny


def run(folder, uri, run_id=None):
    name = tracking.RunName("study", "fold 0", folder)
    return tracking.RunTracker(uri, name, folder / "fold", run_id=run_id)


def tell_everything(tracker):
    tracker.params({"seed": 3, "long": "x" * 900})
    tracker.tags({"fold": "0"})
    tracker.dataset("manifest", "ab" * 32, "cohort/cohort_manifest.parquet", "training")
    tracker.metrics({"loss": 0.5, "broken": float("nan")}, step=1)
    tracker.metrics({"loss": 0.25}, step=2)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tracker = run(folder, tiny.tracking_uri())
    tell_everything(tracker)
    tracker.finish("FINISHED")
    client = tracking.client(tiny.tracking_uri())
    return folder, client, client.get_run(tracker.run_id)


class TestARun:
    def test_parameters_metrics_tags_and_data_sets_arrive(self, told):
        _, client, found = told
        assert found.data.params == {"seed": "3", "long": "x" * 500}
        assert found.data.tags["fold"] == "0"
        assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")] == [
            (1, 0.5),
            (2, 0.25),
        ]
        assert found.inputs.dataset_inputs[0].dataset.name == "manifest"
        assert found.info.status == "FINISHED"

    def test_what_is_no_number_is_left_out(self, told):
        assert "broken" not in told[2].data.metrics

    def test_folds_are_children_of_one_run_of_the_experiment(self, told):
        folder, client, found = told
        other = tracking.RunTracker(
            tiny.tracking_uri(), tracking.RunName("study", "fold 1", folder), folder / "fold1"
        )
        other.tags({"fold": "1"})
        other.finish("FINISHED")
        parents = {
            client.get_run(r).data.tags["mlflow.parentRunId"] for r in (found.info.run_id, other.run_id)
        }
        assert parents == {files.read_json(folder / tracking.PARENT_NAME)["run_id"]}
        (parent,) = parents
        assert client.get_run(parent).info.status == "FINISHED"

    def test_the_experiment_opens_on_its_training_runs(self, told):
        _, client, found = told
        experiment = client.get_experiment(found.info.experiment_id)
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"

    def test_a_resumed_run_goes_on_in_the_same_run_and_sends_nothing_twice(self, told):
        folder, client, found = told
        again = run(folder, tiny.tracking_uri())
        assert again.run_id == found.info.run_id
        again.metrics({"loss": 0.1}, step=3)
        again.finish("FINISHED")
        history = client.get_metric_history(found.info.run_id, "loss")
        assert [m.value for m in history] == [0.5, 0.25, 0.1]


class TestAServerThatIsAway:
    AWAY = "http://127.0.0.1:9"  # the discard port: nobody answers

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(tracking, "SECONDS_TO_FINISH", 3.0)
        monkeypatch.setattr(tracking, "SECONDS_BETWEEN_TRIES", 0.2)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")

    def test_what_could_not_be_sent_waits_and_is_sent_later_in_order(self, tmp_path, monkeypatch):
        tracker = run(tmp_path, self.AWAY)
        tell_everything(tracker)
        tracker.finish("KILLED")
        assert tracker.run_id is None
        monkeypatch.setattr(tracking, "SECONDS_TO_FINISH", 60.0)
        later = run(tmp_path, tiny.tracking_uri())
        later.metrics({"loss": 0.1}, step=3)
        later.finish("FINISHED")
        history = tracking.client(tiny.tracking_uri()).get_metric_history(later.run_id, "loss")
        assert [m.value for m in history] == [0.5, 0.25, 0.1]

    def test_a_training_ends_as_if_it_were_there(self, tmp_path):
        cohort = tiny.make(tmp_path, patients=6, tests=0)
        config = tiny.config(stages=[{"epochs": 1}], steps_per_epoch=1)
        result = train_fold(**cohort.arguments(config) | {"tracking_uri": self.AWAY})
        assert result.status == "finished"
        assert result.run_id is None
        assert (result.last.parent / tracking.EVENTS_NAME).stat().st_size > 0


def test_a_line_that_a_killed_process_left_unfinished_is_forgotten(tmp_path):
    tracker = run(tmp_path, tiny.tracking_uri())
    tracker.tags({"a": "1"})
    tracker.finish("KILLED")
    with (tmp_path / "fold" / tracking.EVENTS_NAME).open("ab") as torn:
        torn.write(b'{"kind": "tags", "val')
    again = run(tmp_path, tiny.tracking_uri())
    again.tags({"b": "2"})
    again.finish("FINISHED")
    tags = tracking.client(tiny.tracking_uri()).get_run(again.run_id).data.tags
    assert (tags["a"], tags["b"]) == ("1", "2")
