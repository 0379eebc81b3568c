"""The toy system's own rows of the graph table."""

from ct_assets.defs.engine.node import Node

NODES = {"toy_cohort": Node("toy", None, (), automated=False)}
