"""The trainer's own cost: a step of the trainer against a bare PyTorch step on the same network and batches.

    python benchmarks/training_loop.py [--full]

`--full` takes the full-size Swin-UNETR (feature size 24, 64^3, as in the notes); without it a small U-Net, where
the loop's share is largest. Also times loading a batch from the store against a step.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from lightning.fabric import Fabric

from ct_assets.learning.training import lung_task, optimizers
from ct_assets.learning.training.control import Control
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.tracking import Tracker
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets_tests.learning import tiny

SMALL = {"network": {"kind": "unet", "channels": [8, 16, 32]}, "patch": [24, 24, 24]}
FULL = {"network": {"kind": "swin_unetr", "feature_size": 24}, "patch": [64, 64, 64]}


class Fixed:
    """The same batch again and again, so that nothing but the step is timed."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, position):
        return self.batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--steps", type=int, default=0)
    arguments = parser.parse_args()
    chosen = FULL if arguments.full else SMALL
    steps = arguments.steps or (6 if arguments.full else 25)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cohort = tiny.make(root / "data", patients=6, tests=0)
        config = tiny.config(
            network=chosen["network"],
            sampling={"patch_size": chosen["patch"], "windows_per_patient": 1, "augment": False},
            stages=[{"epochs": 1}],
            steps_per_epoch=steps,
            system_metrics=False,
        )
        data = lung_task.LungData(
            cohort.arguments()["volumes"], cohort.arguments()["plan"], cohort.layout.store, tuple(tiny.STAGES)
        )
        seed_everything(0)
        task = lung_task.LungTask(data, config)
        started = time.process_time()
        for position in range(20):
            batch = task.batches[position]
        loading = (time.process_time() - started) / 20
        task.batches = Fixed(batch)
        task.validate = lambda *_: {"dice": 0.5}
        ours, bare = [], []
        for _ in range(3):
            bare.append(bare_steps(task, config, batch, steps))
            ours.append(trainer_steps(task, config, root / f"run{len(ours)}"))
        print(f"{'CPU s a step':<34}{'seconds':>10}{'share':>9}")
        floor = median(bare)
        print(f"{'bare PyTorch':<34}{floor:>10.4f}{1:>9.3f}")
        print(f"{'trainer':<34}{median(ours):>10.4f}{median(ours) / floor:>9.3f}")
        print(f"{'one batch from the store':<34}{loading:>10.4f}{loading / floor:>9.3f}")


def bare_steps(task, config, batch, steps) -> float:
    module = task.module
    optimizer = optimizers.build(module, config.optimizer, 1e-3)
    module.train()
    started = 0.0
    for step in range(steps):
        if step == 1:
            started = time.process_time()
        loss, _ = module(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.process_time() - started) / (steps - 1)


def trainer_steps(task, config, folder) -> float:
    """Time the steps alone: checkpoints and validation come once an epoch and are not a step's cost."""
    folder.mkdir()
    trainer = Trainer(
        task,
        config,
        model_dir=folder,
        identity={},
        fabric=Fabric(accelerator="cpu", devices=1),
        control=Control(folder),
        state=StateWriter(folder),
        tracker=Tracker(),
    )
    times = []
    step = trainer._step

    def timed(batches):
        times.append(time.process_time())
        return step(batches)

    trainer._step = timed
    trainer.fit(resume=False)
    return (times[-1] - times[1]) / (len(times) - 2)


if __name__ == "__main__":
    main()
