"""Training: task, trainer, optimizers, checkpoints, control, tracking."""
