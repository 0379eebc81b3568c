"""Drift and confounding: what differs between the parts of a split, and what goes with the stage.

Belongs here: which groups and factors are compared, and the plain verdict on each. Does not: the statistics
(`cohort.drift_statistics`), the model on headers (`cohort.header_stage_model`), the page (`reports.drift`).

The unit is the patient. Three questions, each a family of tests over all factors: does the fold's validation part
differ from its training part; does the test set differ from the rest (headers only: no image and no label of the
test set is looked at); does a factor go with the stage, among training patients. Families share the alarm rate
evenly and hold it jointly over their tests, so that a clean cohort raises any alarm at most at that rate.
"""

from collections.abc import Collection, Iterable
from math import comb
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.cohort import drift_statistics as statistics
from ct_assets.cohort import header_stage_model as model
from ct_assets.cohort.header_stage_model import Factor
from ct_assets.settings.base import Section
from ct_assets.settings.folds import DriftSettings
from ct_assets.settings.platform import Settings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEW_VALUES = 5
"""A number with at most so many different values is treated as a category."""
FEWEST = 2
"""A group with fewer patients is not compared."""
BINS = 20
KEYS = ("case_id", "patient_id")
MISSING = "(missing)"
TOGETHER = "all headers together"
IMAGES = "images together"

Question = Literal["validation", "test", "stage", "subset"]


class Finding(Section):
    """One factor (or all of them together) in one comparison."""

    question: Question
    factor: str
    kind: Literal["number", "category", "headers together", "images together"]
    statistics: dict[str, float]
    p: float
    p_adjusted: float
    """Adjusted for everything that this report tests."""
    is_alarm: bool
    code: str | None
    """Code of `ct_assets.reasons` where it is an alarm."""
    verdict: str
    """One plain sentence."""


class Comparison(Section):
    """One question with its groups and what was found."""

    question: Question
    title: str
    groups: dict[str, int]
    """Patients a group."""
    is_possible: bool
    note: str
    findings: tuple[Finding, ...]
    distributions: dict[str, dict[str, Any]]
    """For plots: by factor the categories or bin edges, and counts a group."""


