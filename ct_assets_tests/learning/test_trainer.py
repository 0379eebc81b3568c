"""The trainer on a toy task: stages, what is frozen, what is optimized, what is kept, when it ends."""

import math
import os

import polars as pl
import pytest
import torch
from filelock import FileLock
from lightning.fabric import Fabric
from torch import nn

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints, optimizers, schedules, state
from ct_assets.learning.training.control import Control
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.task import Part, Task, Validation
from ct_assets.learning.training.tracking import Tracker
from ct_assets.learning.training.trainer import CURVES_NAME, Trainer, TrainingDivergedError, seed_everything
from ct_assets.settings.training import OptimizerSettings, TrainingConfig


class Regression(nn.Module):
    """A body with BatchNorm and dropout, and a head; the loss is a mean squared error."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2))
        self.head = nn.Linear(4, 1)

    def forward(self, batch):
        error = (self.head(self.body(batch["x"])) - batch["y"]) ** 2
        return error.mean(), {"error": error.mean()}


class Batches:
    def __len__(self):
        return 4

    def __getitem__(self, position):
        generator = torch.Generator().manual_seed(position)
        x = torch.randn(8, 3, generator=generator)
        return {"x": x, "y": x.sum(1, keepdim=True)}


class ToyTask(Task):
    """Validates to the values it is given, one a validation."""

    metrics = {"dice": "max", "loss": "min", "velocity_mse": "min"}

    def __init__(self, values=()):
        seed_everything(0)
        self.module = Regression()
        self.batches = Batches()
        self.values = list(values)
        self.validations = 0

    def validate(self, rank, ranks):
        value = self.values[self.validations] if self.validations < len(self.values) else 0.5
        self.validations += 1
        return [value]

    def summarise(self, rows):
        return Validation({"dice": rows[0], "loss": 1 - rows[0], "velocity_mse": rows[0]})

    def weights(self):
        return self.module.state_dict()


def config(**changes):
    content = {
        "stage_head": None,
        "stages": [{"epochs": 3}],
        "optimizer": {"learning_rate": 0.05},
        "accelerator": "cpu",
        "threads": 1,
    }
    return TrainingConfig.model_validate(content | changes)


def trainer(folder, task=None, **changes):
    settings = config(**changes)
    folder.mkdir(exist_ok=True)
    return Trainer(
        task or ToyTask(),
        settings,
        model_dir=folder,
        identity={"config_digest": settings.digest},
        fabric=Fabric(accelerator="cpu", devices=1, precision=settings.precision),
        control=Control(folder),
        state=StateWriter(folder),
        tracker=Tracker(),
    )


class TestLearning:
    def test_the_loss_falls_and_every_epoch_has_a_row(self, tmp_path):
        trainer(tmp_path, stages=[{"epochs": 10}]).fit()
        rows = files.read_jsonl(tmp_path / CURVES_NAME)
        assert [row["epoch"] for row in rows] == list(range(1, 11))
        assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
        assert rows[-1]["step"] == 40

    def test_accumulating_two_batches_is_one_step_on_both(self, tmp_path):
        """Compare with a plain PyTorch loop; without BatchNorm and dropout the mean of means is the mean."""

        class Plain(ToyTask):
            def __init__(self):
                super().__init__()
                self.module.body = nn.Linear(3, 4)

        task, plain = Plain(), Plain()
        settings = OptimizerSettings(
            kind="sgd", learning_rate=0.05, schedule="constant", warmup_share=0, clip_norm=None, accumulate=2
        )
        run = trainer(tmp_path, task, optimizer=settings.model_dump(), steps_per_epoch=2)
        run.fit()
        optimizer = optimizers.build(plain.module, settings, 0.05)
        for step in range(6):
            both = [plain.batches[2 * step], plain.batches[2 * step + 1]]
            optimizer.zero_grad()
            plain.module({name: torch.cat([b[name] for b in both]) for name in ("x", "y")})[0].backward()
            optimizer.step()
        trained = checkpoints.load(tmp_path / checkpoints.LAST_NAME)["module"]
        for name, value in plain.module.state_dict().items():
            assert torch.allclose(trained[name], value, atol=1e-6), name

    def test_a_loss_that_is_not_finite_ends_the_training_with_what_to_change(self, tmp_path):
        task = ToyTask()
        with torch.no_grad():
            task.module.head.weight.fill_(math.inf)
        with pytest.raises(TrainingDivergedError, match="learning_rate"):
            trainer(tmp_path, task).fit()


class TestStages:
    STAGES = ({"name": "head", "epochs": 2, "freeze": ["body.*"]}, {"name": "all", "epochs": 1})

    def test_frozen_parts_keep_their_weights_and_their_batchnorm_statistics(self, tmp_path):
        task = ToyTask()
        before = {name: value.clone() for name, value in task.module.state_dict().items()}
        trainer(tmp_path, task, stages=[self.STAGES[0]]).fit()
        after = checkpoints.load(tmp_path / checkpoints.LAST_NAME)["module"]
        for name, value in before.items():
            if name.startswith("body."):
                assert torch.equal(value, after[name]), name
        assert not torch.equal(before["head.weight"], after["head.weight"])

    def test_a_later_stage_trains_what_was_frozen_and_its_rate_starts_anew(self, tmp_path):
        task = ToyTask()
        before = task.module.body[0].weight.clone()
        trainer(tmp_path, task, stages=list(self.STAGES)).fit()
        after = checkpoints.load(tmp_path / checkpoints.LAST_NAME)["module"]
        assert not torch.equal(before, after["body.0.weight"])
        rows = files.read_jsonl(tmp_path / CURVES_NAME)
        assert [row["stage"] for row in rows] == ["head", "head", "all"]

    def test_a_pattern_that_freezes_nothing_is_refused_by_name(self, tmp_path):
        with pytest.raises(UsageError, match=r"'bodi\.\*' matches no parameter.*body.*head"):
            trainer(tmp_path, stages=[{"epochs": 1, "freeze": ["bodi.*"]}]).fit()

    def test_freezing_everything_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="nothing is left to train"):
            trainer(tmp_path, stages=[{"epochs": 1, "freeze": ["*"]}]).fit()

    def test_dropout_of_a_frozen_part_is_off_and_that_of_a_trained_one_on(self):
        module = Regression()
        optimizers.freeze(module, ["body.*"])
        optimizers.train_mode(module)
        assert not module.body[1].training
        assert module.head.training


class TestOptimizer:
    def test_every_trainable_parameter_is_stepped(self):
        module = Regression()
        optimizers.freeze(module, ["body.0.*"])
        optimizer = optimizers.build(module, OptimizerSettings(), 0.1)
        optimizers.check_covers(module, optimizer)
        module.late = nn.Linear(2, 2)
        with pytest.raises(optimizers.UntrainedParameterError, match=r"late\.weight, late\.bias"):
            optimizers.check_covers(module, optimizer)

    def test_biases_and_normalisation_do_not_decay(self):
        optimizer = optimizers.build(Regression(), OptimizerSettings(weight_decay=0.1), 0.1)
        for group in optimizer.param_groups:
            assert (group["weight_decay"] == 0.1) == all(p.ndim > 1 for p in group["params"])


class TestSchedule:
    def test_warmup_rises_then_the_cosine_falls_to_its_end(self):
        factors = [
            schedules.factor(step, 10, schedule="cosine", warmup_share=0.2, final_share=0.1)
            for step in range(10)
        ]
        assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
        assert factors[9] == pytest.approx(0.1)
        # five of seven steps down: (1 + cos(5 pi / 7)) / 2
        assert factors[7] == pytest.approx(0.1 + 0.9 * (1 + math.cos(5 * math.pi / 7)) / 2)

    def test_polynomial_and_constant(self):
        polynomial = schedules.factor(5, 11, schedule="polynomial", warmup_share=0, final_share=0)
        assert polynomial == pytest.approx(0.5**0.9)
        assert schedules.factor(10, 11, schedule="constant", warmup_share=0, final_share=0) == 1.0


class TestWhatIsKept:
    def test_the_best_epoch_by_the_monitor_becomes_the_weights(self, tmp_path):
        result = trainer(tmp_path, ToyTask([0.2, 0.9, 0.3])).fit()
        assert (result.best_epoch, result.metrics["dice"]) == (2, 0.9)
        assert [path.name for path in tmp_path.glob("best-*.ckpt")] == ["best-00002.ckpt"]
        kept = checkpoints.load(tmp_path / "best-00002.ckpt")["module"]
        stored, metadata = checkpoints.load_weights(tmp_path / checkpoints.WEIGHTS_NAME)
        assert metadata["epoch"] == "2"
        assert all(torch.equal(kept[name], value) for name, value in stored.items())
        assert files.sha256_file(tmp_path / checkpoints.WEIGHTS_NAME) == result.weights_sha256

    def test_a_loss_is_best_when_lowest(self, tmp_path):
        result = trainer(tmp_path, ToyTask([0.2, 0.9, 0.3]), validation={"monitor": "loss"}).fit()
        assert result.best_epoch == 2

    def test_the_best_few_stay(self, tmp_path):
        trainer(
            tmp_path,
            ToyTask([0.5, 0.9, 0.3, 0.7]),
            stages=[{"epochs": 4}],
            validation={"keep_best": 2},
        ).fit()
        assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-00002.ckpt", "best-00004.ckpt"]

    def test_early_stopping_waits_its_patience(self, tmp_path):
        run = trainer(
            tmp_path,
            ToyTask([0.5, 0.6, 0.55, 0.6, 0.58, 0.9]),
            stages=[{"epochs": 6}],
            validation={"early_stopping": "dice", "patience": 3},
        )
        result = run.fit()
        assert (result.status, result.epochs, result.best_epoch) == ("finished", 5, 2)

    def test_the_last_epoch_is_validated_whatever_the_interval(self, tmp_path):
        task = ToyTask()
        trainer(tmp_path, task, stages=[{"epochs": 5}], validation={"every_epochs": 3}).fit()
        rows = files.read_jsonl(tmp_path / CURVES_NAME)
        assert ["val_dice" in row for row in rows] == [False, False, True, False, True]

    def test_the_moving_average_is_what_is_validated_and_kept(self, tmp_path):
        task = ToyTask()
        seen = []
        task.validate = lambda rank, ranks: seen.append(task.module.head.weight.clone()) or [0.5]
        run = trainer(tmp_path, task, ema_decay=0.9, stages=[{"epochs": 1}])
        run.fit()
        stored, _ = checkpoints.load_weights(tmp_path / checkpoints.WEIGHTS_NAME)
        assert torch.equal(stored["head.weight"], seen[0])
        assert not torch.equal(stored["head.weight"], task.module.head.weight)

    def test_the_moving_average_by_hand(self):
        module = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            module.weight.fill_(0.0)
        average = optimizers.MovingAverage(module, 0.9)
        with torch.no_grad():
            module.weight.fill_(1.0)
        average.update(module)  # decay min(0.9, 2/11)
        assert average.values["weight"].item() == pytest.approx(9 / 11)


class TestPhases:
    """Patience, restart from the best epoch and optimizer are each phase's own."""

    def test_a_phase_ends_by_its_own_patience_and_the_next_one_begins(self, tmp_path):
        phases = [{"name": "head", "epochs": 9, "patience": 2}, {"name": "all", "epochs": 2}]
        result = trainer(tmp_path, ToyTask([0.5, 0.4, 0.4, 0.6, 0.7]), stages=phases).fit()
        rows = files.read_jsonl(tmp_path / CURVES_NAME)
        assert [row["stage"] for row in rows] == ["head"] * 3 + ["all"] * 2
        assert (result.epochs, result.best_epoch) == (5, 5)

    def test_it_restarts_from_the_best_epoch_where_asked(self, tmp_path):
        frozen = {
            "optimizer": {"kind": "sgd", "learning_rate": 1e-30, "schedule": "constant", "momentum": 0.0}
        }
        phases = [{"name": "a", "epochs": 3}, {"name": "b", "epochs": 1, "restart_from_best": True, **frozen}]
        trainer(tmp_path, ToyTask([0.9, 0.1, 0.1, 0.2]), stages=phases, validation={"keep_best": 2}).fit()
        best, last = (
            checkpoints.load(tmp_path / f"{name}.ckpt")["module"] for name in ("best-00001", "last")
        )
        assert torch.equal(best["head.weight"], last["head.weight"])

    def test_a_training_cut_off_between_phases_goes_on_as_one_that_was_not(self, tmp_path):
        phases = [
            {"name": "a", "epochs": 4, "patience": 1},
            {"name": "b", "epochs": 2, "restart_from_best": True},
        ]
        values = [0.5, 0.4, 0.6, 0.7]
        whole = trainer(tmp_path / "whole", ToyTask(values), stages=phases).fit()
        run = trainer(tmp_path / "cut", ToyTask(values), stages=phases)
        asked = iter(["", "", "", "", "", "", "", "pause"])  # after the eighth step: the end of phase a
        run._asked = lambda: next(asked) or None
        assert run.fit().status == "paused"
        later = ToyTask(values)
        later.validations = 1
        resumed = trainer(tmp_path / "cut", later, stages=phases).fit()
        assert resumed.weights_sha256 == whole.weights_sha256


