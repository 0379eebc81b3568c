"""The whole run on a small head phantom: every artifact, equal figures twice, no identity anywhere, its bundle."""

import io
import json
import zipfile
from dataclasses import replace

import pandas as pd
import polars as pl
import pytest
import torch

from ct_assets import files, systems
from ct_assets.errors import SafetyError, UsageError
from ct_assets.learning.evaluation.test_access_log import Readings
from ct_assets.phantom import head
from ct_assets.progress import Timings
from ct_assets.settings import Settings
from ct_assets.settings.brain import RunOptions
from ct_assets.systems.brain import network as networks
from ct_assets.systems.brain import pipeline, splits
from ct_assets_tests.systems.brain.factories import config, data_set, dicom

OPTIONS = RunOptions(
    k_folds=2, batch_size=8, num_workers=0, out_size=32, test_size=0.25, holdout_frac=0.25, prep_plot_n=2
)


def job_on(root, **changes):
    return replace(pipeline.Run(root, OPTIONS, config(aggregation="noisy_or"), threads=1), **changes)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return head.make(tmp_path_factory.mktemp("phantom") / "set", patients=32, matrix=64)


@pytest.fixture(scope="module")
def finished(phantom, tmp_path_factory):
    """One run, with a grid of two and the models of its folds."""
    grid = {"one": config(), "three_bands": config(windows="brain_thirds")}
    job = job_on(phantom.root, candidates=grid, keep_fold_models=True)
    return pipeline.run(job, tmp_path_factory.mktemp("outputs"))


