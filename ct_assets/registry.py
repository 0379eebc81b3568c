"""The systems of the platform, one entry each: what everything that must know all systems reads.

Belongs here: plain facts of a system (names of modules, folders, needs). Graph, withdrawal, form of the data root,
storage needs, status and `predict` iterate over the entries and name no system themselves. Does not: anything that a
system computes. Nothing is imported from here before it is asked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class System:
    """One system; paths are relative to the data root."""

    name: str
    home: str
    """The folder of everything that it makes."""
    learning: str | None = None
    """Module whose `SYSTEM` implements `learning.system.System`: its trainings, reports and models, and their assets."""
    inputs: tuple[str, ...] = ()
    """Assets that its examples are made of."""
    settings: tuple[str, ...] = ()
    """Sections of the settings that decide its examples, or single settings (`labels.stages`)."""
    predictor: str | None = None
    """Module whose `predict` serves its bundles."""
    assets: str | None = None
    """Module of its Dagster assets and checks."""
    graph: str | None = None
    """Module whose `NODES` are its rows of the graph table; by default they stand in the table itself."""
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By group of its assets, what a step reads (`storage.needs`); a group without a line reads what is unrestricted."""
    ledger: str | None = None
    """A split ledger of its own: withdrawal writes tombstones into it, `upgrade` keeps its form."""
    has_own_trainings: bool = True
    """Its trainings lie below `<home>/models`, its final model in `<home>/final`; otherwise below `models/`."""

    holds_originals: bool = False
    """Images that somebody put there lie in its home too: a withdrawal looks into them as into all originals."""

    @property
    def models(self) -> str:
        """Where its trainings lie."""
        return f"{self.home}/models" if self.has_own_trainings else self.home


HOLDERS = ("ct_assets.serving.withdrawal",)
"""Modules whose `forget(settings, finder)` takes a withdrawn person out of files that are nobody's table: returns a
count."""

_SYSTEMS: dict[str, System] = {}


def register(system: System) -> None:
    """Add a system. Raises `ValueError` where one of its name is there."""
    if system.name in _SYSTEMS:
        raise ValueError(f"the system {system.name} is registered already")
    _SYSTEMS[system.name] = system


@contextmanager
def registered(system: System) -> Iterator[None]:
    """Add a system for the time of a block: for tests."""
    register(system)
    try:
        yield
    finally:
        del _SYSTEMS[system.name]


def systems() -> tuple[System, ...]:
    """Return all systems in the order of their registration."""
    return tuple(_SYSTEMS.values())


def find(name: str) -> System | None:
    """Return the system of a name."""
    return _SYSTEMS.get(name)


register(
    System(
        name="lung",
        home="models",
        has_own_trainings=False,
        predictor="ct_assets.learning.models.predict",
        needs={
            "training": ("nifti/*", "folds/*", "store/*", "models/*", "derived/*"),
            "evaluation": ("nifti/*", "folds/*", "store/*", "models/*", "final/*", "reports/*", "derived/*"),
        },
    )
)
register(
    System(
        name="neuro",
        home="neuro",
        holds_originals=True,
        assets="ct_assets.defs.assets.neuro",
        needs={"neuro": ("neuro/*", "reports/*")},
    )
)
register(
    System(
        name="longitudinal",
        home="longitudinal",
        assets="ct_assets.defs.assets.longitudinal",
        graph="ct_assets.defs.assets.longitudinal_graph",
        needs={"longitudinal": ("longitudinal/*", "models/test_readings*", "reports/*")},
    )
)
register(
    System(
        name="brain",
        home="brain",
        predictor="ct_assets.systems.brain.predict",
        assets="ct_assets.defs.assets.brain",
        needs={"brain": ("deid/dicom_output/*", "brain/*", "models/test_readings*", "reports/*")},
        ledger="brain/splits.parquet",
    )
)
register(
    System(
        name="nodules",
        home="nodules",
        holds_originals=True,
        predictor="ct_assets.systems.nodules.predict",
        needs={"nodules": ("nodules/*", "models/test_readings*", "reports/*")},
    )
)
