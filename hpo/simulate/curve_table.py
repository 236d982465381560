"""Tables of learning curves: several runs, under different seeds, of every cell of a finite space.

A file is a gzipped CSV with a row for each epoch: the parameters of the cell, then `seed`, `epoch` and the
columns of `COLUMNS`. In a table of free parameters, the metrics of the function take the place of the metrics
there, and the seconds may be left out. A parameter that does not apply to a cell is left empty, a boolean is
`true` or `false`. Lines before the header that begin with '#' state the origin of the table.
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
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS, Metrics, are_finite
from hpo.values.objective import LOSS, Objective
from hpo.values.parameters import BUILT_IN, Kind
from hpo.values.space import Cell, Point, SearchSpace, Value, cell
from hpo.values.vocabulary import Vocabulary

NOT_PARAMETERS = ("seed", "epoch")

METRICS = (TRAIN_LOSS, VALIDATION_LOSS, VALIDATION_ACCURACY)


@dataclass(frozen=True, slots=True)
class Measured:
    """One epoch of one run.

    Losses are means per example, the accuracy is a share, and the seconds are those of an otherwise idle
    device.
    """

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    evaluation_seconds: float

    @property
    def is_finite(self) -> bool:
        """Return whether all metrics are finite."""
        return are_finite(self.metrics)

    @property
    def metrics(self) -> Metrics:
        """Return the metrics by name."""
        return {name: getattr(self, name) for name in METRICS}


COLUMNS = tuple(field.name for field in fields(Measured))

SECONDS = ("seconds", "evaluation_seconds")


@dataclass(frozen=True, slots=True)
class Reported:
    """One epoch of one run of a training function: the metrics by name, and the seconds of the epoch."""

    metrics: Metrics
    seconds: float = 1.0
    evaluation_seconds: float = 0.0

    @property
    def is_finite(self) -> bool:
        """Return whether all metrics are finite."""
        return are_finite(self.metrics)


Run = tuple[Measured | Reported, ...]
"""The epochs of one training, from the first. A run that diverges ends with that epoch."""


@dataclass(frozen=True)
class CurveTable:
    """The runs of each cell, in the order of the seeds of the table.

    A point has the runs of the cell with the same parameters, where each that is left out has its default in
    the `vocabulary`.
    """

    parameters: tuple[str, ...]
    runs: Mapping[Cell, Sequence[Run]]
    vocabulary: Vocabulary = BUILT_IN

    @cached_property
    def epochs(self) -> int:
        """Return the number of epochs that every run has unless it diverged."""
        finite = [run for runs in self.runs.values() for run in runs if run[-1].is_finite]
        return min(map(len, finite), default=0)

    def run(self, point: Point, seed: int) -> Run:
        """Return the run of a cell that the seed of a trial selects. Raises `KeyError` for an unknown
        cell."""
        runs = self.runs[self._cells[self._complete(point)]]
        return runs[seed % len(runs)]

    def cost(self, point: Point, epochs: int, objective: Objective = LOSS) -> float:
        """Return the mean cost of the objective of a cell over its seeds, after `epochs` epochs.

        A run that has diverged counts with the largest finite cost of the table at that epoch.
        """
        return self._costs(epochs, objective)[self._cells[self._complete(point)]]

    def best(self, epochs: int, objective: Objective = LOSS) -> float:
        """Return the smallest `cost` of all cells."""
        return min(self._costs(epochs, objective).values())

    def median(self, epochs: int, objective: Objective = LOSS) -> float:
        """Return the median `cost` of all cells."""
        costs = sorted(self._costs(epochs, objective).values())
        half = len(costs) // 2
        return (costs[half] + costs[-half - 1]) / 2

    def regret(self, point: Point, epochs: int, objective: Objective = LOSS) -> float:
        """Return the regret of a cell: 0 for the best cell, 1 for the median cost of all cells."""
        best = self.best(epochs, objective)
        return (self.cost(point, epochs, objective) - best) / (self.median(epochs, objective) - best)

    def _costs(self, epochs: int, objective: Objective) -> Mapping[Cell, float]:
        if (epochs, objective) not in self._cache:
            table = {key: [_cost(run, epochs, objective) for run in runs] for key, runs in self.runs.items()}
            worst = max(cost for costs in table.values() for cost in costs if math.isfinite(cost))
            self._cache[epochs, objective] = {
                key: fmean(cost if math.isfinite(cost) else worst for cost in costs)
                for key, costs in table.items()
            }
        return self._cache[epochs, objective]

    @cached_property
    def _cells(self) -> Mapping[Cell, Cell]:
        return {self._complete(dict(key)): key for key in self.runs}

    @cached_property
    def _cache(self) -> dict[tuple[int, Objective], Mapping[Cell, float]]:
        return {}

    def _complete(self, point: Mapping[str, Value]) -> Cell:
        return cell(self.vocabulary.with_defaults(point))

    def check(self, space: SearchSpace, epochs: int, source: str, objective: Objective = LOSS) -> None:
        """Raise `InputError` unless the table has the objective, and `epochs` epochs of each cell of `space`.

        `source` names the study file in messages.
        """
        if objective.key not in next(iter(self.runs.values()))[0][0].metrics:
            raise InputError(f"{source}: objective.metric = {objective.name!r}: the table does not have it")
        if space.cells is None:
            raise InputError(f"{source}: space: a table has an answer for finite spaces only")
        missing = [
            point
            for index in range(space.cells)
            if self._complete(point := space.point_at(index)) not in self._cells
        ]
        if missing:
            first = ", ".join(f"{name} = {_text(value)}" for name, value in missing[0].items())
            raise InputError(
                f"{source}: space: {len(missing)} of {space.cells} cells are not in the table, the first: "
                f"{first}"
            )
        if epochs > self.epochs:
            raise InputError(f"{source}: search.epochs = {epochs}: the table has {self.epochs}")


def _cost(run: Run, epochs: int, objective: Objective) -> float:
    return objective.cost_of(run[epochs - 1].metrics) if len(run) >= epochs else math.nan


def write(path: Path, table: CurveTable, comments: Iterable[str]) -> None:
    """Write a table. The same table and comments make the same bytes."""
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in comments)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.parameters, *NOT_PARAMETERS, *COLUMNS])
    for key, runs in table.runs.items():
        values = dict(key)
        point = [_text(values[name]) if name in values else "" for name in table.parameters]
        for seed, run in enumerate(runs):
            for epoch, measured in enumerate(run, 1):
                figures = [f"{getattr(measured, column):.5g}" for column in COLUMNS]
                writer.writerow([*point, seed, epoch, *figures])
    new = path.with_name(path.name + ".new")
    new.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    new.replace(path)


def read(path: Path, vocabulary: Vocabulary = BUILT_IN) -> CurveTable:
    """Read a table of the parameters of this vocabulary.

    Raises `InputError` with one line about the file or its first wrong row.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except OSError as error:  # includes gzip.BadGzipFile
        raise InputError(f"{path}: cannot read the table: {error.strerror or error}") from error
    except (EOFError, ValueError) as error:
        raise InputError(f"{path}: not a gzipped table: {error}") from error
    lines = text.splitlines()
    skipped = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.DictReader(lines[skipped:])
    rows = [(f"{path}: line {skipped + reader.line_num}", row) for row in reader]
    header = tuple(reader.fieldnames or ())
    columns = COLUMNS if vocabulary.parameters else _free_columns(header)
    if missing := [name for name in (*NOT_PARAMETERS, *columns) if name not in header]:
        raise InputError(f"{path}: line {skipped + 1}: the column {missing[0]!r} is missing")
    parameters = tuple(name for name in header if name not in (*NOT_PARAMETERS, *columns))
    cells: dict[Cell, dict[int, list[Measured | Reported]]] = defaultdict(lambda: defaultdict(list))
    kinds = {
        name: _kind(name, [row[name] for _, row in rows if row[name]], vocabulary) for name in parameters
    }
    for location, row in rows:
        numbers = {name: _number(location, name, row[name]) for name in (*NOT_PARAMETERS, *columns)}
        key = cell({name: _value(location, name, kinds[name], row[name]) for name in parameters if row[name]})
        run = cells[key][int(numbers["seed"])]
        if numbers["epoch"] != len(run) + 1:
            raise InputError(
                f"{location}: epoch = {numbers['epoch']:g}: the next of this run is {len(run) + 1}"
            )
        figures = {name: numbers[name] for name in columns}
        run.append(Measured(**figures) if vocabulary.parameters else _reported(figures))
    if not cells:
        raise InputError(f"{path}: the table has no rows")
    counts = {key: len(runs) for key, runs in cells.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"{path}: some cells have {min(counts.values())} runs, others {max(counts.values())}"
        )
    runs = {key: tuple(tuple(runs[seed]) for seed in sorted(runs)) for key, runs in cells.items()}
    return CurveTable(parameters, runs, vocabulary)


def _free_columns(header: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of metrics and seconds: those after `epoch`."""
    return tuple(header[header.index("epoch") + 1 :]) if "epoch" in header else ()


def _reported(figures: Mapping[str, float]) -> Reported:
    seconds = {name: figures[name] for name in SECONDS if name in figures}
    return Reported({name: figures[name] for name in figures if name not in SECONDS}, **seconds)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _kind(name: str, texts: Sequence[str], vocabulary: Vocabulary) -> Kind:
    """Return the kind of a parameter: of an open name, the first that all values have."""
    try:
        known = vocabulary.parameter_of(name, "number").kind
    except KeyError:  # the check of the table against a space tells
        return "number"
    if not vocabulary.is_open(name) or all(map(_is_number, texts)):
        return known
    return "boolean" if set(texts) <= {"true", "false"} else "text"


def _value(location: str, name: str, kind: Kind, text: str) -> Value:
    if kind == "text":
        return text
    if kind != "boolean":
        return _number(location, name, text)
    if text not in ("true", "false"):
        raise InputError(f"{location}: {name} = {text!r}: must be true or false")
    return text == "true"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(location: str, column: str, value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError:
        raise InputError(f"{location}: {column} = {value!r}: must be a number") from None
