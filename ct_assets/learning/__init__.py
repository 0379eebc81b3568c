"""Plans, data sets, networks, losses, the trainer, inference, metrics."""
