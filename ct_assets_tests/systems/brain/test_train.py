"""Two phases on the shared training path: what is frozen stays, patience, best epochs, resume, equal runs."""

import pytest
import torch

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints, optimizers
from ct_assets.learning.training.task import Validation
from ct_assets.learning.training.trainer import Trainer
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import network as networks
from ct_assets.systems.brain import train
from ct_assets_tests.systems.brain.factories import config, data_set, placed_of, prepared_of, table_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = data_set(tmp_path_factory.mktemp("data"), patients=12)
    table = table_of(root)
    placed = placed_of(table)
    held = placed.filter(placed["fold"] == 0)
    rest = placed.filter(placed["fold"] != 0)
    return prepared_of(table, root, tmp_path_factory.mktemp("prepared")), rest, held


def run(data, folder, *, batch_size=4, seed=3, **changes):
    prepared, rest, held = data
    return train.train(
        config(**changes), prepared, rest, held, folder, seed=seed, batch_size=batch_size, threads=1
    )


def training_config(**changes):
    return train.training_config(config(**changes), seed=3, batch_size=4)


def phases(settings):
    return {phase.name: phase for phase in train.training_config(settings, seed=0, batch_size=4).stages}


def initial(settings, seed=3):
    train.seed_run(seed)
    return {name: value.clone() for name, value in networks.build(settings)[0].state_dict().items()}


class TestFreezing:
    def test_the_first_stage_trains_the_head_alone_and_touches_no_batchnorm(self, data, tmp_path):
        """A frozen BatchNorm in training mode still moves its running statistics; here not one bit of it moves."""
        settings = {"epochs_head": 2, "epochs_ft": 0}
        before = initial(config(**settings))
        outcome = run(data, tmp_path, **settings)
        after, _ = checkpoints.load_weights(outcome.weights)
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved == {"fc.1.weight", "fc.1.bias"}
        assert {row["stage"] for row in train.history_of(tmp_path)} == {train.HEAD}

    @pytest.mark.slow
    def test_only_named_parts_are_fine_tuned_and_the_rest_keeps_its_statistics(self, data, tmp_path):
        settings = {"epochs_head": 0, "epochs_ft": 1, "ft_trainable_attrs": ["layer4", "fc"]}
        before = initial(config(**settings))
        after, _ = checkpoints.load_weights(run(data, tmp_path, **settings).weights)
        moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved == {"layer4", "fc"}
        statistics = [n for n in after if n.startswith("layer4") and "running_mean" in n]
        assert all(not torch.equal(after[n], before[n]) for n in statistics)

    @pytest.mark.slow
    def test_by_default_everything_is_fine_tuned(self, data, tmp_path):
        settings = {"epochs_head": 0, "epochs_ft": 1}
        before = initial(config(**settings))
        after, _ = checkpoints.load_weights(run(data, tmp_path, **settings).weights)
        still = {n for n, value in after.items() if torch.equal(value, before[n])}
        assert {name for name in still if name.endswith(("weight", "running_mean"))} == set()

    def test_what_a_stage_freezes_is_in_eval_and_outside_the_optimizer(self):
        module = torch.nn.ModuleDict({"network": networks.build(BrainConfig())[0]})
        head = phases(BrainConfig())[train.HEAD]
        optimizers.freeze(module, head.freeze)
        optimizers.train_mode(module)
        modes = {
            name: part.training
            for name, part in module.named_modules()
            if isinstance(part, torch.nn.BatchNorm2d)
        }
        assert modes
        assert not any(modes.values())
        assert module["network"].fc.training
        trained = [name for name, p in module.named_parameters() if p.requires_grad]
        assert trained == ["network.fc.1.weight", "network.fc.1.bias"]
        optimizers.check_covers(module, optimizers.build(module, head.optimizer, 1e-3))

    def test_an_unknown_part_is_refused(self):
        with pytest.raises(UsageError, match=r"ft_trainable_attrs.*layer9.*parts are conv1"):
            BrainConfig().overridden({"ft_trainable_attrs": ["layer9"]}, "a.json")