class TestMetrics:
    def test_one_that_is_lower_for_better_keeps_the_lowest_epoch(self, tmp_path):
        """Whatever its name: the task declares it, the loop knows no vocabulary."""
        settings = config().model_copy(
            update={"validation": config().validation.model_copy(update={"monitor": "velocity_mse"})}
        )
        run = trainer(tmp_path, ToyTask([0.2, 0.9, 0.3]))
        run.config = settings
        assert run.fit().best_epoch == 1

    def test_one_that_is_not_declared_is_refused_before_anything_is_trained(self, tmp_path):
        with pytest.raises(
            UsageError, match=r"validation.monitor: 'combined' is not measured; there are dice, loss"
        ):
            trainer(tmp_path, validation={"monitor": "combined"})

    def test_tables_and_images_of_the_best_epoch_are_kept(self, tmp_path):
        class Telling(ToyTask):
            def summarise(self, rows):
                table = pl.DataFrame({"score": [rows[0]]})
                return Validation({"dice": rows[0]}, {"candidates": table}, {"curve": b"png"})

        trainer(tmp_path, Telling([0.2, 0.9, 0.3])).fit()
        assert pl.read_parquet(tmp_path / "validation/candidates.parquet")["score"].to_list() == [0.9]
        assert (tmp_path / "validation/curve.png").read_bytes() == b"png"