class DriftReport(Section):
    """Everything found for one fold."""

    fold: str
    alarm_rate: float
    permutations: int
    seed: int
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    """Factors with a single value, which cannot differ."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, of all comparisons."""
        return tuple(finding for comparison in self.comparisons for finding in comparison.findings)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that chance does not explain."""
        return tuple(finding for finding in self.findings if finding.is_alarm)

    @property
    def has_alarm(self) -> bool:
        """Whether anything was found."""
        return bool(self.alarms)

    def verdict(self) -> str:
        """Return the whole in one sentence."""
        if self.alarms:
            return " ".join(finding.verdict for finding in self.alarms)
        able = [one for one in self.comparisons if one.is_possible and not one.note]
        if able:
            return "Nothing found."
        return "Nothing found, but there are too few patients to find anything."

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            **self.model_dump(mode="json"),
            "has_alarm": self.has_alarm,
            "verdict": self.verdict(),
            "verdicts": [finding.verdict for finding in self.alarms],
        }


def assess(
    manifest: pl.DataFrame,
    header_factors: pl.DataFrame | None,
    fold: str,
    settings: Settings | DriftSettings,
    *,
    image_factors: pl.DataFrame | None = None,
) -> DriftReport:
    """Compare the parts of a fold and look for what goes with the stage.

    `manifest` has `case_id, patient_id, stage, site, split, fold`; `header_factors` has `case_id` and a column a
    factor (numbers or texts), `image_factors` likewise (numbers; rows of test cases are not looked at). A patient
    counts once, with the first case. Rows in any order give the same report.
    """
    chosen = settings.drift if isinstance(settings, Settings) else settings
    patients = manifest.sort("case_id").unique("patient_id", keep="first", maintain_order=True)
    patients = patients.with_columns(pl.col("fold").cast(pl.String).alias("_fold"))
    is_training = pl.col("split") == "train"
    trained = patients.filter(is_training)
    left_out: set[str] = set()
    plans: list[tuple[Question, str, pl.DataFrame, list[str]]] = []
    if fold != "final":
        part = ["validation" if one == fold else "training" for one in trained["_fold"]]
        plans.append(("validation", f"validation of fold {fold} against its training", trained, part))
    part = ["test" if one == "test" else "training" for one in patients["split"]]
    plans.append(("test", "test set against the rest, headers only", patients, part))
    staged = trained.filter(pl.col("stage").is_not_null())
    plans.append(
        (
            "stage",
            "headers and images against the stage, training patients",
            staged,
            staged["stage"].to_list(),
        )
    )
    comparisons = []
    for question, title, rows, groups in plans:
        headers, gone = _factors(rows, header_factors, with_site=True)
        images, gone_too = _factors(rows, None if question == "test" else image_factors, with_site=False)
        left_out |= set(gone) | set(gone_too)
        comparisons.append(_compare(question, title, groups, headers, images, chosen, len(plans)))
    return DriftReport(
        fold=fold,
        alarm_rate=chosen.alarm_rate,
        permutations=chosen.permutations,
        seed=chosen.seed,
        comparisons=tuple(comparisons),
        left_out=tuple(sorted(left_out)),
    )


def assess_subset(
    manifest: pl.DataFrame,
    header_factors: pl.DataFrame | None,
    patient_ids: Collection[str],
    settings: DriftSettings,
) -> Comparison:
    """Compare some patients of `manifest` with the others, in site, stage and headers."""
    patients = manifest.sort("case_id").unique("patient_id", keep="first", maintain_order=True)
    groups = ["set" if one in patient_ids else "whole" for one in patients["patient_id"]]
    headers, _ = _factors(patients, header_factors, with_site=True)
    if patients["stage"].n_unique() > 1:
        headers.append(_factor("stage", patients["stage"]))
    return _compare("subset", "the smaller set against those left out", groups, headers, [], settings, 1)


HEADER_FACTORS = (
    "body_part_examined",
    "convolution_kernel",
    "coverage_mm",
    "ctdi_vol_mgy",
    "exposure_mas",
    "field_of_view_mm",
    "filter_type",
    "has_contrast",
    "institution_name",
    "kvp_kv",
    "manufacturer",
    "manufacturer_model_name",
    "patient_age_years",
    "patient_position",
    "patient_sex",
    "reconstruction_diameter_mm",
    "row_spacing_mm",
    "slice_spacing_mm",
    "slice_thickness_mm",
    "slices",
    "software_versions",
    "spacing_minus_thickness_mm",
    "spiral_pitch_factor",
    "tilt_deg",
    "transfer_syntax_uid",
    "xray_tube_current_ma",
)
"""Columns of the series audit that say how a scan was made, or of whom. Dates are shifted by patient: no factor."""


def header_factors(manifest: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Return a row a case of `manifest` with the header factors of its principal series (`SeriesAudit`)."""
    columns = [name for name in HEADER_FACTORS if name in series.columns]
    return (
        manifest.select("case_id", pl.col("image_series_id").alias("series_id"))
        .join(series.select("series_id", *columns), on="series_id", how="left", maintain_order="left")
        .drop("series_id")
    )


def _factors(
    rows: pl.DataFrame, factors: pl.DataFrame | None, *, with_site: bool
) -> tuple[list[Factor], list[str]]:
    """Return the factors of these patients, by name, and the names of those with a single value."""
    table = rows.select("case_id", *(["site"] if with_site and "site" in rows.columns else []))
    if factors is not None:
        table = table.join(
            factors.drop([name for name in ("patient_id", "site") if name in factors.columns]),
            on="case_id",
            how="left",
            maintain_order="left",
        )
    found, left_out = [], []
    for name in sorted(set(table.columns) - set(KEYS)):
        column = table[name]
        if column.n_unique() < 2:
            left_out.append(name)
            continue
        found.append(_factor(name, column))
    return found, left_out


def _factor(name: str, column: pl.Series) -> Factor:
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count():
            column = numbers
    if column.dtype.is_numeric() and column.drop_nulls().n_unique() > FEW_VALUES:
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return Factor(name, np.where(np.isfinite(values), values, np.nan), None)
    texts = [MISSING if value is None or value == "" else _text(value) for value in column]
    names = tuple(sorted(set(texts)))
    place = {text: number for number, text in enumerate(names)}
    return Factor(name, np.array([place[text] for text in texts], dtype=np.float64), names)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | pl.Series):
        return "/".join(str(one) for one in value)
    return str(value)


