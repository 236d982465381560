"""Test whether the mini split ranks cells as full training does, by loss and by accuracy.

Trained in full, once each, are cells spread evenly over the ranks of a curve table, and its best cells. Cells
that FILE already holds are not trained again, so the command can be stopped and called again. Printed are:

- Spearman's rank correlations over the spread cells, with 95% intervals from resampled cells, between the
  mini split after the epochs of the search and the end of full training;
- the least full-training loss among the best k cells of the mini split, for k = 1, 2, 3, ...
"""

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks import hardware
from benchmarks.command import parser
from benchmarks.results import Result
from benchmarks.table import train
from hpo.simulate.curve_table import CurveTable, Run, read, write
from hpo.spec.study_spec import StudySpec
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS
from hpo.values.space import Point, cell

SEED = 3
"""A seed that curve tables do not use (they have 0 to 2)."""

SPREAD_CELLS, TOP_CELLS = 12, 8
"""How many cells are spread over the ranks, and how many of the best are trained besides."""

RESAMPLES = 2000

Figures = dict[str, Any]


def ranked(table: CurveTable, spec: StudySpec) -> list[int]:
    """Return the numbers of all cells of the space, the best first."""
    points = [spec.space.point_at(number) for number in range(spec.space.cells or 0)]
    return sorted(range(len(points)), key=lambda number: table.cost(points[number], spec.search.epochs))


def spread_cells(best: list[int]) -> list[int]:
    """Return `SPREAD_CELLS` cells at even distances, the first and the last included."""
    return [best[round(step * (len(best) - 1) / (SPREAD_CELLS - 1))] for step in range(SPREAD_CELLS)]


def correlation(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Return Spearman's correlation and the ends of its 95% interval."""
    pairs, rng = np.array([a, b]), np.random.default_rng(0)
    samples = [pairs[:, rng.integers(len(a), size=len(a))] for _ in range(RESAMPLES)]
    resampled = [spearmanr(*pair).statistic for pair in samples if np.ptp(pair, axis=1).all()]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(spearmanr(*pairs).statistic), float(low), float(high)


def mini_metrics(table: CurveTable, point: Point, epochs: int) -> tuple[float, float]:
    """Return (loss, accuracy) of a cell on the mini split, as means over its runs."""
    runs = [run[:epochs][-1] for run in table.runs[cell(point)]]
    return table.cost(point, epochs), fmean(run.metrics[VALIDATION_ACCURACY] for run in runs)


def full_metrics(run: Run) -> tuple[float, float]:
    """Return (loss, accuracy) of the epoch with the least loss, whose weights full training keeps."""
    best = min(run, key=lambda epoch: epoch.metrics[VALIDATION_LOSS])
    return best.metrics[VALIDATION_LOSS], best.metrics[VALIDATION_ACCURACY]


def figures(spec: StudySpec, table: CurveTable, trained: CurveTable) -> Figures:
    """Compare the cells of `trained` with their ranks in `table`. All spread cells must be trained."""
    epochs, best = spec.search.epochs, ranked(table, spec)
    points = {
        number: spec.space.point_at(number)
        for number in best
        if cell(spec.space.point_at(number)) in trained.runs
    }
    rows = {
        number: (*mini_metrics(table, point, epochs), *full_metrics(trained.runs[cell(point)][0]))
        for number, point in points.items()
    }
    chosen = [rows[number] for number in spread_cells(best)]
    loss, accuracy, full_loss, full_accuracy = (list(column) for column in zip(*chosen, strict=True))
    pairs = {
        "loss and loss": (loss, full_loss),
        "accuracy and accuracy": (accuracy, full_accuracy),
        "loss and accuracy": (loss, [-value for value in full_accuracy]),
        "accuracy and loss": (accuracy, [-value for value in full_loss]),
    }
    count = next((rank for rank, number in enumerate(best) if number not in rows), len(best))
    return {
        "rows": [
            {"rank": best.index(number) + 1, **points[number], "mini": row[:2], "full": row[2:]}
            for number, row in rows.items()
        ],
        "correlations": {name: correlation(*pair) for name, pair in pairs.items()},
        "top": list(accumulate((rows[number][2] for number in best[:count]), min)),
    }


def add_tables(result: Result, values: Figures) -> None:
    """Add the three tables of `figures` to a result."""
    names = [name for name in values["rows"][0] if name not in ("rank", "mini", "full")]
    heads = ("rank", *names, "mini loss", "accuracy", "full loss", "accuracy")
    table = result.table("Cells on the mini split and in full training", heads, first=6)
    for row in values["rows"]:
        (loss, accuracy), (full_loss, full_accuracy) = row["mini"], row["full"]
        metrics = (f"{loss:.4f}", f"{accuracy:.2%}", f"{full_loss:.4f}", f"{full_accuracy:.2%}")
        table.add(str(row["rank"]), *(f"{row[name]:g}" for name in names), *metrics)
    title = f"Rank correlation (Spearman) over {SPREAD_CELLS} spread cells"
    table = result.table(title, ("mini and full", "correlation", "95% interval"), first=24)
    for name, (value, low, high) in values["correlations"].items():
        table.add(name, f"{value:.2f}", f"{low:.2f} to {high:.2f}")
        result.medians[name] = value
    table = result.table(
        "Least full loss among the best k cells of the mini split", ("k", "full loss"), first=6
    )
    for k, loss in enumerate(values["top"], 1):
        table.add(str(k), f"{loss:.4f}")


def train_missing(spec: StudySpec, numbers: Sequence[int], file: Path, comments: list[str]) -> CurveTable:
    """Train in full the cells that the table in `file` lacks, add them to it, and return the table."""
    names, start = tuple(spec.space.domains), time.perf_counter()
    runs = dict(read(file).runs) if file.exists() else {}
    points = {number: spec.space.point_at(number) for number in numbers}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        futures = {
            processes.submit(train, spec, "full", spec.budget("full"), SEED, [(number, point)]): point
            for number, point in points.items()
            if cell(point) not in runs
        }
        for done, future in enumerate(as_completed(futures), 1):
            runs[cell(futures[future])] = future.result()
            write(file, CurveTable(names, runs), comments)
            seconds = time.perf_counter() - start
            print(f"{done} of {len(futures)} cells, {seconds:.0f} s", file=sys.stderr, flush=True)
    return CurveTable(names, runs)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("study", type=Path, help="study file with a finite space")
    options.add_argument("table", type=Path, help="curve table of the space, by `benchmarks.table`")
    options.add_argument("file", type=Path, help="table of full trainings, NAME.csv.gz")
    arguments = options.parse_args()
    spec, table = StudySpec.load(arguments.study), read(arguments.table)
    table.check(spec.space, spec.search.epochs, str(arguments.study))
    best = ranked(table, spec)
    numbers = [*spread_cells(best), *best[:TOP_CELLS]]
    comments = [
        f"python -m benchmarks.ranking {arguments.study} {arguments.table} {arguments.file}",
        f"full training of {spec.model.name} on {spec.data.name}",
        hardware.line(),
    ]
    result = Result.begin("ranking", f"{spec.name}: {spec.model.name} on {spec.data.name}", 1)
    values = figures(spec, table, train_missing(spec, numbers, arguments.file, comments))
    add_tables(result, values)
    result.values.update(values)
    result.write(arguments.json)


if __name__ == "__main__":
    main()