class TestSeveralOptimizers:
    class Adversaries(nn.Module):
        """Two parameters that pull the same product in opposite directions."""

        def __init__(self):
            super().__init__()
            self.generator = nn.Parameter(torch.tensor([1.0]))
            self.critic = nn.Parameter(torch.tensor([1.0]))

        def forward(self, batch, part):
            product = (self.generator * self.critic).sum()
            return (product if part == "generator" else -product), {}

    def test_each_part_steps_its_own_parameters_on_its_own_loss(self, tmp_path):
        plain = OptimizerSettings(
            kind="sgd", learning_rate=0.1, momentum=0.0, schedule="constant", warmup_share=0, clip_norm=None
        )
        task = ToyTask()
        task.module = self.Adversaries()
        task.parts = {"generator": Part(("generator",), plain), "critic": Part(("critic",), plain)}
        flat = {"schedule": "constant", "warmup_share": 0}
        trainer(tmp_path, task, steps_per_epoch=1, stages=[{"epochs": 1}], optimizer=flat).fit()
        # generator 1 - 0.1 * 1 = 0.9; then the critic sees it: 1 + 0.1 * 0.9
        assert task.module.generator.item() == pytest.approx(0.9)
        assert task.module.critic.item() == pytest.approx(1.09)
        row = files.read_jsonl(tmp_path / CURVES_NAME)[0]
        assert row["train_generator_loss"] == pytest.approx(1.0)
        assert row["train_critic_loss"] == pytest.approx(-0.9)

    def test_a_parameter_of_two_parts_is_refused(self):
        parts = {"a": (("*",), OptimizerSettings(), 0.1), "b": (("head.*",), OptimizerSettings(), 0.1)}
        with pytest.raises(
            optimizers.UntrainedParameterError, match=r"more than one optimizer: head\.weight"
        ):
            optimizers.build_parts(Regression(), parts)


