"""Whether the mini split ranks cells as full training does, and by which of loss and accuracy.

python -m benchmarks.ranking STUDY TABLE FILE

Trained in full, once each, are cells that are spread evenly over the ranks of the table, and the best ones of
it. Those that FILE, a table too, has not yet are trained and added, so that it can be stopped and called
again at any time. Printed are Spearman's rank correlations over the spread cells, with intervals of 95% from
resampled cells, between what the mini split says after the epochs of the search and what full training ends
with; and the least loss of full training among the best cells of the mini split, by how many are trained.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks import hardware
from benchmarks.table import train
from hpo.simulate.curve_table import CurveTable, Run, read, write
from hpo.spec.study_spec import StudySpec
from hpo.values.space import Point, cell

SEED = 3
"""Unlike those of the table."""

CELLS, TOP = 12, 8
"""How many are spread over the ranks, and how many are the best ones."""

RESAMPLES = 2000

EpochMetrics = dict[str, Any]


def ranked(table: CurveTable, spec: StudySpec) -> list[int]:
    """The places of all cells of the space, the best first."""
    points = [spec.space.point_at(place) for place in range(spec.space.cells or 0)]
    return sorted(range(len(points)), key=lambda place: table.loss(points[place], spec.search.epochs))


def spread(best: list[int]) -> list[int]:
    """`CELLS` of them, from the first to the last, at even distances."""
    return [best[round(step * (len(best) - 1) / (CELLS - 1))] for step in range(CELLS)]


def correlation(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Spearman's, and the ends of its interval."""
    pairs, rng = np.array([a, b]), np.random.default_rng(0)
    drawn = [pairs[:, rng.integers(len(a), size=len(a))] for _ in range(RESAMPLES)]
    found = [spearmanr(*pair).statistic for pair in drawn if np.ptp(pair, axis=1).all()]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(spearmanr(*pairs).statistic), float(low), float(high)


def mini(table: CurveTable, point: Point, epochs: int) -> tuple[float, float]:
    """(loss, accuracy), the means over the runs."""
    runs = [run[:epochs][-1] for run in table.runs[cell(point)]]
    return table.loss(point, epochs), fmean(run.validation_accuracy for run in runs)


def full(run: Run) -> tuple[float, float]:
    """(loss, accuracy) of the epoch that counts."""
    best = min(run, key=lambda one: one.validation_loss)
    return best.validation_loss, best.validation_accuracy


def figures(spec: StudySpec, table: CurveTable, trained: CurveTable) -> EpochMetrics:
    """Of the cells that are trained in full, among which the spread ones must be."""
    epochs, best = spec.search.epochs, ranked(table, spec)
    points = {
        place: spec.space.point_at(place)
        for place in best
        if cell(spec.space.point_at(place)) in trained.runs
    }
    rows = {
        place: (*mini(table, point, epochs), *full(trained.runs[cell(point)][0]))
        for place, point in points.items()
    }
    chosen = [rows[place] for place in spread(best)]
    loss, accuracy, full_loss, full_accuracy = (list(column) for column in zip(*chosen, strict=True))
    pairs = {
        "loss and loss": (loss, full_loss),
        "accuracy and accuracy": (accuracy, full_accuracy),
        "loss and accuracy": (loss, [-one for one in full_accuracy]),
        "accuracy and loss": (accuracy, [-one for one in full_loss]),
    }
    count = next((rank for rank, place in enumerate(best) if place not in rows), len(best))
    return {
        "rows": [
            {"rank": best.index(place) + 1, **points[place], "mini": row[:2], "full": row[2:]}
            for place, row in rows.items()
        ],
        "correlations": {words: correlation(*pair) for words, pair in pairs.items()},
        "top": list(accumulate((rows[place][2] for place in best[:count]), min)),
    }


def lines(found: EpochMetrics) -> Iterator[str]:
    names = [name for name in found["rows"][0] if name not in ("rank", "mini", "full")]
    heads = "".join(f"{name:>14}" for name in names)
    yield f"{'rank':>5}{heads}{'mini loss':>12}{'accuracy':>10}{'full loss':>12}{'accuracy':>10}"
    for row in found["rows"]:
        cells = "".join(f"{row[name]:>14g}" for name in names)
        (loss, accuracy), (full_loss, full_accuracy) = row["mini"], row["full"]
        yield f"{row['rank']:5}{cells}{loss:12.4f}{accuracy:10.2%}{full_loss:12.4f}{full_accuracy:10.2%}"
    yield f"\nrank correlation over {CELLS} spread cells, mini and full"
    for words, (middle, low, high) in found["correlations"].items():
        yield f"{words:24}{middle:6.2f} ({low:.2f} to {high:.2f})"
    yield "\nleast full loss of the best cells of the mini split, by how many are trained"
    yield " ".join(f"{loss:.4f}" for loss in found["top"])


def added(spec: StudySpec, places: list[int], file: Path, comments: list[str]) -> CurveTable:
    """The table in that file, in which the cells at these places are trained now if they are not yet."""
    names, begun = tuple(spec.space.domains), time.perf_counter()
    runs = dict(read(file).runs) if file.exists() else {}
    points = {place: spec.space.point_at(place) for place in places}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        waiting = {
            processes.submit(train, spec, "full", spec.budget("full"), SEED, [(place, point)]): point
            for place, point in points.items()
            if cell(point) not in runs
        }
        for done, future in enumerate(as_completed(waiting), 1):
            runs[cell(waiting[future])] = future.result()
            write(file, CurveTable(names, runs), comments)
            passed = time.perf_counter() - begun
            print(f"{done} of {len(waiting)} cells, {passed:.0f} s", file=sys.stderr, flush=True)
    return CurveTable(names, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file with a finite space")
    parser.add_argument("table", type=Path, help="its table, of `benchmarks.table`")
    parser.add_argument("file", type=Path, help="the table of full trainings, NAME.csv.gz")
    options = parser.parse_args()
    spec, table = StudySpec.load(options.study), read(options.table)
    table.check(spec.space, spec.search.epochs, str(options.study))
    best = ranked(table, spec)
    places = [*spread(best), *best[:TOP]]
    comments = [
        f"python -m benchmarks.ranking {options.study} {options.table} {options.file}",
        f"full training of {spec.model.name} on {spec.data.name}",
        hardware.line(),
    ]
    trained = added(spec, places, options.file, comments)
    print(f"{hardware.line()}; {spec.name}\n")
    print("\n".join(lines(figures(spec, table, trained))))


if __name__ == "__main__":
    main()
