"""The toy system's asset."""

import dagster as dg

from ct_assets.defs.engine.graph import asset_arguments


@dg.asset(**asset_arguments("toy_model"))
def toy_model() -> None:
    """Train nothing."""