class TestWhatIsLeftIsUsable:
    def test_weights_that_are_not_finite_after_the_last_step_are_no_result(self, tmp_path):
        """The loss of the only step is finite, its gradient step is not."""
        rate = {"kind": "sgd", "learning_rate": 1e38, "momentum": 0.0, "clip_norm": None, "schedule": "constant",
                "warmup_share": 0}  # fmt: skip

        class Steep(ToyTask):
            def __init__(self):
                super().__init__()
                self.module = nn.Linear(1, 1)
                self.module.forward = lambda batch: (self.module.weight.sum() * batch["x"], {})
                self.batches = [{"x": torch.tensor(10.0)}]

        with pytest.raises(TrainingDivergedError, match=r"epoch 1: the weights diverged"):
            trainer(tmp_path, Steep(), optimizer=rate, steps_per_epoch=1, stages=[{"epochs": 1}]).fit()
        assert not (tmp_path / checkpoints.WEIGHTS_NAME).exists()

    def test_weights_that_validate_to_no_number_are_no_result(self, tmp_path):
        with pytest.raises(TrainingDivergedError, match=r"epoch 2: the validation diverged"):
            trainer(tmp_path, ToyTask([0.5, math.nan]), stages=[{"epochs": 2}]).fit()

    def test_the_last_epoch_never_poses_as_a_best_one_that_is_missing(self, tmp_path):
        task = ToyTask([0.9, 0.3, 0.2])
        trainer(tmp_path, task).fit()
        (tmp_path / "best-00001.ckpt").unlink()
        with pytest.raises(
            UsageError, match=r"best-00001\.ckpt: the checkpoint of the best epoch is missing"
        ):
            trainer(tmp_path, ToyTask()).fit()


