"""The toy system's own asset; those of its trainings come from the factory."""

import dagster as dg

from ct_assets import files
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, running
from ct_assets_tests.systems.toy.system import write_cohort


@dg.asset(**asset_arguments("toy_cohort"))
def toy_cohort(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Write the toy cohort."""
    recorder = Recorder(context, platform)
    with running(context):
        table = write_cohort(platform.layout.root)
    return recorder.result("toy_cohort", files.digest_of(table.to_dicts()), {})
