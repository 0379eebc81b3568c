"""What all pages share: the template environment, links to the other pages, reason codes that explain themselves.

Belongs here: the frame of a page. Does not: what a page shows. A page has no date in it, so that the same inputs give the
same bytes; the index (`reports.index`) tells when each page was written.
"""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ct_assets import __version__
from ct_assets.reasons import UnknownReasonError, reason


def template(name: str) -> jinja2.Template:
    """Return a page's template; `up` leads from the page's folder to `reports/`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = metric_text
    environment.filters["reason"] = reason_text
    environment.globals.update(version=__version__, up="")
    return environment.get_template(name)


def metric_text(metric: dict[str, Any] | None) -> str:
    """Return a metric with its interval, as everywhere on the pages."""
    if metric is None or metric.get("value") is None:
        return "–"
    text = f"{metric['value']:.3f}"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" ({metric['low']:.3f} to {metric['high']:.3f})"
    return text


def reason_text(code: str) -> Markup:
    """Return a reason code that tells its meaning and remedy where the pointer rests on it."""
    try:
        known = reason(code)
    except UnknownReasonError:
        return Markup('<abbr title="a condition of this site">{}</abbr>').format(code)
    return Markup('<abbr title="{}">{}</abbr>').format(f"{known.meaning} {known.mend}".strip(), code)


def nav(up: str) -> Markup:
    """Return the links at the top of a page that is not made from a template; `up` leads to `reports/`."""
    return Markup(
        '<nav><a href="{0}index.html">All reports</a> &nbsp; <a href="{0}../viewer/">Gallery of cases</a></nav>'
    ).format(up)


def footer(about: str = "") -> Markup:
    """Return the last line of a page that is not made from a template."""
    return Markup("<footer class=note>{} ct_assets {}. For research; not for diagnosis.</footer>").format(
        escape(about), __version__
    )