def _compare(
    question: Question,
    title: str,
    groups: list[str],
    headers: list[Factor],
    images: list[Factor],
    settings: DriftSettings,
    families: int,
) -> Comparison:
    names = sorted(set(groups))
    counts = {name: groups.count(name) for name in names}
    labels = np.array([names.index(group) for group in groups], dtype=np.int64)
    factors = headers + images
    is_possible = len(names) > 1 and min(counts.values(), default=0) >= FEWEST and bool(factors)
    if question == "stage":
        is_possible = sum(count >= FEWEST for count in counts.values()) > 1 and bool(factors)
    if not is_possible:
        note = "no factor to compare" if not factors else "too few patients in a group"
        return _comparison(question, title, counts, False, note, [], {})
    drawn = statistics.relabellings(labels, settings.permutations, settings.seed)
    tests: list[tuple[str, Floats]] = []
    for factor in factors:
        tests += [(factor.name, one) for one in _marginal(factor, drawn, len(names))]
    of_models: dict[str, dict[str, float]] = {}
    if headers:
        aucs = model.scores(model.features(headers), drawn, settings.seed)
        tests.append((TOGETHER, statistics.surprise_normal(aucs)))
        of_models[TOGETHER] = {"auc": float(aucs[0]), "auc_by_chance": float(np.median(aucs[1:]))}
    if images and question == "validation":
        apart = statistics.mmd2(_filled(images), drawn)
        tests.append((IMAGES, statistics.surprise_normal(apart)))
        of_models[IMAGES] = {"mmd2": float(apart[0]), "mmd2_by_chance": float(np.median(apart[1:]))}
    surprises = np.stack([one for _, one in tests])
    p_values = statistics.by_chance(surprises)
    adjusted = np.minimum(1.0, statistics.step_down(surprises) * families)
    findings = []
    by_name = {factor.name: factor for factor in factors}
    for name in [*by_name, *of_models]:
        places = [place for place, (of, _) in enumerate(tests) if of == name]
        best = min(places, key=lambda place: (adjusted[place], p_values[place]))
        known = by_name.get(name)
        figures = _figures(known, labels, question) if known is not None else of_models[name]
        findings.append(
            _finding(question, name, known, figures, p_values[best], adjusted[best], settings.alarm_rate)
        )
    note = _power_note(counts, settings, families)
    drawn_for_plots = {factor.name: _distribution(factor, labels, names) for factor in factors}
    return _comparison(question, title, counts, True, note, findings, drawn_for_plots)


def _comparison(
    question: Question,
    title: str,
    groups: dict[str, int],
    is_possible: bool,
    note: str,
    findings: Iterable[Finding],
    distributions: dict[str, dict[str, Any]],
) -> Comparison:
    return Comparison(
        question=question,
        title=title,
        groups=groups,
        is_possible=is_possible,
        note=note,
        findings=tuple(findings),
        distributions=distributions,
    )


def _marginal(factor: Factor, drawn: Ints, groups: int) -> list[Floats]:
    """Return how surprising one factor is under every labelling, as a category and, of numbers, by their order."""
    codes = factor.codes
    freedom = int(codes.max()) * (groups - 1)
    found = [statistics.surprise_chi_square(statistics.chi_square(codes, drawn), freedom)]
    if factor.is_numeric:
        there = ~np.isnan(factor.values)
        values, labels = factor.values[there], drawn[:, there]
        ordered = statistics.kruskal_wallis(values, labels)
        found.append(statistics.surprise_chi_square(ordered, groups - 1))
        if groups == 2:
            first = int(labels[0].sum())
            found.append(statistics.surprise_ks(statistics.ks(values, labels), first, len(values) - first))
    return found


def _figures(factor: Factor, labels: Ints, question: Question) -> dict[str, float]:
    codes = factor.codes
    figures = {
        "cramers_v": statistics.cramers_v(codes, labels),
        "mutual_information_nats": statistics.mutual_information(codes, labels),
    }
    if question == "stage":
        if factor.is_numeric:
            there = ~np.isnan(factor.values)
            figures["kruskal_wallis"] = float(
                statistics.kruskal_wallis(factor.values[there], labels[None, there])[0]
            )
        return _rounded(figures)
    first = labels == labels.min()
    kinds = int(codes.max()) + 1
    figures["population_stability_index"] = statistics.psi_of_counts(
        np.bincount(codes[first], minlength=kinds), np.bincount(codes[~first], minlength=kinds)
    )
    if factor.is_numeric:
        there = ~np.isnan(factor.values)
        one, other = factor.values[first & there], factor.values[~first & there]
        if one.size and other.size:
            figures["kolmogorov_smirnov"] = float(statistics.ks(factor.values[there], labels[None, there])[0])
            figures["wasserstein_in_deviations"] = statistics.wasserstein(one, other)
            figures["population_stability_index"] = statistics.psi(one, other)
    return _rounded(figures)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in figures.items()}