@pytest.mark.slow
class TestArtifacts:
    def test_all_nineteen_are_there(self, finished):
        assert len(pipeline.ARTIFACTS) == 19
        assert not [name for name in pipeline.ARTIFACTS if not (finished / name).exists()]
        assert finished.name.startswith("run_")
        assert not (finished / ".work").exists()

    def test_the_pickles_have_parquet_twins_with_the_same_rows(self, finished):
        for name in ("features_df", "features_df_split"):
            pickled = pd.read_pickle(finished / f"{name}.pkl")
            twin = pl.read_parquet(finished / f"{name}.parquet")
            assert pickled.index.name == "id"
            assert pickled.index.to_list() == twin["id"].to_list()
            assert pickled["label"].to_list() == twin["label"].to_list()
        assert "test" in pickled.columns

    def test_the_grid_names_its_candidates_best_first_and_the_winner_counts(self, finished):
        table = pl.read_csv(finished / "grid_results.csv")
        assert set(table["name"]) == {"one", "three_bands"}
        assert table["mean_metric"].is_sorted(descending=True)
        best = json.loads(table["config"][0])
        assert files.read_json(finished / "effective_config.json")["windows"] == best["windows"]

    def test_threshold_tables_have_their_rows(self, finished):
        assert pl.read_csv(finished / "cv_thresholds_by_fold.csv").height == 2 * 19
        assert pl.read_csv(finished / "cv_thresholds_summary.csv").height == 19
        chosen = files.read_json(finished / "threshold_selection.json")
        assert chosen["threshold"] in pl.read_csv(finished / "cv_thresholds_summary.csv")["threshold"]
        assert "threshold" in chosen["exact"]

    def test_the_test_is_scored_with_the_frozen_threshold(self, finished):
        told = pl.read_csv(finished / "test_predictions.csv")
        metrics = files.read_json(finished / "test_metrics.json")
        chosen = files.read_json(finished / "threshold_selection.json")
        assert metrics["threshold"] == chosen["threshold"]
        assert told["pred"].to_list() == [int(p >= chosen["threshold"]) for p in told["prob"]]
        placed = pl.read_parquet(finished / "features_df_split.parquet")
        assert sorted(told["id"]) == sorted(splits.test_part(placed)["id"])
        called = told.filter(pl.col("pred") == 1)
        assert metrics["tp"] == int(called["label"].sum())
        assert metrics["intervals"]["roc_auc"]["low"] <= metrics["test_roc_auc"]
        assert Readings(finished).count() == 1

    def test_studies_of_several_slices_are_judged_as_studies(self, finished):
        study = files.read_json(finished / "test_metrics.json")["study"]
        assert study["aggregation"] == "max"
        placed = splits.test_part(pl.read_parquet(finished / "features_df_split.parquet"))
        assert study["count"] == placed["study_id"].n_unique() < placed.height

    def test_the_weights_are_a_plain_mapping_that_fills_the_network(self, finished):
        tensors = torch.load(finished / "final_model_state_dict.pt", weights_only=True)
        network, _ = networks.build(config())
        network.load_state_dict(tensors, strict=True)

    def test_fold_models_are_kept_where_asked_for(self, finished):
        assert sorted(path.name for path in (finished / "fold_models").iterdir()) == [
            "fold_0.safetensors", "fold_1.safetensors"
        ]  # fmt: skip

    def test_pages_stand_alone_and_tell_the_figures_of_their_json(self, finished):
        metrics = files.read_json(finished / "test_metrics.json")
        page = (finished / "test_report.html").read_text()
        assert f"{metrics['intervals']['auprc']['value']:.3f}" in page
        for name in ("first_look.html", "cv_report.html", "test_report.html"):
            text = (finished / name).read_text()
            assert "data:image/png;base64," in text
            assert "http://" not in text
            assert "https://" not in text

    def test_no_identity_of_a_header_is_in_any_file(self, finished):
        """Every header of the phantom carries an invented person; none of it may get out."""
        people = [head.people.invent(n, head.np.random.default_rng(n)) for n in range(8)]
        words = {
            w.encode()
            for one in people
            for w in (one.family, one.hospital.name, *one.hospital.staff)
            if len(w) > 5
        }
        for path in sorted(finished.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(io.BytesIO(content)) as opened:
                    content = b"".join(opened.read(name) for name in opened.namelist())
            assert not [word for word in words if word in content], path.name


@pytest.mark.slow
class TestAgain:
    def test_two_runs_give_equal_figures(self, phantom, tmp_path):
        one, other = (pipeline.run(job_on(phantom.root), tmp_path / name) for name in ("a", "b"))
        for name in ("cv_metrics.json", "test_metrics.json", "threshold_selection.json", "test_predictions.csv",
                     "cv_thresholds_summary.csv"):  # fmt: skip
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
        assert not (one / "grid_results.csv").exists()
        assert not (one / "fold_models").exists()


@pytest.mark.slow
class TestBundle:
    def test_ct_assets_predict_says_what_the_test_said(self, finished, phantom, tmp_path):
        told = pl.read_csv(finished / "test_predictions.csv").sort("prob")
        for row in (told.row(0, named=True), told.row(-1, named=True)):
            (line,) = systems.predict(
                str(finished / "bundle"), phantom.root / phantom.cts / f"{row['id']}.dcm", tmp_path / row["id"],
                settings=Settings(), workers=1, timings=Timings(),
            )  # fmt: skip
            assert line["status"] == "predicted"
            assert line["probability"] == pytest.approx(row["prob"], abs=2e-5)
            assert line["is_positive"] == bool(row["pred"])
            assert (tmp_path / row["id"] / line["series"] / "gradcam.png").exists()

    def test_a_whole_series_is_judged_slice_by_slice(self, finished, tmp_path):
        rng = head.np.random.default_rng(5)
        patient = head.invent(2, rng, is_positive=True, contrast_hu=45, matrix=64)  # a tilted gantry
        head.write_series(tmp_path / "in", patient, "series")
        (tmp_path / "in/IM0003.dcm").write_bytes(b"damaged")
        dicom(tmp_path / "in/colour.dcm", SamplesPerPixel=3, SeriesInstanceUID="1.2.3")
        lines = systems.predict(
            str(finished / "bundle"), tmp_path / "in", tmp_path / "out", settings=Settings(), workers=1,
            timings=Timings(),
        )  # fmt: skip
        by_status = {line["status"]: line for line in lines}
        refused = {line["series"]: line["reasons"][1:] for line in lines if line["status"] == "refused"}
        assert refused["1.2.3"] == ["no_usable_slice", "not_monochrome"]
        assert refused["IM0003.dcm"] == ["no_usable_slice", "image_format_unknown"]
        line = by_status["predicted"]
        assert line["slices"] == 10
        assert "slice_oblique" in line["warnings"]
        assert files.read_jsonl(tmp_path / "out/prediction.jsonl") == lines

    @pytest.mark.real
    def test_real_head_images_get_their_reasons(self, finished, real_data, tmp_path):
        for folder, expected in (("brain_nifti", "slice_values_not_hu"), ("deid_samples", "not_monochrome")):
            lines = systems.predict(
                str(finished / "bundle"), real_data / folder, tmp_path / folder, settings=Settings(), workers=1,
                timings=Timings(),
            )  # fmt: skip
            assert {line["status"] for line in lines} == {"refused"}
            assert any(expected in line["reasons"] for line in lines)
            tilted = [line["warnings"] for line in lines if line["series"] == "CT_pitch"]
            assert all(told == ["slice_oblique"] for told in tilted)

    def test_a_changed_bundle_is_refused(self, finished, tmp_path):
        import shutil

        shutil.copytree(finished / "bundle", tmp_path / "bundle")
        content = files.read_json(tmp_path / "bundle/bundle.json")
        files.write_json(
            tmp_path / "bundle/bundle.json",
            content | {"decisions": content["decisions"] | {"threshold": 0.123}},
        )
        with pytest.raises(UsageError, match="was changed after it was made"):
            pipeline.bundle.load(tmp_path / "bundle")


class TestRefusals:
    def test_a_missing_folder_is_told_before_anything_is_written(self, tmp_path):
        with pytest.raises(UsageError, match="no such data folder"):
            pipeline.run(job_on(tmp_path / "absent"), tmp_path / "outputs")
        assert not (tmp_path / "outputs").exists()

    def test_weights_that_do_not_fit_are_told_before_anything_is_read(self, tmp_path):
        root = data_set(tmp_path / "data", patients=2)
        torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
        for path, told in (
            (tmp_path / "absent.pth", "no such file"),
            (tmp_path / "w.pth", "weights_not_loaded"),
        ):
            with pytest.raises(UsageError, match=told):
                pipeline.run(job_on(root, config=config(pretrained=path)), tmp_path / "outputs")
        assert not (tmp_path / "outputs").exists()

    def test_a_patient_on_both_sides_ends_the_run_before_any_training(self, tmp_path, monkeypatch):
        root = data_set(tmp_path / "data", patients=12, slices=2)
        inner = splits.assign

        def broken(*arguments):
            placed, ledger = inner(*arguments)
            return placed.with_columns((pl.int_range(pl.len()) % 2 == 0).alias("test")), ledger

        monkeypatch.setattr(splits, "assign", broken)
        with pytest.raises(SafetyError, match="shared_between_splits"):
            pipeline.run(job_on(root), tmp_path / "outputs")
        assert not list((tmp_path / "outputs").rglob("*.safetensors"))

    def test_two_runs_of_one_second_have_folders_of_their_own(self, tmp_path):
        assert pipeline.new_folder(tmp_path) != pipeline.new_folder(tmp_path)

    def test_an_unknown_system_is_refused(self, tmp_path):
        files.write_json(tmp_path / "bundle.json", {"system": "kidney"})
        with pytest.raises(UsageError, match="made by 'kidney'; this program knows lung, brain"):
            systems.system_of(tmp_path)
