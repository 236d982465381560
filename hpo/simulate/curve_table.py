"""A table of curves: what every cell of a finite space gave when it was trained, under several seeds.

A file is a gzipped CSV with a row for each epoch: the cell's parameters, then `seed`, `epoch` and the columns
of `COLUMNS`. Lines before the header that begin with '#' say where it comes from.
"""

import csv
import gzip
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import fmean

from hpo.errors import InputError
from hpo.values.space import Cell, Point, SearchSpace, cell

NOT_PARAMETERS = ("seed", "epoch")


@dataclass(frozen=True, slots=True)
class Measured:
    """One epoch of one training: losses are means per example, accuracy a share, seconds those of one device
    that does nothing else."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    evaluation_seconds: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.train_loss) and math.isfinite(self.validation_loss)


COLUMNS = tuple(field.name for field in fields(Measured))

Run = tuple[Measured, ...]
"""The epochs of one training, from the first on. One that diverges has no epoch after that."""


@dataclass(frozen=True)
class CurveTable:
    """`runs`: of each cell, those under the table's seeds, always in the same order."""

    parameters: tuple[str, ...]
    runs: Mapping[Cell, Sequence[Run]]

    @cached_property
    def epochs(self) -> int:
        """How many epochs there are of every run that has not diverged."""
        lasting = [run for runs in self.runs.values() for run in runs if run[-1].is_finite]
        return min(map(len, lasting), default=0)

    def run(self, point: Point, seed: int) -> Run:
        """The run that the seed of a trial picks. Raises KeyError for a cell that is not in the table."""
        runs = self.runs[cell(point)]
        return runs[seed % len(runs)]

    def loss(self, point: Point, epochs: int) -> float:
        """The validation loss of a cell after so many epochs: the mean over its seeds.

        One that has diverged by then counts with the largest finite loss of the table at that epoch.
        """
        return self._losses(epochs)[cell(point)]

    def best(self, epochs: int) -> float:
        """The least `loss` of all cells."""
        return min(self._losses(epochs).values())

    def middle(self, epochs: int) -> float:
        """The median `loss` of all cells."""
        losses = sorted(self._losses(epochs).values())
        half = len(losses) // 2
        return (losses[half] + losses[-half - 1]) / 2

    def regret(self, point: Point, epochs: int) -> float:
        """How far a cell is from the best: 0 is the best, 1 the median of all cells."""
        best = self.best(epochs)
        return (self.loss(point, epochs) - best) / (self.middle(epochs) - best)

    def _losses(self, epochs: int) -> Mapping[Cell, float]:
        if epochs not in self._cache:
            at = {of: [_loss(run, epochs) for run in runs] for of, runs in self.runs.items()}
            worst = max(loss for losses in at.values() for loss in losses if math.isfinite(loss))
            self._cache[epochs] = {
                of: fmean(loss if math.isfinite(loss) else worst for loss in losses)
                for of, losses in at.items()
            }
        return self._cache[epochs]

    @cached_property
    def _cache(self) -> dict[int, Mapping[Cell, float]]:
        return {}

    def check(self, space: SearchSpace, epochs: int, source: str) -> None:
        """Raises `InputError` unless it has curves for that space and trials of so many epochs."""
        if space.cells is None:
            raise InputError(f"{source}: space: a table has an answer for finite spaces only")
        missing = [
            point for index in range(space.cells) if cell(point := space.point_at(index)) not in self.runs
        ]
        if missing:
            first = ", ".join(f"{name} = {value:g}" for name, value in missing[0].items())
            raise InputError(
                f"{source}: space: {len(missing)} of {space.cells} cells are not in the table, the first: "
                f"{first}"
            )
        if epochs > self.epochs:
            raise InputError(f"{source}: search.epochs = {epochs}: the table has {self.epochs}")


def _loss(run: Run, epochs: int) -> float:
    return run[epochs - 1].validation_loss if len(run) >= epochs else math.nan


def write(path: Path, table: CurveTable, comments: Iterable[str]) -> None:
    """The same table and comments make the same file."""
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in comments)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.parameters, *NOT_PARAMETERS, *COLUMNS])
    for of, runs in table.runs.items():
        values = dict(of)
        point = [f"{values[name]:g}" for name in table.parameters]
        for seed, run in enumerate(runs):
            for epoch, one in enumerate(run, 1):
                writer.writerow([*point, seed, epoch, *(f"{getattr(one, column):.5g}" for column in COLUMNS)])
    made = path.with_name(path.name + ".new")
    made.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    made.replace(path)


def read(path: Path) -> CurveTable:
    """Raises `InputError` with one line for what is wrong with the file, or the first row that is."""
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except OSError as error:  # gzip's BadGzipFile is one
        raise InputError(f"{path}: cannot read the table: {error.strerror or error}") from error
    except (EOFError, ValueError) as error:
        raise InputError(f"{path}: not a gzipped table: {error}") from error
    lines = text.splitlines()
    skipped = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rows = csv.DictReader(lines[skipped:])
    header = tuple(rows.fieldnames or ())
    parameters = tuple(name for name in header if name not in (*NOT_PARAMETERS, *COLUMNS))
    if lacking := [name for name in (*NOT_PARAMETERS, *COLUMNS) if name not in header]:
        raise InputError(f"{path}: line {skipped + 1}: the column {lacking[0]!r} is missing")
    found: dict[Cell, dict[int, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        where = f"{path}: line {skipped + rows.line_num}"
        numbers = {name: _number(where, name, row[name]) for name in header}
        of = cell({name: numbers[name] for name in parameters})
        run = found[of][int(numbers["seed"])]
        if numbers["epoch"] != len(run) + 1:
            raise InputError(f"{where}: epoch = {numbers['epoch']:g}: the next of this run is {len(run) + 1}")
        run.append(Measured(**{name: numbers[name] for name in COLUMNS}))
    if not found:
        raise InputError(f"{path}: the table has no rows")
    counts = {of: len(runs) for of, runs in found.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"{path}: some cells have {min(counts.values())} runs, others {max(counts.values())}"
        )
    runs = {of: tuple(tuple(runs[seed]) for seed in sorted(runs)) for of, runs in found.items()}
    return CurveTable(parameters, runs)


def _number(where: str, column: str, value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError:
        raise InputError(f"{where}: {column} = {value!r}: must be a number") from None
