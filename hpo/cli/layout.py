"""Tables as text that fits the terminal. A narrow terminal gets fewer columns or blocks, never a cut cell."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.cells import cell_len

GAP = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and the rows. The first cell of a row names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def constant_columns(self) -> list[int]:
        """Return the indices of the columns with one value in all rows, if there are several rows."""
        if len(self.rows) < 2:
            return []
        return [i for i in range(1, len(self.columns)) if len({row[i] for row in self.rows}) == 1]

    def select(self, indices: Sequence[int]) -> "Table":
        """Return the table with some of its columns."""
        rows = [[row[i] for i in indices] for row in self.rows]
        return Table(self.title, [self.columns[i] for i in indices], rows)


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a text is shown. `width`: columns of the terminal, None for a pipe. `bold`: is bold available."""

    width: int | None = None
    bold: bool = False

    @classmethod
    def of_stdout(cls) -> "Screen":
        """Return the terminal or the pipe behind stdout."""
        if not sys.stdout.isatty():
            return cls()
        return cls(shutil.get_terminal_size().columns, os.environ.get("TERM", "dumb") != "dumb")

    def wrap(self, text: str) -> str:
        """Return `text` broken between words."""
        if self.width is None:
            return text
        return textwrap.fill(text, self.width, break_long_words=False, break_on_hyphens=False)

    def join(self, items: Sequence[str]) -> str:
        """Return the items separated by commas, broken between items."""
        lines = [items[0]]
        for item in items[1:]:
            longer = f"{lines[-1]}, {item}"
            if self._fits([f"{longer},"]):
                lines[-1] = longer
            else:
                lines[-1] += ","
                lines.append(GAP + item)
        return "\n".join(lines)

    def show(self, table: Table) -> str:
        """Return the table as a grid, or as a block for each row where a grid is too wide.

        Columns with one value in all rows move to a line below the grid first.
        """
        title = self.wrap(table.title)
        lines = _grid(table)
        if not self._fits(lines):
            lines = self._short_grid(table)
        if not self._fits(lines):
            lines = [self.join(_named_cells(table.columns, row)) for row in table.rows]
        return "\n".join([click.style(title, bold=True) if self.bold else title, "", *lines])

    def _short_grid(self, table: Table) -> list[str]:
        constant = table.constant_columns()
        lines = _grid(table.select([i for i in range(len(table.columns)) if i not in constant]))
        if constant:
            shared = table.select(constant)
            first, *rest = _named_cells(shared.columns, shared.rows[0])
            lines += self.join([f"in all rows: {first}", *rest]).splitlines()
        return lines

    def _fits(self, lines: Sequence[str]) -> bool:
        return self.width is None or all(cell_len(line) <= self.width for line in lines)


def _named_cells(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    return [f"{name} {cell}".strip() for name, cell in zip(columns, row, strict=True)]


def _grid(table: Table) -> list[str]:
    """Return the lines of the header, a rule, and a line for each row."""
    widths, headers = [], []
    for index, name in enumerate(table.columns):
        widest_cell = max((cell_len(row[index]) for row in table.rows), default=0)
        words = name.split()
        header = textwrap.wrap(name, max([widest_cell, *map(len, words)])) if words else [""]
        headers.append(header)
        widths.append(max(widest_cell, *map(cell_len, header)))
    height = max(map(len, headers))
    padded = [[""] * (height - len(header)) + header for header in headers]
    return [
        *(_line(cells, widths) for cells in zip(*padded, strict=True)),
        "─" * (sum(widths) + len(GAP) * (len(widths) - 1)),
        *(_line(row, widths) for row in table.rows),
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells in one line, the first to the left and the others to the right of their columns."""
    spaces = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
    first, *rest = zip(cells, spaces, strict=True)
    return GAP.join(["".join(first), *(space + cell for cell, space in rest)]).rstrip()