def _finding(
    question: Question,
    name: str,
    factor: Factor | None,
    figures: dict[str, float],
    p: float,
    p_adjusted: float,
    alarm_rate: float,
) -> Finding:
    is_alarm = bool(p_adjusted <= alarm_rate)
    kind: Literal["number", "category", "headers together", "images together"]
    if factor is not None:
        kind = "number" if factor.is_numeric else "category"
    else:
        kind = "images together" if name == IMAGES else "headers together"
    code = None
    if is_alarm:
        code = "split_drifts" if question != "stage" else "stage_confounded"
        if question == "stage" and kind == "headers together":
            code = "headers_predict_stage"
    return Finding(
        question=question,
        factor=name,
        kind=kind,
        statistics=_rounded(figures),
        p=round(float(p), 6),
        p_adjusted=round(float(p_adjusted), 6),
        is_alarm=is_alarm,
        code=code,
        verdict=_verdict(question, name, kind, figures, p_adjusted, is_alarm),
    )


def _verdict(
    question: Question, name: str, kind: str, figures: dict[str, float], p: float, is_alarm: bool
) -> str:
    chance = f"(p {p:.3f} after all tests)"
    part, where = _PLACES[question]
    if kind == "headers together":
        said = f"AUC {figures['auc']:.2f}, {figures['auc_by_chance']:.2f} by chance"
        if question == "stage":
            does = "predict" if is_alarm else "do not predict"
            return f"Headers alone {does} the stage better than chance: {said} {chance}."
        return f"Headers alone {'tell' if is_alarm else 'do not tell'} {part} from the rest: {said} {chance}."
    strength = (
        f"Cramér's V {figures['cramers_v']:.2f}" if "cramers_v" in figures else f"MMD² {figures['mmd2']:.3f}"
    )
    if question == "stage":
        does = "goes with the stage" if is_alarm else "shows no tie to the stage"
        return f"{name} {does}: {strength} {chance}."
    does = "differs" if is_alarm else "shows no difference"
    return f"{name} {does} between {where}: {strength} {chance}."


_PLACES: dict[Question, tuple[str, str]] = {
    "validation": ("the validation part", "validation and training"),
    "test": ("the test set", "the test set and the rest"),
    "stage": ("the stage", "stages"),
    "subset": ("the smaller set", "the smaller set and those left out"),
}
"""How a verdict calls the part that is asked about, and the two sides."""


def _power_note(counts: dict[str, int], settings: DriftSettings, families: int) -> str:
    """Say where even the most extreme labelling could not reach the alarm rate."""
    size = sum(counts.values())
    arrangements, left = 1, size
    for count in counts.values():
        arrangements *= comb(left, count)
        left -= count
    least = families * max(1 / arrangements, 1 / (settings.permutations + 1))
    if least > settings.alarm_rate:
        return f"{size} patients are too few: not even the strongest difference could raise an alarm"
    return ""


def _filled(factors: list[Factor]) -> Floats:
    """Return the factors as columns, missing values as the median (codes as they are)."""
    columns = []
    for factor in factors:
        values = factor.values.copy()
        values[np.isnan(values)] = np.nanmedian(values)
        columns.append(values)
    return np.stack(columns, axis=1)


def _distribution(factor: Factor, labels: Ints, names: list[str]) -> dict[str, Any]:
    if factor.categories is not None:
        kinds = len(factor.categories)
        counts = {
            name: np.bincount(factor.codes[labels == number], minlength=kinds).tolist()
            for number, name in enumerate(names)
        }
        return {"categories": list(factor.categories), "counts": counts}
    there = ~np.isnan(factor.values)
    edges = np.histogram_bin_edges(factor.values[there], bins=BINS)
    counts = {
        name: np.histogram(factor.values[there & (labels == number)], bins=edges)[0].tolist()
        for number, name in enumerate(names)
    }
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts}
