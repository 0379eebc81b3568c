"""A toy system: what a package of a system has, as small as it can be."""

from ct_assets.registry import System

TOY = System(
    name="toy",
    home="toy",
    learning="ct_assets_tests.systems.toy.system",
    inputs=("toy_cohort",),
    predictor="ct_assets_tests.systems.toy.predict",
    assets="ct_assets_tests.systems.toy.assets",
    graph="ct_assets_tests.systems.toy.graph",
    needs={"toy": ("nifti/*", "toy/*")},
    ledger="toy/splits.parquet",
)
