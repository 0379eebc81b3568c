"""The command: its fifteen options with their defaults, its configuration, its refusals."""

import json
import re

import pytest
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import command

DEFAULTS = {
    "data-root": "data", "labels": "labels1.csv", "cts": "CTs", "seed": "42", "test-size": "0.15",
    "k-folds": "5", "batch-size": "64", "num-workers": "4", "out-size": "256", "holdout-frac": "0.1",
    "prep-plot-n": "5", "threshold-strategy": "sens_target", "sens-target": "0.7", "run-grid": None,
    "config-json": None,
}  # fmt: skip


def arguments(**changes):
    return {
        "data_root": "data", "labels": "labels1.csv", "cts": "CTs", "seed": 42, "test_size": 0.15, "k_folds": 5,
        "batch_size": 64, "num_workers": 4, "out_size": 256, "holdout_frac": 0.1, "prep_plot_n": 5,
        "threshold_strategy": "sens_target", "sens_target": 0.7, "run_grid": False, "config_json": None,
    } | changes  # fmt: skip


def test_help_shows_the_fifteen_options_with_their_defaults():
    told = CliRunner().invoke(app, ["brain", "run", "--help"]).output
    assert len(DEFAULTS) == 15
    for option, default in DEFAULTS.items():
        (shown,) = re.findall(rf"--{option} [^\n]*(?:\n {{20,}}[^\n]*)*", told)
        words = " ".join(shown.split())
        if default is None:
            assert "[default" not in words, option
        else:
            assert f"[default: {default}" in words, option


def test_the_options_reach_the_run():
    job = command.job_of(arguments(seed=7, k_folds=3, threshold_strategy="max_f1", data_root="elsewhere"))
    assert (job.options.seed, job.options.k_folds, job.options.threshold_strategy) == (7, 3, "max_f1")
    assert str(job.data_root) == "elsewhere"
    assert job.candidates is None
    assert job.config == BrainConfig()


def test_the_defaults_of_command_and_settings_agree():
    from ct_assets.settings.brain import RunOptions

    assert command.job_of(arguments()).options == RunOptions()


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value"),
        [("test_size", 1.5), ("k_folds", 1), ("batch_size", 0), ("out_size", 8), ("holdout_frac", 0.0),
         ("threshold_strategy", "best"), ("sens_target", 0.0), ("prep_plot_n", 0), ("num_workers", -1)],
    )  # fmt: skip
    def test_an_option_out_of_range_is_named(self, name, value):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
            command.job_of(arguments(**{name: value}))


class TestConfigJson:
    def write(self, tmp_path, content):
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return command.job_of(arguments(config_json=str(path)))

    def test_its_keys_replace_the_defaults_and_the_others_stay(self, tmp_path):
        got = self.write(
            tmp_path, {"lr_ft": 1e-4, "dropout_p": 0.4, "ft_trainable_attrs": ["layer4", "fc"]}
        ).config
        assert got == BrainConfig(lr_ft=1e-4, dropout_p=0.4, ft_trainable_attrs=("layer4", "fc"))
        assert got.lr_head == 3e-3

    def test_an_unknown_key_is_refused_and_the_known_ones_are_named(self, tmp_path):
        with pytest.raises(UsageError, match=r"unknown keys lr_fft; known are optimizer, .*lr_ft"):
            self.write(tmp_path, {"lr_fft": 1e-4})

    def test_a_value_out_of_range_is_named(self, tmp_path):
        with pytest.raises(UsageError, match="dropout_p"):
            self.write(tmp_path, {"dropout_p": 1.5})

    @pytest.mark.parametrize(
        ("content", "told"), [("{", "not valid JSON"), ("[1]", "an object of keys"), ("", "not valid")]
    )
    def test_a_file_that_is_no_configuration(self, tmp_path, content, told):
        with pytest.raises(UsageError, match=told):
            self.write(tmp_path, content)

    def test_a_file_that_is_not_there(self):
        with pytest.raises(UsageError, match="no such file"):
            command.job_of(arguments(config_json="absent.json"))

    def test_the_grid_differs_from_what_the_file_says(self, tmp_path):
        path = tmp_path / "config.json"
        path.write_text('{"epochs_ft": 3}')
        job = command.job_of(arguments(config_json=str(path), run_grid=True))
        assert len(job.candidates) == 10
        assert {one.epochs_ft for one in job.candidates.values()} == {3}
