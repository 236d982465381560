"""Traces and layouts of Plotly as plain values.

All traces are SVG: they print, and they need neither WebGL nor a page that may evaluate text as code. A trace
with thousands of lines is one path with gaps.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

Trace = dict[str, Any]

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    *("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
)
"""The palette of Okabe and Ito (2008), which all kinds of colour vision tell apart."""

GREY = "#b8b8b8"

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon")
"""Both tell series apart, since a print may have no colour."""

STATE_STYLES: Mapping[str, tuple[str, str]] = {
    "COMPLETE": (BLUE, "circle"),
    "PRUNED": (ORANGE, "x-thin-open"),
    "FAIL": (VERMILION, "triangle-down"),
    "RUNNING": (GREEN, "diamond-open"),
    "WAITING": (SKY, "square-open"),
}
"""Colour and symbol of each state of a trial."""

DIGITS = 6
"""Significant digits of numbers in a page."""


def number(value: float | None) -> float | None:
    """Return a number with `DIGITS` digits, and None for what JSON and a plot cannot have."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """Return numbers as `number` does."""
    return [number(value) for value in values]


def label(text: object, length: int = 60) -> str:
    """Return text for a plot, which takes some tags for markup. Long text is cut."""
    words = str(text)
    return escape(words if len(words) <= length else f"{words[: length - 1]}…", quote=False)


def time(moment: datetime | None) -> str | None:
    """Return a time in UTC as Plotly reads it."""
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def points(name: str, x: Sequence[Any], y: Sequence[Any], style: tuple[str, str], **more: Any) -> Trace:
    """Return a trace of markers. `style`: colour and symbol."""
    colour, symbol = style
    marker = {"color": colour, "symbol": symbol, "size": 7, "line": {"width": 1.5, "color": colour}}
    return {
        **{"type": "scatter", "mode": "markers", "name": label(name), "x": x, "y": y},
        **{"marker": {**marker, **more.pop("marker", {})}, **more},
    }


def lines(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> Trace:
    """Return a trace of a line. None in `y` is a gap."""
    line = {"color": colour, "width": 1.5, **more.pop("line", {})}
    return {
        **{"type": "scatter", "mode": "lines", "name": label(name), "x": x, "y": y},
        **{"line": line, "connectgaps": False, **more},
    }


def with_gaps(series: Iterable[tuple[Sequence[Any], Sequence[Any]]]) -> tuple[list[Any], list[Any]]:
    """Return several lines as one, with a gap after each."""
    x: list[Any] = []
    y: list[Any] = []
    for xs, ys in series:
        x += [*xs, None]
        y += [*ys, None]
    return x, y


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": label(title)}, "automargin": True, "zeroline": False, **more}


def layout(x: Mapping[str, Any], y: Mapping[str, Any], height: int = 420, **more: Any) -> dict[str, Any]:
    """Return the layout of a figure with two axes. Its width is that of the page."""
    legend = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}
    return {
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 12, "b": 44},
        "legend": legend,
        "xaxis": x,
        "yaxis": y,
        "hovermode": "closest",
        "font": {"size": 12},
        **more,
    }
