"""The toy system's rows of the graph table."""

from ct_assets.defs.engine.node import Node

NODES = {"toy_model": Node("toy", "experiment_fold", ("fold_volumes",), ("labels.stages",), automated=False)}
