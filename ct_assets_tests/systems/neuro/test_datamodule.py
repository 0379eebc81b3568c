"""The data module: loaders for Lightning, seeded workers, no study on both sides."""

import lightning
import pytest
import torch

from ct_assets.errors import UsageError
from ct_assets.neuro import ImageDataModule, TinyEncoder
from ct_assets_tests.systems.neuro.factories import data_set

LABELS = {"s0": 0, "s1": 1, "s2": 0, "s3": 1}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    studies = {f"s{number}": ("ct" if number % 2 else "mri", 1 + number % 2) for number in range(4)}
    return data_set(tmp_path_factory.mktemp("data"), studies, shape=(32, 32, 16))


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = TinyEncoder(), torch.nn.Linear(32, 2)
        self.orders: list[list[str]] = []

    def on_train_epoch_start(self):
        self.orders.append([])

    def step(self, batch):
        features = self.encoder(batch["img"], batch["coords"], batch["mask"])
        return torch.nn.functional.cross_entropy(self.head(features), batch["label"])

    def training_step(self, batch, _):
        self.orders[-1].append(batch["study"][0])
        return self.step(batch)

    def validation_step(self, batch, _):
        self.log("loss", self.step(batch), batch_size=len(batch["path"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_lightning_trains_on_it_and_moves_the_epoch_on(data_dir):
    torch.manual_seed(0)
    module = ImageDataModule(data_dir, ["s3"], batch_size=2, study_labels=LABELS)
    trainer = lightning.Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    model = Classifier()
    trainer.fit(model, module)
    assert torch.isfinite(trainer.callback_metrics["loss"])
    assert all(sorted(order) == ["s0", "s1", "s2"] for order in model.orders)
    assert len({tuple(order) for order in model.orders}) > 1


def test_validation_is_the_same_every_time_and_training_is_not(data_dir):
    module = ImageDataModule(data_dir, ["s1", "s3"], study_labels=LABELS)
    first, second = (next(iter(module.val_dataloader())) for _ in range(2))
    assert torch.equal(first["img"], second["img"])
    assert first["window"] == ["brain", "brain"]
    assert {len(batch["img"]) for batch in module.train_dataloader()} == {1}


def test_the_seed_repeats_an_epoch(data_dir):
    def epoch(seed):
        torch.manual_seed(seed)
        module = ImageDataModule(data_dir, ["s3"], seed=seed)
        return [batch["img"].sum().item() for batch in module.train_dataloader()]

    assert epoch(4) == epoch(4)
    assert epoch(4) != epoch(5)


@pytest.mark.slow
def test_worker_processes_are_seeded_apart_by_the_modules_seed(data_dir):
    def epoch(seed):
        module = ImageDataModule(data_dir, ["s3"], seed=seed, num_workers=2)
        return [(batch["study"], batch["img"].sum().item()) for batch in module.train_dataloader()]

    assert epoch(4) == epoch(4)
    assert epoch(4) != epoch(5)


def test_packed_batches(data_dir):
    module = ImageDataModule(
        data_dir, ["s3"], batch_size=4, collate="pack", patch_drop_rate=0.5, pack_studies=True
    )
    (batch,) = list(module.train_dataloader())
    assert set(batch["studies"]) == {"s0", "s1", "s2"}
    assert batch["study_cu_seqlens"][-1] == len(batch["img"])


def test_a_study_on_both_sides_is_refused(data_dir):
    with pytest.raises(UsageError, match="s1"):
        ImageDataModule(data_dir, ["s1"], train_studies=["s0", "s1"])
    with pytest.raises(UsageError, match="s9"):
        ImageDataModule(data_dir, ["s9"])
