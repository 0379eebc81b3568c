"""From slices to studies."""

import numpy as np
import polars as pl
import pytest

from ct_assets.systems.brain import aggregate
from ct_assets.systems.brain.task import probabilities

LOGITS = np.log(np.array([0.1, 0.5, 0.2]) / (1 - np.array([0.1, 0.5, 0.2])))


def predictions(studies):
    rows = [
        {"id": f"{study}{k}", "study_id": study, "group_id": study, "label": label, "fold": 0, "logit": float(logit),
         "prob": float(probabilities(np.array([logit]))[0])}
        for study, label, logits in studies for k, logit in enumerate(logits)
    ]  # fmt: skip
    return pl.DataFrame(rows)


class TestPooling:
    def test_max_is_the_surest_slice(self):
        assert aggregate.pool(LOGITS, "max") == pytest.approx(0.5)

    def test_noisy_or_is_one_minus_the_product(self):
        assert aggregate.pool(LOGITS, "noisy_or") == pytest.approx(1 - 0.9 * 0.5 * 0.8)

    def test_noisy_or_of_a_sure_slice_is_a_number(self):
        assert aggregate.pool(np.array([1e4, 0.0]), "noisy_or") == pytest.approx(1)

    def test_attention_lies_between_the_mean_and_the_maximum(self):
        assert aggregate.pool(LOGITS, "attention", 1e6) == pytest.approx(0.8 / 3, abs=1e-4)
        assert aggregate.pool(LOGITS, "attention", 1e-3) == pytest.approx(0.5, abs=1e-6)
        weights = np.exp(LOGITS) / np.exp(LOGITS).sum()
        assert aggregate.pool(LOGITS, "attention") == pytest.approx(float(weights @ [0.1, 0.5, 0.2]))

    @pytest.mark.parametrize("how", ["max", "noisy_or", "attention"])
    def test_one_slice_is_its_study(self, how):
        assert aggregate.pool(LOGITS[:1], how) == pytest.approx(0.1)

    @pytest.mark.parametrize("how", ["max", "noisy_or", "attention"])
    def test_the_order_of_slices_is_of_no_account(self, how):
        assert aggregate.pool(LOGITS[::-1], how) == pytest.approx(aggregate.pool(LOGITS, how))


class TestStudies:
    def test_a_study_is_positive_where_any_slice_is(self):
        table = predictions([("a", 0, [0.0, 1.0]), ("b", 1, [2.0])]).with_columns(
            pl.when(pl.col("id") == "a1").then(1).otherwise("label").alias("label")
        )
        told = aggregate.studies(table, "max")
        assert told["label"].to_list() == [1, 1]
        assert told["slices"].to_list() == [2, 1]
        assert told["surest_slice"].to_list() == ["a1", "b0"]

    def test_the_learnt_temperature_tells_a_lesion_in_one_slice_from_one_in_none(self):
        """One slice of five shows the lesion: pooling near the maximum explains it, near the mean does not."""
        rng = np.random.default_rng(0)
        logits = [np.r_[rng.normal(-3, 0.3, 4), 3.0 if n % 2 else -3.0] for n in range(40)]
        assert aggregate.fit_temperature(logits, [n % 2 for n in range(40)]) < 1

    def test_several_slices_are_noticed(self):
        assert aggregate.has_several(predictions([("a", 0, [0.0, 1.0])]))
        assert not aggregate.has_several(predictions([("a", 0, [0.0]), ("b", 0, [1.0])]))
