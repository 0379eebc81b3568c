"""The model card: data, intended use, limits and metrics with intervals, for whoever thinks of using a model.

After Mitchell et al., Model Cards for Model Reporting, 2019 (doi:10.1145/3287560.3287596).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ct_assets.learning.models.bundle_files import BundleRecord

METRICS_HEADER = ("| metric | value | interval |", "|---|---|---|")


class Described(Protocol):
    """What a card says of every model of a system."""

    @property
    def title(self) -> str:
        """What its models do, in one line."""

    @property
    def intended_use(self) -> str:
        """What its models are for."""

    @property
    def limits(self) -> Sequence[str]:
        """What they were never shown to do."""


def write(
    described: Described, record: BundleRecord, *, data: Sequence[str], heading: str, metrics: Sequence[str]
) -> str:
    """Return a card as Markdown: `data` are lines on the training data, `metrics` lines below their `heading`."""
    lines = [
        f"# {record.experiment}: {described.title}",
        "",
        f"Kind: {record.kind.replace('_', ' ')} of {len(record.members)}. Bundle {record.digest[:12]}, configuration "
        f"{record.config_digest[:12]}, manifest {record.manifest_digest[:12]}.",
        "",
        "## Intended use",
        described.intended_use,
        "",
        "## Data",
        *data,
        "",
        f"## {heading}",
        *metrics,
        "",
        "## Limits",
        *(f"- {limit}" for limit in described.limits),
        "",
        "## Input and output",
        *(f"- {name}: {text}" for name, text in record.conventions.items()),
        "",
    ]
    return "\n".join(lines)


def metric_row(name: str, estimate: Mapping[str, Any]) -> str:
    """Return a row of the table of metrics: a value with its interval, where it has one."""
    shown = "–" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"
    return f"| {name.replace('_', ' ')} | {estimate['value']:.3f} | {shown} |"
