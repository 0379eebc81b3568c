"""The state of a platform in one screen: what is in it, what is stale or failed, and pending actions.

Belongs here: counting what the tables say and printing it. Reads public audits and tables only, nothing
restricted, and no pixel.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from ct_assets import files, registry
from ct_assets.intake import batches
from ct_assets.layout import WITHDRAWALS_NAME, Layout
from ct_assets.learning.models.champion import champion, registered
from ct_assets.reasons import reason
from ct_assets.reports.alerts import Alert
from ct_assets.settings import Settings

HEADLINE = (
    ("segmentation", "model", "dice"),
    ("segmentation", "threshold_in_lung", "dice"),
    ("segmentation", "model", "lesion_miss_rate"),
    ("stage", "model", "auroc_macro"),
    ("stage", "headers_only", "auroc_macro"),
)
"""The figures of a report that a person wants to see first: part, by whom, which."""
WIDTH_WITHOUT_A_TERMINAL = 120


@dataclass(frozen=True)
class InstanceFacts:
    """What only Dagster's instance knows; made by `defs.operations.instance_facts`."""

    stale: tuple[str, ...] = ()
    """What is stale and why, a line each."""
    failures: tuple[tuple[Alert, int], ...] = ()
    """What failed in the last day, with the number of runs."""
    refused: frozenset[str] = frozenset()
    """Batches of the inbox whose last run failed: they are not new."""


NO_FACTS = InstanceFacts()


@dataclass
class Status:
    """What is in a platform now."""

    batches: list[dict[str, Any]] = field(default_factory=list)
    """A row a de-identified batch: name, files released, quarantined, rejected, patients."""
    waiting_in_inbox: int = 0
    """Batches that are complete and not yet taken, those that were refused not counted."""
    refused_in_inbox: tuple[str, ...] = ()
    """Batches that are complete and were refused when they were taken."""
    stale: tuple[str, ...] = ()
    failures: tuple[tuple[Alert, int], ...] = ()
    incomplete_in_inbox: dict[str, int] = field(default_factory=dict)
    """Reason code to number of folders of the inbox that are no complete batch."""
    patients: int = 0
    eligible: int = 0
    excluded: dict[str, int] = field(default_factory=dict)
    """Reason code to number of patients; a patient with two reasons counts for both."""
    parts: dict[str, int] = field(default_factory=dict)
    """`fold 0`, … and `test` to number of patients in the manifest."""
    plans: int = 0
    experiments: list[dict[str, Any]] = field(default_factory=list)
    """A row an experiment: name, trained folds, whether a final model stands."""
    figures: list[dict[str, Any]] = field(default_factory=list)
    """A row a figure of the latest reports: which, value, interval."""
    to_do: list[str] = field(default_factory=list)
    """What waits for a person, a line each."""


def collect(settings: Settings, facts: InstanceFacts = NO_FACTS) -> Status:
    """Return the state of the platform that `settings` describe."""
    layout = settings.layout
    status = Status(stale=facts.stale, failures=facts.failures)
    _batches(layout, status, facts.refused)
    _cohort(layout, status)
    _training(settings, status)
    _to_do(settings, status)
    return status


def show(settings: Settings, facts: InstanceFacts = NO_FACTS) -> None:
    """Print the state of the platform."""
    status = collect(settings, facts)
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_A_TERMINAL)
    console.print(f"[bold]platform[/bold] {settings.data_root}", highlight=False)
    console.print(
        _table("batches", status.batches, ("batch", "released", "quarantined", "rejected", "patients"))
    )
    console.print(_table("patients", [{"patients": status.patients, "eligible": status.eligible,
                                       "excluded": status.patients - status.eligible}],
                         ("patients", "eligible", "excluded")))  # fmt: skip
    if status.excluded:
        rows = [
            {"reason": code, "patients": count, "meaning": _meaning(code)}
            for code, count in status.excluded.items()
        ]
        console.print(_table("excluded by reason", rows, ("reason", "patients", "meaning")))
    if status.parts:
        console.print(_table("splits", [status.parts], tuple(status.parts)))
    if status.experiments:
        console.print(
            _table(
                "experiments",
                status.experiments,
                ("experiment", "trained folds", "final model", "registered"),
            )
        )
    if status.figures:
        console.print(
            _table("figures", status.figures, ("report", "figure", "by", "value", "interval", "patients"))
        )
    pages = settings.layout.reports / "index.html"
    if pages.exists():
        console.print(f"[bold]pages[/bold] {pages}", highlight=False, soft_wrap=True)
    for title, lines in (
        ("stale", status.stale),
        ("failed in the last 24 hours", tuple(map(_failure, status.failures))),
        ("pending actions", tuple(status.to_do)),
    ):
        console.print(f"[bold]{title}[/bold]" if lines else f"{title}: none")
        for line in lines:
            console.print(f"  - {line}", highlight=False, markup=False)


def _failure(failed: tuple[Alert, int]) -> str:
    alert, count = failed
    times = "" if count == 1 else f" ({count} runs)"
    return f"{alert.where}: {alert.code}{times}. {_meaning(alert.code)} {reason(alert.code).mend}"


def _batches(layout: Layout, status: Status, refused: frozenset[str]) -> None:
    for path in sorted((layout.root / "audits/deid").glob("*/summary.json")):
        summary = files.read_json(path)
        status.batches.append({"batch": path.parent.name, **summary})
    complete = [one.batch for one in batches.complete_batches(layout)]
    status.refused_in_inbox = tuple(batch for batch in complete if batch in refused)
    status.waiting_in_inbox = len(complete) - len(status.refused_in_inbox)
    status.incomplete_in_inbox = dict(
        sorted(Counter(one.reason for one in batches.incomplete(layout)).items())
    )


