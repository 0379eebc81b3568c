"""Rows of the graph table of longitudinal nodules: from outside tables to the report of a flow model.

Belongs here: the declaration. What the assets do is in `defs.assets.longitudinal`.
"""

from collections.abc import Callable
from typing import Any

from ct_assets.defs.engine.node import Node
from ct_assets.defs.engine.platform import Platform

GROUP = "longitudinal"
TABLE = frozenset({"parquet", "polars"})
IMAGES = ("*.nii.gz", "*.nii")


def exam_images(platform: Platform, _: str | None) -> Any:
    """The exams' NIfTI files by name, size and time of change."""
    folder = platform.settings.longitudinal.inputs.images
    if folder is None:
        return None
    paths = sorted(path for pattern in IMAGES for path in folder.rglob(pattern))
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _tables(folder: str, *names: str) -> Callable[[str], tuple[str, ...]]:
    """Return the tables that count as an asset's output."""
    return lambda _: tuple(f"longitudinal/{folder}/{name}.parquet" for name in names or ("*",))


def _node(deps: tuple[str, ...], sections: tuple[str, ...], kinds: frozenset[str], **further: Any) -> Node:
    named = tuple(f"longitudinal.{name}" for name in sections)
    return Node(GROUP, None, deps, named, kinds=kinds, automated=False, places=("longitudinal",), **further)


NODES: dict[str, Node] = {
    "longitudinal_tables": _node(
        (),
        ("inputs.policy",),
        TABLE,
        files=("longitudinal.inputs.exams", "longitudinal.inputs.tracking", "longitudinal.inputs.bad_exams"),
        outputs=_tables("tables"),
    ),
    "longitudinal_registrations": _node(
        ("longitudinal_tables",),
        ("inputs.images",),
        TABLE,
        external=exam_images,
        outputs=_tables("registrations"),
    ),
    "longitudinal_patches": _node(
        ("longitudinal_tables", "longitudinal_registrations"),
        ("inputs.images", "patches"),
        TABLE,
        external=exam_images,
        files=("longitudinal.inputs.tracking",),
        outputs=_tables("patches", "patches", "unusable_pairs"),
    ),
    "longitudinal_autoencoder": _node(
        ("longitudinal_patches",), ("experiment", "autoencoder"), frozenset({"pytorch"})
    ),
    "longitudinal_model": _node(
        ("longitudinal_patches", "longitudinal_autoencoder"), ("experiment", "flow"), frozenset({"pytorch"})
    ),
    "longitudinal_test_report": _node(
        ("longitudinal_patches", "longitudinal_autoencoder", "longitudinal_model"),
        ("experiment",),
        frozenset({"html"}),
    ),
}
