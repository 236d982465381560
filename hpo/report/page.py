"""A report as one HTML page, which asks no other host for anything."""

import hashlib
import json
from base64 import b64encode
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from hpo.report.blocks import Figure, Report

BASE_POLICY = (
    "default-src 'none'",
    "img-src data: blob:",
    "style-src 'unsafe-inline'",  # Plotly sets styles of elements
    "connect-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
)
"""What a page may do. It runs no script but its own two, and reaches no network."""


def render(report: Report, plotly: str | None = None) -> str:
    """Return a page as HTML.

    `plotly`: the address of Plotly's script on the same server. None: the page holds the script, about 5 MB.
    All text is escaped: what stands in a database is not trusted.
    """
    own = _read("page.js")
    inlined = None if plotly is not None else plotly_script()
    sources = [_hash(script) for script in (own, inlined) if script is not None]
    if plotly is not None:
        sources.append("'self'")
    policy = "; ".join([*BASE_POLICY, f"script-src {' '.join(sources)}"])
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            policy=policy,
            style=Markup(_read("page.css")),
            own=Markup(own),
            plotly=plotly,
            inlined=None if inlined is None else Markup(inlined),
        )
    )


@cache
def plotly_script() -> str:
    """Return Plotly's script."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def figure_json(figure: Figure) -> Markup:
    """Return a figure as JSON that may stand in a script element: it has no `<`, `>` and `&`."""
    text = json.dumps(
        {"data": figure.traces, "layout": figure.layout}, allow_nan=False, separators=(",", ":")
    )
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def is_number(cell: str) -> bool:
    """Return whether a cell of a table holds a number, with or without an interval."""
    first = cell.split(" ")[0].rstrip("%")
    try:
        float(first)
    except ValueError:
        return first in ("-", "")
    return True


def numeric_columns(rows: list[list[str]]) -> list[bool]:
    """Return, for each column of a table, whether all its cells are numbers."""
    return [all(map(is_number, column)) for column in zip(*rows, strict=True)]


def _hash(script: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (files("hpo.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hpo.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure_json": figure_json, "numeric_columns": numeric_columns}
    return environment
