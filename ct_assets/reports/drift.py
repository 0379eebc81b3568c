"""The page on drift and confounding: a plain verdict a finding, with plots.

Belongs here: drawing what `cohort.drift` found. Nothing is computed here, so numbers on the page are those of the
JSON beside it.
"""

from html import escape
from pathlib import Path
from typing import Any

from ct_assets import files, reasons
from ct_assets.cohort.drift import Comparison, DriftReport, Finding
from ct_assets.reports.page import footer, nav

MOST_PLOTS = 24
MOST_BARS = 24
WIDTH, HEIGHT, MARGIN = 300, 90, 34
"""Of a plot's area; the margin at its left is the axis of shares."""
UNITS = {
    "mm": "mm",
    "hu": "HU",
    "kv": "kV",
    "ma": "mA",
    "years": "years",
    "deg": "degrees",
    "ml": "ml",
    "share": "share",
}
COLOURS = ("#2c6fa6", "#d1783c", "#4c9a5f", "#8d62a8", "#b8a13a", "#777777")

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;text-align:left;
vertical-align:top}.plots{display:grid;gap:.5rem 1.5rem;
grid-template-columns:repeat(auto-fill,minmax(17rem,1fr))}
summary{cursor:pointer;color:#1f5f99}details{margin:.5rem 0}.alarms figure{max-width:24rem}
figure{margin:0}figcaption{font-size:.85rem}
.alarm td{background:#fdecea}.alarm td:first-child{border-left:4px solid #c0392b}
.note{color:#666}svg{width:100%}.verdict{padding:.8rem 1rem;border-radius:4px;background:#eef5ee}
.verdict.found{background:#fdecea}
"""


def write(report: DriftReport, folder: Path) -> Path:
    """Write `index.html` (plots inside) and `drift.json` into `folder`; return the page's path."""
    parts = [_section(comparison) for comparison in report.comparisons]
    found = "verdict found" if report.has_alarm else "verdict"
    page = (
        f"<!doctype html><meta charset=utf-8><title>Drift, fold {escape(report.fold)}</title>"
        f"<style>{_STYLE}</style>{nav('../../')}<h1>Drift and confounding, fold {escape(report.fold)}</h1>"
        f'<p class="{found}">{escape(report.verdict())}</p>{_alarms(report)}'
        f"<p class=note>On a clean cohort this page raises any alarm with a chance of at most "
        f"{report.alarm_rate:g} ({report.permutations} relabellings; p-values are adjusted for every test here)."
        f"{_left_out(report)}</p>{''.join(parts)}{footer()}"
    )
    files.write_text(folder / "index.html", page)
    files.write_json(folder / "drift.json", report.to_json())
    return folder / "index.html"


def _left_out(report: DriftReport) -> str:
    if not report.left_out:
        return ""
    return f" Not compared, since all patients are alike: {escape(', '.join(report.left_out))}."


def _alarms(report: DriftReport) -> str:
    """Return what matters: each alarm with its meaning, remedy and plot; nothing without alarms."""
    shown = []
    for comparison in report.comparisons:
        groups = list(comparison.groups)
        for finding in sorted(comparison.findings, key=_order):
            if not finding.is_alarm:
                continue
            meaning = reasons.explain([finding.code]) if finding.code else ""
            panel = comparison.distributions.get(finding.factor)
            plot = _figure(finding, panel, groups) if panel else ""
            shown.append(
                f"<li><b>{escape(comparison.title.capitalize())}</b>: {escape(finding.verdict)} "
                f"<span class=note>{escape(meaning)}</span>{_key(groups) if plot else ''}{plot}</li>"
            )
    return f"<ul class=alarms>{''.join(shown)}</ul>" if shown else ""


def _order(finding: Finding) -> tuple[float, float, str]:
    """Order findings, the most conspicuous first."""
    return finding.p_adjusted, finding.p, finding.factor


def _section(comparison: Comparison) -> str:
    """Return a comparison: its groups and the most conspicuous finding, all findings and plots folded."""
    groups = ", ".join(f"{escape(name)} {count}" for name, count in comparison.groups.items())
    head = f"<h2>{escape(comparison.title.capitalize())}</h2><p class=note>Patients: {groups}. "
    head += f"{escape(comparison.note)}</p>"
    if not comparison.findings:
        return head
    ordered = sorted(comparison.findings, key=_order)
    alarms = sum(finding.is_alarm for finding in ordered)
    head += f"<p>{alarms} of {len(ordered)} tests raise an alarm. Most conspicuous: {escape(ordered[0].verdict)}</p>"
    rows = "".join(_row(finding) for finding in ordered)
    table = f"<table><tr><th>Verdict<th>p<th>adjusted<th>Statistics</tr>{rows}</table>"
    return (
        f"{head}<details><summary>All {len(ordered)} tests</summary>{table}</details>"
        f"<details><summary>Distributions</summary>{_plots(comparison)}</details>"
    )


def _row(finding: Finding) -> str:
    figures = ", ".join(
        f"{escape(name.replace('_', ' '))} {value:.3g}" for name, value in finding.statistics.items()
    )
    style = ' class="alarm"' if finding.is_alarm else ""
    return (
        f"<tr{style}><td>{escape(finding.verdict)}<td>{finding.p:.4f}<td>{finding.p_adjusted:.4f}"
        f"<td class=note>{figures}</tr>"
    )


def _plots(comparison: Comparison) -> str:
    """Draw the factors' distributions by group, the most conspicuous first, as pictures inside the page."""
    place = {finding.factor: finding for finding in comparison.findings}
    names = sorted(comparison.distributions, key=lambda name: _order(place[name]))
    groups = list(comparison.groups)
    panels = "".join(
        _figure(place[name], comparison.distributions[name], groups) for name in names[:MOST_PLOTS]
    )
    return f"{_key(groups)}<div class=plots>{panels}</div>"


def _key(groups: list[str]) -> str:
    colours = " ".join(
        f'<span style="color:{COLOURS[number % len(COLOURS)]}">&#9632;</span> {escape(group)}'
        for number, group in enumerate(groups)
    )
    return f"<p>{colours}</p>"


def _figure(finding: Finding, shown: dict[str, Any], groups: list[str]) -> str:
    alarm = " (alarm)" if finding.is_alarm else ""
    return f"<figure><figcaption>{escape(_label(finding.factor))}{alarm}</figcaption>{_panel(shown, groups)}</figure>"


def _label(factor: str) -> str:
    """Return a factor's name with its unit, which is the end of the column's name."""
    name, _, end = factor.rpartition("_")
    if name and end in UNITS:
        return f"{name.replace('_', ' ')}, {UNITS[end]}"
    return factor.replace("_", " ")


def _panel(shown: dict[str, Any], groups: list[str]) -> str:
    """Draw bars by category, or outlines by bin of a number."""
    shares = {group: _shares(shown["counts"][group])[:MOST_BARS] for group in groups}
    highest = max((share for row in shares.values() for share in row), default=0) or 1.0
    kinds = max(len(row) for row in shares.values())
    step = WIDTH / kinds
    drawn = []
    for number, group in enumerate(groups):
        colour = COLOURS[number % len(COLOURS)]
        heights = [HEIGHT * share / highest for share in shares[group]]
        if "edges" in shown:
            steps = "".join(
                f"L{place * step:.1f},{HEIGHT - height:.1f}H{(place + 1) * step:.1f}"
                for place, height in enumerate(heights)
            )
            drawn.append(f'<path d="M0,{HEIGHT}{steps}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            continue
        width = 0.8 * step / len(groups)
        drawn += [
            f'<rect x="{place * step + number * width:.1f}" y="{HEIGHT - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" fill="{colour}"><title>{escape(group)}: {share:.0%}</title></rect>'
            for place, (height, share) in enumerate(zip(heights, shares[group], strict=True))
        ]
    return (
        f'<svg viewBox="{-MARGIN} -8 {WIDTH + MARGIN + 4} {HEIGHT + 30}" role="img">{_share_axis(highest)}'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="#aaa"/>{"".join(drawn)}'
        f"{_labels(shown, step)}</svg>"
    )


def _share_axis(highest: float) -> str:
    """Draw the axis of the share of a group's patients, from 0 to the highest."""
    ticks = "".join(
        f'<text x="-3" y="{y}" text-anchor="end" font-size="9">{text}</text>'
        for y, text in ((HEIGHT, "0"), (6, f"{highest:.0%}"))
    )
    return (
        f'<line x1="0" y1="0" x2="0" y2="{HEIGHT}" stroke="#aaa"/>{ticks}<text transform="rotate(-90)" '
        f'x="{-HEIGHT / 2}" y="-22" text-anchor="middle" font-size="9">patients</text>'
    )


def _labels(shown: dict[str, Any], step: float) -> str:
    if "edges" in shown:
        low, high = shown["edges"][0], shown["edges"][-1]
        ends = [(0.0, "start", f"{low:g}"), (float(WIDTH), "end", f"{high:g}")]
    else:
        letters = max(2, int(step / 6))
        ends = [
            (place * step, "start", text if len(text) <= letters else f"{text[: letters - 1]}…")
            for place, text in enumerate(shown["categories"][:MOST_BARS])
        ]
    return "".join(
        f'<text x="{x:.1f}" y="{HEIGHT + 13}" text-anchor="{anchor}" font-size="10">{escape(text)}</text>'
        for x, anchor, text in ends
    )


def _shares(counts: list[int]) -> list[float]:
    total = max(1, sum(counts))
    return [count / total for count in counts]
