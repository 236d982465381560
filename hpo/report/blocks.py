"""What a section of a report consists of: plain values without any markup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph of sentences."""

    kind: ClassVar[str] = "text"
    sentences: Sequence[str]


@dataclass(frozen=True, slots=True)
class Warnings:
    """Sentences that each say which assumption fails, and what to do."""

    kind: ClassVar[str] = "warnings"
    sentences: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Cells are text. A column of numbers alone is aligned to the right."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of Plotly. `caption` describes the figure, also for readers who cannot see it.

    Numbers in `traces` are finite or None. Text in them is escaped: see `hpo.report.plots`.
    """

    kind: ClassVar[str] = "figure"
    caption: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Small figures that lie side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy. `title` is a sentence, `folded`: whether they are hidden until asked for."""

    kind: ClassVar[str] = "code"
    title: str
    lines: Sequence[str]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a URI with its data."""

    kind: ClassVar[str] = "picture"
    caption: str
    uri: str


Block = Text | Warnings | Table | Figure | Figures | Code | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report. `anchor` is the end of its link."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """A page: a title, a line below the title, and the sections."""

    title: str
    subtitle: str
    sections: Sequence[Section]
