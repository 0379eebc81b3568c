"""What is read of a bundle: today's, and the format that the system had of its own."""

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.systems.brain import bundle
from ct_assets_tests.systems.brain.factories import config

CALIBRATION = Calibration(kind="temperature", fitted_on="out_of_fold", temperature=2.0)


@pytest.fixture
def own_format(tmp_path):
    """Write a bundle as format 1 was: thresholds at the top, one file of weights."""
    files.write_bytes(tmp_path / "model.safetensors", b"weights")
    content = {
        "format": 1, "system": "brain", "experiment": "brain", "config": config().model_dump(mode="json"),
        "config_digest": "c", "out_size": 64, "weights": "model.safetensors",
        "weights_sha256": files.sha256_file(tmp_path / "model.safetensors"), "manifest_digest": "m",
        "threshold": 0.4, "selection": {"strategy": "max_f1"}, "aggregation": "noisy_or",
        "attention_temperature": 1.5, "study_threshold": 0.6, "calibration": CALIBRATION.model_dump(mode="json"),
        "conventions": {}, "versions": {},
    }  # fmt: skip
    files.write_json(tmp_path / "bundle.json", content | {"digest": files.digest_of(content)})
    return tmp_path


def test_a_bundle_of_the_systems_own_format_is_read(own_format):
    model = bundle.load(own_format)
    assert model.config == config()
    assert model.decisions.out_size == 64
    assert (model.decisions.threshold, model.decisions.study_threshold) == (0.4, 0.6)
    assert (model.decisions.aggregation, model.decisions.attention_temperature) == ("noisy_or", 1.5)
    assert model.decisions.calibration == CALIBRATION
    assert model.weights.read_bytes() == b"weights"
    assert model.digest == files.read_json(own_format / "bundle.json")["digest"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"threshold": 0.1}, "was changed after it was made"),
        ({"format": 3}, "bundle format 3, this program reads 2"),
        ({"system": "lung"}, "was changed after it was made"),
    ],
)
def test_what_is_not_as_it_was_made_is_refused(own_format, change, expected):
    files.write_json(own_format / "bundle.json", files.read_json(own_format / "bundle.json") | change)
    with pytest.raises(UsageError, match=expected):
        bundle.load(own_format)


def test_other_weights_are_refused_by_name(own_format):
    files.write_bytes(own_format / "model.safetensors", b"others")
    with pytest.raises(UsageError, match=r"model\.safetensors: is missing or not what"):
        bundle.load(own_format)
