"""The toy of two Gaussians reaches its known answer through matching, optimizer and sampler of the product."""

import json

import numpy as np
import pytest

from ct_assets.systems.longitudinal import toy


def test_a_short_training_reaches_mean_and_covariance(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "STEPS", 400)
    toy.write(tmp_path)
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (toy.SAMPLES, 2)
    np.testing.assert_allclose(samples.mean(axis=0), toy.TARGET_MEAN, atol=0.1)
    np.testing.assert_allclose(np.cov(samples.T), toy.TARGET_COVARIANCE, atol=0.1)
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["steps"] == 400
    assert record["seconds"] > 0


def test_the_same_seed_gives_the_same_samples(monkeypatch):
    monkeypatch.setattr(toy, "STEPS", 5)
    monkeypatch.setattr(toy, "SAMPLES", 100)
    first, again, other = toy.run(1), toy.run(1), toy.run(2)
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_the_whole_toy_is_close_to_the_target(seed):
    samples = toy.run(seed).samples
    np.testing.assert_allclose(samples.mean(axis=0), toy.TARGET_MEAN, atol=0.04)
    np.testing.assert_allclose(np.cov(samples.T), toy.TARGET_COVARIANCE, atol=0.05)
