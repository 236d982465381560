"""The result of a benchmark: tables that are printed row by row and kept as JSON beside the raw values.

A result names the command, the version, the date and the machine, so that `benchmarks.page` can put results
on one page and refuse those of different versions.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import hardware

ROOT = Path(__file__).parents[1]

MEASURED_FOLDERS = ("hpo", "models", "data")
"""The code that figures are about. A commit of documents or of results does not make a new version."""

OUTPUT_OPTIONS = ("--json", "--report")
"""Options that say where to write. A result's command leaves them out: they change no figure."""

CELL_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Origin:
    """The version, time and machine of a result. `revision` is None outside a git checkout."""

    command: str
    version: str
    revision: str | None
    date: str
    hardware: str
    libraries: dict[str, str]

    @classmethod
    def here(cls, benchmark: str) -> "Origin":
        """Describe this process, which runs `python -m benchmarks.BENCHMARK` with `sys.argv`."""
        libraries = hardware.libraries()
        return cls(
            command=command(benchmark, sys.argv[1:]),
            version=libraries["hpo"],
            revision=revision(),
            date=datetime.now(UTC).date().isoformat(),
            hardware=hardware.machine(),
            libraries=libraries,
        )

    @property
    def version_name(self) -> str:
        return self.version if self.revision is None else f"{self.version} (revision {self.revision})"


def command(benchmark: str, arguments: Sequence[str]) -> str:
    """Return the command line of a benchmark without its output options."""
    kept: list[str] = []
    follows_output = False
    for word in arguments:
        is_output = word.startswith("--") and word.partition("=")[0] in OUTPUT_OPTIONS
        # `--report` has a file in some benchmarks, and none in others.
        if not is_output and (word.startswith("--") or not follows_output):
            kept.append(word)
        follows_output = word in OUTPUT_OPTIONS
    return shlex.join(("python", "-m", f"benchmarks.{benchmark}", *kept))


def revision() -> str | None:
    """Return the last commit to the measured folders, with `-dirty` if they have uncommitted changes."""
    try:
        commit = _git("log", "-1", "--abbrev=12", "--format=%h", "--", *MEASURED_FOLDERS)
        changes = _git("status", "--porcelain", "--", *MEASURED_FOLDERS)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changes else commit or None


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=ROOT, text=True, capture_output=True, check=True)
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Table:
    """A table of strings. `widths` are the least widths of the first and of the other printed columns."""

    title: str
    heads: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    widths: tuple[int, int] = (CELL_WIDTH, CELL_WIDTH)

    def add(self, *cells: str) -> None:
        """Append a row and print it at once: a benchmark may take minutes for the next one."""
        self.rows.append(cells)
        self._print(cells)

    def print_heads(self) -> None:
        print(f"\n{self.title}")
        self._print(self.heads)

    def markdown(self) -> str:
        return markdown(self.heads, self.rows)

    def _print(self, cells: Sequence[str]) -> None:
        first, others = self.widths
        columns = [cells[0].ljust(first)]
        columns += [
            cell.rjust(max(len(head), others)) for head, cell in zip(self.heads[1:], cells[1:], strict=True)
        ]
        print("  ".join(columns), flush=True)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a benchmark measured.

    `setup` says in one line what was measured. Each figure is the median of `n` runs. `values` are the raw
    figures of each run, in a shape of the benchmark's own. `medians` are the medians in its tables, by name.
    """

    benchmark: str
    setup: str
    n: int
    origin: Origin
    tables: list[Table] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    medians: dict[str, float] = field(default_factory=dict)

    @classmethod
    def begin(cls, benchmark: str, setup: str, n: int) -> "Result":
        """Return an empty result of this process, and print its setup, machine and version."""
        result = cls(benchmark, setup, n, Origin.here(benchmark))
        print(f"{setup}; n = {n}\n{result.origin.hardware}; {hardware.in_words(result.origin.libraries)}")
        return result

    def table(
        self, title: str, heads: Sequence[str], first: int = CELL_WIDTH, others: int = CELL_WIDTH
    ) -> Table:
        """Add a table and print its title and heads. `first` and `others`: least widths of its columns."""
        table = Table(title, heads, widths=(first, others))
        self.tables.append(table)
        table.print_heads()
        return table

    def median(self, name: str, values: Iterable[float]) -> float:
        """Note the median of some values under a name, and return it."""
        self.medians[name] = statistics.median(values)
        return self.medians[name]

    def to_json(self) -> dict[str, Any]:
        raw = {name: getattr(self, name) for name in ("benchmark", "setup", "n", "values", "medians")}
        tables = [{"title": table.title, "heads": table.heads, "rows": table.rows} for table in self.tables]
        return {**raw, "origin": asdict(self.origin), "tables": tables}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Result":
        tables = [Table(**table) for table in raw["tables"]]
        return cls(**{**raw, "origin": Origin(**raw["origin"]), "tables": tables})

    def write(self, path: Path | None) -> None:
        """Write the result as JSON, where `--json` asked for it."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.to_json(), indent=1) + "\n")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the least and the greatest value, as in `1.20 to 3.40`."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
