"""The page on drift and confounding: a plain verdict a finding, with plots.

Belongs here: drawing what `cohort.drift` found. Nothing is computed here, so numbers on the page are those of the
JSON beside it.
"""

from html import escape
from pathlib import Path
from typing import Any

from ct_assets import files
from ct_assets.cohort.drift import Comparison, DriftReport, Finding

MOST_PLOTS = 24
MOST_BARS = 24
WIDTH, HEIGHT = 300, 90
COLOURS = ("#2c6fa6", "#d1783c", "#4c9a5f", "#8d62a8", "#b8a13a", "#777777")

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;text-align:left;
vertical-align:top}.plots{display:grid;gap:.5rem 1.5rem;
grid-template-columns:repeat(auto-fill,minmax(17rem,1fr))}
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
        f"<style>{_STYLE}</style><h1>Drift and confounding, fold {escape(report.fold)}</h1>"
        f'<p class="{found}">{escape(report.verdict())}</p>'
        f"<p class=note>On a clean cohort this page raises any alarm with a chance of at most "
        f"{report.alarm_rate:g} ({report.permutations} relabellings; p-values are adjusted for every test here)."
        f"{_left_out(report)}</p>{''.join(parts)}"
    )
    files.write_text(folder / "index.html", page)
    files.write_json(folder / "drift.json", report.to_json())
    return folder / "index.html"


def _left_out(report: DriftReport) -> str:
    if not report.left_out:
        return ""
    return f" Not compared, since all patients are alike: {escape(', '.join(report.left_out))}."


def _section(comparison: Comparison) -> str:
    groups = ", ".join(f"{escape(name)} {count}" for name, count in comparison.groups.items())
    head = f"<h2>{escape(comparison.title.capitalize())}</h2><p class=note>Patients: {groups}. "
    head += f"{escape(comparison.note)}</p>"
    if not comparison.findings:
        return head
    ordered = sorted(comparison.findings, key=lambda one: (one.p_adjusted, one.p, one.factor))
    rows = "".join(_row(finding) for finding in ordered)
    table = f"<table><tr><th>Verdict<th>p<th>adjusted<th>Figures</tr>{rows}</table>"
    return head + table + _plots(comparison)


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
    names = sorted(comparison.distributions, key=lambda name: (place[name].p_adjusted, place[name].p, name))
    groups = list(comparison.groups)
    key = " ".join(
        f'<span style="color:{COLOURS[number % len(COLOURS)]}">&#9632;</span> {escape(group)}'
        for number, group in enumerate(groups)
    )
    panels = "".join(
        f"<figure><figcaption>{escape(name)}{' (alarm)' if place[name].is_alarm else ''}</figcaption>"
        f"{_panel(comparison.distributions[name], groups)}</figure>"
        for name in names[:MOST_PLOTS]
    )
    return f"<p>Share of each group's patients: {key}</p><div class=plots>{panels}</div>"


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
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18}" role="img"><line x1="0" y1="{HEIGHT}" x2="{WIDTH}" '
        f'y2="{HEIGHT}" stroke="#aaa"/>{"".join(drawn)}{_labels(shown, step)}</svg>'
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