class TestState:
    def test_it_tells_phase_epoch_step_and_figures(self, tmp_path):
        trainer(tmp_path).fit()
        found = state.read(tmp_path)
        assert (found.phase, found.epoch, found.step, found.steps) == ("finished", 3, 12, 12)
        assert {"train_loss", "val_dice", "learning_rate"} <= set(found.metrics)
        assert not state.is_alive(tmp_path, found)
        assert found.line(is_alive=False).startswith("finished, epoch 3/3, step 12/12")

    def test_a_training_that_died_is_not_alive(self, tmp_path):
        writer = StateWriter(tmp_path)
        writer.update(now=True, phase="training")
        found = state.read(tmp_path)
        with FileLock(str(tmp_path / state.LOCK_NAME)):
            assert state.is_alive(tmp_path, found)
        assert found.pid == os.getpid(), "its number lives on, as that of another program would"
        assert not state.is_alive(tmp_path, found)
        assert "training (died)" in found.line(is_alive=False)

    def test_a_checkpoint_of_another_program_is_refused_with_the_way_out(self, tmp_path):
        torch.save({"state_dict": {}}, tmp_path / checkpoints.LAST_NAME)
        with pytest.raises(UsageError, match=r"no checkpoint of ct-assets .*identity.*move it away"):
            trainer(tmp_path).fit()

    def test_no_training_has_no_state(self, tmp_path):
        assert state.read(tmp_path) is None


class TestPrecision:
    def test_half_precision_on_a_cpu_learns_too(self, tmp_path):
        trainer(tmp_path, precision="bf16-mixed", stages=[{"epochs": 8}]).fit()
        rows = files.read_jsonl(tmp_path / CURVES_NAME)
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]
