"""The one Definitions object; loads `ct_assets.defs`, nothing else."""

from ct_assets.defs.engine.build import build_definitions

defs = build_definitions()