class TestStages:
    def test_the_defaults_are_those_of_the_protocol(self):
        head, tuned = phases(BrainConfig()).values()
        assert (head.optimizer.kind, head.optimizer.learning_rate, head.optimizer.weight_decay) == (
            "adamw",
            3e-3,
            5e-5,
        )
        assert (tuned.optimizer.learning_rate, tuned.optimizer.weight_decay) == (1.5e-4, 7e-4)
        assert (head.epochs, tuned.epochs) == (12, 12)
        assert BrainConfig().dropout_p == 0.3
        assert train.training_config(BrainConfig(), seed=0, batch_size=4).validation.monitor == "auprc"
        assert tuned.freeze == ()
        assert (head.restart_from_best, tuned.restart_from_best) == (False, True)

    def test_mixed_precision_is_for_cuda_alone(self):
        for cuda, expected in ((False, "32-true"), (True, "16-mixed")):
            made = train.training_config(BrainConfig(), seed=0, batch_size=4, cuda=cuda)
            assert made.precision == expected

    def test_sgd_has_its_momentum_and_nesterov(self):
        head = phases(config(optimizer="sgd", momentum=0.8))[train.HEAD]
        made = optimizers.build(torch.nn.Linear(2, 2), head.optimizer, 0.1)
        assert isinstance(made, torch.optim.SGD)
        assert (made.defaults["momentum"], made.defaults["nesterov"]) == (0.8, True)

    @pytest.mark.slow
    def test_fine_tuning_starts_from_the_best_of_the_head_stage_and_the_best_is_kept(
        self, data, tmp_path, monkeypatch
    ):
        taken = []
        inner = Trainer._next_phase

        def spy(trainer):
            inner(trainer)
            kept = checkpoints.load(tmp_path / f"best-{trainer._best_epoch():05d}.ckpt")["module"]
            now = trainer.task.module.state_dict()
            taken.append(all(torch.equal(now[name], kept[name]) for name in now))

        monkeypatch.setattr(Trainer, "_next_phase", spy)
        outcome = run(data, tmp_path, epochs_head=2, epochs_ft=2, patience_head=9, patience_ft=9)
        values = [row["val_auprc"] for row in train.history_of(tmp_path)]
        assert taken == [True]
        assert train.metric_of(outcome) == pytest.approx(max(values))

    @pytest.mark.parametrize("patience", [0, pytest.param(2, marks=pytest.mark.slow)])
    def test_a_patience_of_p_ends_after_p_plus_one_epochs_without_better(
        self, data, tmp_path, monkeypatch, patience
    ):
        told = iter([0.9, *[0.5] * 20])
        monkeypatch.setattr(
            train.BrainTask,
            "summarise",
            lambda *_: Validation({"auprc": next(told), "auroc": 0.5, "loss": 1.0}),
        )
        outcome = run(data, tmp_path, epochs_head=12, epochs_ft=0, patience_head=patience)
        assert outcome.epochs == len(train.history_of(tmp_path)) == 1 + patience + 1
        assert train.metric_of(outcome) == 0.9

    def test_of_equally_good_epochs_the_one_with_less_loss_is_kept_and_patience_goes_on(
        self, data, tmp_path, monkeypatch
    ):
        told = iter([(1.0, 6.0), (1.0, 0.2), (1.0, 3.0)])

        def summarise(_task, _rows):
            auprc, loss = next(told)
            return Validation({"auprc": auprc, "auroc": 0.5, "loss": loss})

        monkeypatch.setattr(train.BrainTask, "summarise", summarise)
        outcome = run(data, tmp_path, epochs_head=12, epochs_ft=0, patience_head=1)
        assert outcome.epochs == 3
        assert checkpoints.load_weights(outcome.weights)[1]["epoch"] == "2"

    @pytest.mark.slow
    def test_a_cosine_falls_to_nothing_within_each_stage(self, data, tmp_path):
        run(
            data,
            tmp_path,
            epochs_head=3,
            epochs_ft=2,
            use_cosine_schedule=True,
            patience_head=9,
            patience_ft=9,
        )
        rates = [row["learning_rate"] for row in train.history_of(tmp_path)]
        assert rates[2] == pytest.approx(0, abs=1e-9)
        assert rates[3] > rates[2]
        assert rates[4] == pytest.approx(0, abs=1e-9)


class TestReproducibility:
    @pytest.mark.slow
    def test_two_runs_give_equal_figures_and_equal_weights(self, data, tmp_path):
        one, other = (run(data, tmp_path / name) for name in ("a", "b"))
        assert one.digest == other.digest
        assert train.history_of(tmp_path / "a") == train.history_of(tmp_path / "b")

    @pytest.mark.slow
    def test_another_seed_gives_another_training(self, data, tmp_path):
        assert run(data, tmp_path / "a").digest != run(data, tmp_path / "b", seed=4).digest

    def test_every_generator_is_seeded(self, monkeypatch):
        monkeypatch.setenv("PYTHONHASHSEED", "random")
        train.seed_run(5)
        first = train.generators()
        train.seed_run(5)
        assert train.generators() == first
        assert train.os.environ["PYTHONHASHSEED"] == "5"
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark

    @pytest.mark.slow
    def test_a_training_that_was_stopped_between_its_stages_ends_with_the_same_bits(
        self, data, tmp_path, monkeypatch
    ):
        whole = run(data, tmp_path / "whole")

        def fails(_):
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(Trainer, "_next_phase", fails)
            with pytest.raises(KeyboardInterrupt):
                run(data, tmp_path / "broken")
        assert run(data, tmp_path / "broken").digest == whole.digest

    @pytest.mark.slow
    def test_a_finished_training_is_not_done_again(self, data, tmp_path, monkeypatch):
        first = run(data, tmp_path)
        monkeypatch.setattr(Trainer, "fit", None)
        assert run(data, tmp_path).digest == first.digest


class TestRecord:
    @pytest.mark.slow
    def test_it_says_what_was_trained_on_what(self, data, tmp_path):
        outcome = run(data, tmp_path)
        record = files.read_json(tmp_path / "result.json")
        assert record["identity"]["config_digest"] == training_config().digest
        assert record["weights_sha256"] == outcome.digest == files.sha256_file(outcome.weights)
        assert [row["stage"] for row in train.history_of(tmp_path)] == ["head", "finetune"]
        groups = files.read_json(tmp_path / "patients.json")
        assert groups == {
            "train": sorted(set(data[1]["group_id"])),
            "validation": sorted(set(data[2]["group_id"])),
        }
        assert not list(tmp_path.rglob("*.ckpt"))

    @pytest.mark.slow
    def test_validation_of_one_label_ends_without_a_figure(self, data, tmp_path):
        prepared, rest, held = data
        outcome = train.train(
            config(),
            prepared,
            rest,
            held.filter(held["label"] == 0),
            tmp_path,
            seed=1,
            batch_size=4,
            threads=1,
        )
        assert train.metric_of(outcome) is None
        assert train.history_of(tmp_path)[0]["val_auprc"] is None
