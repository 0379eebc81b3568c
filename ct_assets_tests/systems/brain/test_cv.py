"""Cross-validation: every slice once, by a model that never saw it; the final training and the test apart."""

import numpy as np
import polars as pl
import pytest

from ct_assets import tables
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.test_access_log import Readings
from ct_assets.settings.brain import CANDIDATES, BrainConfig, BrainSettings, RunOptions, configurations
from ct_assets.systems.brain import cv, final, grid, pipeline, splits
from ct_assets.tables.brain import BrainPredictions
from ct_assets_tests.systems.brain.factories import config, data_set, placed_of, prepared_of, table_of

OPTIONS = RunOptions(k_folds=2, batch_size=4, num_workers=0, out_size=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = data_set(tmp_path_factory.mktemp("data"), patients=12)
    table = table_of(root)
    return prepared_of(table, root, tmp_path_factory.mktemp("prepared")), table


@pytest.mark.slow
def test_run_cv_returns_everything_and_predicts_every_slice_once(data, tmp_path):
    prepared, table = data
    training = placed_of(table, folds=2)
    result = cv.run_cv(training, config(), OPTIONS, prepared, tmp_path, threads=1)
    assert sorted(result.oof_ids) == sorted(training["id"])
    labels = dict(training.select("id", "label").iter_rows())
    assert result.oof_true.tolist() == [labels[one] for one in result.oof_ids]
    assert len(result.fold_metrics) == len(result.histories) == len(result.weights) == 2
    assert result.mean_metric == pytest.approx(np.mean(result.fold_metrics))
    assert result.std_metric == pytest.approx(np.std(result.fold_metrics, ddof=1))
    assert [len(one) for one in result.y_true_fold] == [len(one) for one in result.y_score_fold] == [6, 6]
    assert result.df_all.height == 2 * 19
    assert result.df_summary.height == 19
    tables.validate("predictions", result.predictions, BrainPredictions)
    again = cv.gather([cv.read_fold(tmp_path / str(fold)) for fold in (0, 1)], training["id"].to_list())
    assert again.predictions.equals(result.predictions)
    assert again.df_summary.equals(result.df_summary)


class TestProtocol:
    def test_a_test_slice_among_the_training_slices_is_refused(self, data, tmp_path):
        prepared, table = data
        with pytest.raises(UsageError, match="a test slice among the training slices"):
            cv.run_fold(placed_of(table, test_every=3), 0, config(), OPTIONS, prepared, tmp_path)

    def test_a_fold_without_both_labels_is_refused(self, data, tmp_path):
        prepared, table = data
        placed = placed_of(table, folds=2).with_columns(pl.col("label").alias("fold"))
        with pytest.raises(UsageError, match="fold 0: its training slices are all of one label"):
            cv.run_fold(placed, 0, config(), OPTIONS, prepared, tmp_path)

    def test_a_slice_that_is_predicted_twice_or_never_is_refused(self):
        predictions = tables.frame(
            [{"id": "a", "study_id": "s", "group_id": "g", "label": 1, "fold": 0, "logit": 0.0, "prob": 0.5}],
            BrainPredictions,
        )
        fold = cv.FoldResult(0, 0.5, 0.5, [], predictions, None)
        for names in (["a", "b"], []):
            with pytest.raises(ValueError, match="exactly once"):
                cv.gather([fold], names)
        with pytest.raises(ValueError, match="exactly once"):
            cv.gather([fold, fold], ["a"])

    def test_only_test_slices_are_scored_in_the_test(self, data, monkeypatch):
        prepared, table = data
        placed = placed_of(table, test_every=3)
        asked = []
        monkeypatch.setattr(final.train, "load", lambda *_: None)
        monkeypatch.setattr(
            final, "predict_logits", lambda _, __, names: asked.extend(names) or np.zeros(len(names))
        )
        told = final.score_test(placed, config(), None, prepared)
        assert sorted(asked) == sorted(splits.test_part(placed)["id"]) == told["id"].to_list()

    def test_without_test_slices_there_is_nothing_to_score(self, data):
        prepared, table = data
        with pytest.raises(UsageError, match="no test slice"):
            final.score_test(placed_of(table), config(), None, prepared)

    def test_the_holdout_ends_the_final_training_and_is_not_trained_on(self, data, monkeypatch, tmp_path):
        prepared, table = data
        placed = placed_of(table, folds=2)
        seen = {}

        def spy(_, __, training, validation, *___, **____):
            seen["training"], seen["validation"] = set(training["id"]), set(validation["id"])
            return "outcome"

        monkeypatch.setattr(final.train, "train", spy)
        options = OPTIONS.model_copy(update={"holdout_frac": 0.3})
        final.train_final(placed, config(), options, prepared, tmp_path)
        assert not seen["training"] & seen["validation"]
        assert seen["training"] | seen["validation"] == set(placed["id"])
        assert len(seen["validation"]) == 4

    def test_a_second_different_reading_of_the_test_is_refused(self, data, tmp_path):
        placed = placed_of(data[1], test_every=3)
        chosen = {"threshold": 0.5, "strategy": "max_f1"}
        Readings(tmp_path).open(pipeline.reading_of(placed, "brain", "model", chosen), force=False)
        Readings(tmp_path).open(pipeline.reading_of(placed, "brain", "model", chosen), force=False)
        with pytest.raises(UsageError, match="test_already_read"):
            Readings(tmp_path).open(
                pipeline.reading_of(placed, "brain", "model", chosen | {"threshold": 0.4}), force=False
            )


class TestFigures:
    truth = np.array([1] * 20 + [0] * 20)
    predictions = pl.DataFrame(
        {
            "id": [f"ID_{n}" for n in range(40)], "study_id": [f"s{n // 2}" for n in range(40)],
            "group_id": [f"g{n // 2}" for n in range(40)], "label": truth, "fold": [n % 2 for n in range(40)],
            "prob": np.where(truth == 1, 0.8, 0.4) + np.linspace(-0.3, 0.19, 40),
        }
    ).with_columns((pl.col("prob") / (1 - pl.col("prob"))).log().alias("logit"))  # fmt: skip

    def test_intervals_hold_their_values_and_patients_are_counted(self):
        told = final.figures(
            self.predictions,
            0.5,
            final.fit_calibration(self.predictions),
            samples=200,
            confidence=0.95,
            seed=1,
        )
        assert (told["count"], told["patients"]) == (40, 20)
        assert told["tp"] + told["fn"] == told["fp"] + told["tn"] == 20
        for name, one in told["intervals"].items():
            if one["low"] is None:
                assert one["method"].startswith("none:"), name
            else:
                assert one["low"] <= one["value"] <= one["high"], name
        assert told["intervals"]["sensitivity"]["low"] is not None
        assert told["intervals"]["sensitivity"]["value"] == pytest.approx(told["tp"] / 20)

    def test_brier_is_the_mean_squared_error_of_the_probability(self):
        told = final.figures(
            self.predictions,
            0.5,
            final.fit_calibration(self.predictions),
            samples=100,
            confidence=0.95,
            seed=1,
        )
        expected = np.mean((self.predictions["prob"].to_numpy() - self.truth) ** 2)
        assert told["intervals"]["brier"]["value"] == pytest.approx(expected)

    def test_studies_have_figures_and_a_threshold_of_their_own(self):
        told = final.study_figures(self.predictions, None, config(), OPTIONS, samples=100, confidence=0.95)
        assert told["count"] == 20
        assert told["aggregation"] == "max"
        assert told["selection"]["threshold"] == told["threshold"]

    def test_without_studies_of_several_slices_there_are_none(self):
        alone = self.predictions.with_columns(pl.col("id").alias("study_id"))
        assert final.study_figures(alone, None, config(), OPTIONS, samples=100, confidence=0.95) is None


class TestGrid:
    def row(self, name, mean, std=0.1):
        return {"name": name, "mean_metric": mean, "std_metric": std, "seconds": 1.0, "config": "{}"}

    def test_ten_candidates_are_shipped_and_differ(self):
        assert len(CANDIDATES) == 10
        made = {name: BrainConfig().overridden(changes, name) for name, changes in CANDIDATES.items()}
        assert len({one.digest for one in made.values()}) == 10

    def test_the_best_mean_wins_and_of_equals_the_steadier(self):
        ranked = grid.ranked(
            [self.row("a", 0.5), self.row("b", 0.7, 0.2), self.row("c", 0.7, 0.1), self.row("d", None)]
        )
        assert ranked["name"].to_list() == ["c", "b", "a", "d"]
        assert grid.winner(ranked) == "c"

    def test_no_figure_no_winner(self):
        with pytest.raises(UsageError, match="nothing can be chosen"):
            grid.winner(grid.ranked([self.row("a", None)]))

    def test_the_settings_name_their_candidates_or_take_the_shipped_ones(self):
        assert list(configurations(BrainSettings())) == ["default", *CANDIDATES]
        named = BrainSettings(candidates={"three": {"windows": "brain_thirds"}})
        assert configurations(named)["three"].windows == "brain_thirds"

    @pytest.mark.parametrize("candidates", [{"a": {"lr_fft": 1}}, {"default": {}}, {"a|b": {}}])
    def test_candidates_that_are_none_are_refused(self, candidates):
        with pytest.raises(ValueError, match=r"lr_fft|no name"):
            BrainSettings(candidates=candidates)
