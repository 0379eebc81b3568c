"""What every asset's body shares: progress into the log, errors without tracebacks, the result's record.

Belongs here: the wiring around a domain function. The functions themselves are in the domain rooms.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ct_assets import files, machine_faults, progress
from ct_assets.defs.engine import memory, outputs, provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.inputs import Inputs
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.step_lock import only_writer
from ct_assets.errors import SafetyError, UsageError
from ct_assets.storage import session
from ct_assets.tables.descriptions import column_descriptions

LAUNCHED_BY, COMMAND = "ct_assets/launched_by", "command"
"""Tag of runs that a command launched in its own process: their progress shows at its terminal too."""

REPORTS_URL = "/reports"
"""Where the webserver shows what lies under `reports/`, from the root of its address."""

VIEWER_URL = "/viewer"
"""Where the webserver shows the gallery of cases and opens a case in the viewer."""

PREVIEW_ROWS = 10
IDENTITY_COLUMNS = ("patient_id", "_uid", "path", "digest", "sha256", "image", "label")
"""Columns whose names end so stay out of previews: Dagster's database outlives a patient who withdraws."""

_peak: ContextVar[memory.PeakMemory | None] = ContextVar("peak", default=None)


@contextmanager
def running(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Iterator[None]:
    """Log progress as lines, and turn errors meant for people into failures that are not retried.

    Only one process at a time is inside for one step and partition (`defs.engine.step_lock`).
    """
    at_a_terminal = context.run.tags.get(LAUNCHED_BY) == COMMAND
    op = context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
    layout = context.resources.platform.layout
    partition = context.partition_key if context.has_partition_key else None
    with progress.lines_to(context.log.info, here_too=at_a_terminal):
        try:
            with (
                only_writer(layout, op.op_handle.name, partition),
                session.step(context.resources.platform.settings, _group(context), partition),
                memory.watched() as peak,
            ):
                context.resources.platform.admit()
                _peak.set(peak)  # and stays for the record, which is written after the block
                yield
        except (UsageError, SafetyError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from None
        except Exception as error:
            said = machine_faults.told(error)
            if said is None:
                raise
            # A database comes back, so a step of a cluster is tried again; a full disk stays full.
            raise dg.Failure(description=said, allow_retries=said == machine_faults.DATABASE_AWAY) from None


def _group(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> str:
    """Return the group of the assets that a step makes; that of no group for a step that makes none."""
    made = context.selected_asset_keys if isinstance(context, dg.AssetExecutionContext) else ()
    return next((GRAPH[key.to_user_string()].group for key in made if key.to_user_string() in GRAPH), "")


class Recorder:
    """Collects what one materialization records; made when the asset's body begins."""

    def __init__(self, context: dg.AssetExecutionContext, platform: Platform) -> None:
        self._context, self._platform = context, platform
        self._started = time.perf_counter()
        self._partition = context.partition_key if context.has_partition_key else None
        self._read: dict[str, provenance.InputState] = {}
        _peak.set(None)

    @contextmanager
    def running(self) -> Iterator[Inputs]:
        """Do the work in this block, as `running` says; yield what the body may read.

        The digests of the inputs are taken when the block begins: what changes while the step runs counts as not used.
        """
        selected = {key.to_user_string() for key in self._context.selected_asset_keys}
        names = tuple(name for name in GRAPH if name in selected)
        with running(self._context):
            self._take_digests(names)
            for name in names:
                outputs.discard_changed(self._platform, name, self._partition)
            yield Inputs(self._platform, names, self._partition)

    def result(
        self,
        name: str,
        content_digest: str,
        metadata: Mapping[str, Any],
        checks: list[dg.AssetCheckResult] | None = None,
    ) -> dg.MaterializeResult:
        """Return the materialization of `name`, its data version being the digest of its content."""
        if name not in self._read:
            self._take_digests((name,))
        digest = self._read[name].digest(self._platform, name, self._partition)
        outputs.record(self._platform, name, self._partition)
        peak = _peak.get()
        return dg.MaterializeResult(
            asset_key=name,
            data_version=dg.DataVersion(content_digest),
            metadata={
                **metadata,
                "seconds": round(time.perf_counter() - self._started, 2),
                **({"peak_memory_mb": round(peak.sample())} if peak else {}),
                provenance.INPUT_DIGEST: digest,
                provenance.INPUT_PARTS: dg.MetadataValue.json(self._read[name].digest_of_each()),
            },
            check_results=checks or [],
        )

    def _take_digests(self, names: tuple[str, ...]) -> None:
        records = provenance.Records(self._context.instance)
        for name in names:
            self._read[name] = provenance.InputState.of(records, self._platform, name, self._partition)


def table_metadata(table: pl.DataFrame, schema: type | None = None) -> dict[str, Any]:
    """Return rows, column schema and a preview without identities of a table that holds nothing restricted.

    The columns are described as `schema`, the table's declaration, describes them.
    """
    described = column_descriptions(schema) if schema else {}
    columns = [
        dg.TableColumn(column, str(dtype), description=described.get(column))
        for column, dtype in table.schema.items()
    ]
    shown = [column for column in table.columns if not column.endswith(IDENTITY_COLUMNS)]
    preview = table.select(shown).head(PREVIEW_ROWS)
    records = [
        dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in preview.to_dicts()
    ]
    return {
        "dagster/row_count": table.height,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "preview": dg.MetadataValue.table(
            records, dg.TableSchema(columns=[dg.TableColumn(column, "string") for column in preview.columns])
        ),
    }


def counts(values: Mapping[str, int]) -> dg.MetadataValue:
    """Return counts by reason as a small table."""
    return dg.MetadataValue.table(
        [dg.TableRecord({"reason": reason, "count": str(count)}) for reason, count in sorted(values.items())],
        dg.TableSchema(columns=[dg.TableColumn("reason", "string"), dg.TableColumn("count", "string")]),
    )


def link(platform: Platform, path: Path) -> dg.MetadataValue:
    """Return a path under the data root as metadata; of a report as the UI opens it (`defs.operations.webserver`)."""
    relative = platform.layout.relative(path)
    if path.is_relative_to(platform.layout.reports):
        return dg.MetadataValue.url(f"{REPORTS_URL}/{path.relative_to(platform.layout.reports).as_posix()}")
    return dg.MetadataValue.path(relative)


def picture(platform: Platform, png: bytes, caption: str) -> dg.MetadataValue:
    """Keep a picture under `reports/figures/` by its content, and return what the UI shows it by.

    Dagster's database outlives a patient who withdraws: figures only, never a picture of a patient.
    """
    path = platform.layout.reports / "figures" / f"{hashlib.sha256(png).hexdigest()[:32]}.png"
    files.write_bytes(path, png)
    return dg.MetadataValue.md(f"![{caption}]({REPORTS_URL}/figures/{path.name})")


def link_or_path(platform: Platform, path: Path) -> dg.MetadataValue:
    """Return a path as metadata: relative to the data root where it lies there."""
    return link(platform, path) if path.is_relative_to(platform.layout.root) else dg.MetadataValue.path(path)


def node_code_version(name: str) -> str:
    """Return the code version the graph declares for an asset."""
    return GRAPH[name].code_version


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


CheckFunction = Callable[..., dg.AssetCheckResult]