def _cohort(layout: Layout, status: Status) -> None:
    if layout.eligibility.exists():
        table = pl.read_parquet(layout.eligibility, columns=["patient_id", "is_eligible", "reasons"])
        status.patients, status.eligible = table.height, int(table["is_eligible"].sum())
        codes = table.filter(~pl.col("is_eligible"))["reasons"].explode().drop_nulls()
        status.excluded = dict(sorted(Counter(codes).items(), key=lambda item: (-item[1], item[0])))
    if layout.cohort_manifest.exists():
        manifest = pl.read_parquet(layout.cohort_manifest, columns=["split", "fold"])
        for split, fold, count in (
            manifest.group_by("split", "fold").len().sort("fold", nulls_last=True).iter_rows()
        ):
            status.parts["test" if split == "test" else f"fold {fold}"] = count
    status.plans = len(list(layout.folds.glob("*/plan.json")))


def _training(settings: Settings, status: Status) -> None:
    layout = settings.layout
    for folder in sorted((layout.root / "models").glob("*/configuration.json")):
        experiment = folder.parent
        trained = sorted(path.parent.name for path in experiment.glob("*/predictions.parquet"))
        status.experiments.append(
            {
                "experiment": experiment.name,
                "trained folds": ", ".join(trained) or "none",
                "final model": "yes" if layout.final_model(experiment.name).is_dir() else "no",
                **_registered(settings, experiment),
            }
        )
    for system in registry.systems():
        home = layout.root / system.home
        folders = {path.parent for path in (layout.root / system.models).rglob("best.safetensors")}
        has_final = (home / "final").is_dir()
        if system.has_own_trainings and (folders or has_final):
            status.experiments.append(
                {
                    "experiment": system.name,
                    "trained folds": f"{len(folders)} trainings",
                    "final model": "yes" if has_final else "no",
                    "home": home,
                }
            )
    for report in ("cv_report", "test_report"):
        path = layout.reports / f"{report}.json"
        if path.exists():
            status.figures += _headline(report, files.read_json(path))


def _registered(settings: Settings, experiment: Path) -> dict[str, Any]:
    """Return under which version an experiment's model is registered, and whether it is the champion."""
    known = registered(experiment)
    if known is None:
        return {}
    name, version = known
    uri = settings.tracking.uri or f"sqlite:///{settings.layout.mlflow / 'mlflow.db'}"
    in_use = champion(uri, name)
    is_champion = in_use == version
    shown = "champion" if is_champion else "candidate" if in_use is None else f"champion: version {in_use}"
    return {"registered": f"{name} version {version} ({shown})", "is_champion": is_champion}


def _headline(report: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for part, model, name in HEADLINE:
        figure = content.get(part, {}).get(model, {}).get("pooled", {}).get(name)
        if figure is None or figure["value"] is None:
            continue
        has_interval = figure["low"] is not None and figure["high"] is not None
        rows.append(
            {
                "report": "out of fold" if report == "cv_report" else "test",
                "figure": f"{part} {name}",
                "by": model,
                "value": f"{figure['value']:.3f}",
                "interval": f"{figure['low']:.3f} to {figure['high']:.3f}"
                if has_interval
                else "too few patients",
                "patients": figure["patients"],
            }
        )
    return rows


def _to_do(settings: Settings, status: Status) -> None:
    if status.waiting_in_inbox:
        count = status.waiting_in_inbox
        status.to_do.append(
            f"{count} new {'batch' if count == 1 else 'batches'} in the inbox: `ct-assets run`, or let the sensor take "
            f"{'it' if count == 1 else 'them'}"
        )
    for batch in status.refused_in_inbox:
        status.to_do.append(f"batch {batch} was refused: deliver it again under the same name, corrected")
    for code, count in status.incomplete_in_inbox.items():
        status.to_do.append(f"{count} x {code} in the inbox: {_meaning(code)} {reason(code).mend}")
    held = sum(batch["quarantined"] for batch in status.batches)
    if held:
        status.to_do.append(
            f"{held} {'instance' if held == 1 else 'instances'} in quarantine: look with `ct-assets quarantine list`"
        )
    if settings.labels.csv is None:
        status.to_do.append("no clinic's table: name one in the settings (labels.csv) or in CT_ASSETS_LABELS")
    if status.plans and not status.experiments:
        status.to_do.append("the folds are ready: `ct-assets train`")
    for row in status.experiments:
        home = row.get("home") or settings.layout.experiment(row["experiment"])
        if (home / WITHDRAWALS_NAME).exists():
            status.to_do.append(
                f"experiment {row['experiment']} learned from people who have withdrawn: train a new one before its "
                "models are used any further"
            )
        elif row["final model"] == "yes" and not row.get("is_champion"):
            status.to_do.append(
                f"experiment {row['experiment']} has a model that is not the champion: read its report, then "
                "`ct-assets promote`"
            )
    is_empty = not (status.batches or status.waiting_in_inbox or status.incomplete_in_inbox)
    if is_empty and not status.refused_in_inbox:
        status.to_do.append("the platform is empty: `ct-assets ingest DROP_DIR`")


def _meaning(code: str) -> str:
    try:
        return reason(code).meaning
    except KeyError:
        return "a condition of the site's own"


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    return table
