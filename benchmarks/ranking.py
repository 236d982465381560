"""Whether the mini split ranks cells as full training does, and by which of loss and accuracy.

python -m benchmarks.ranking STUDY TABLE FOLDER [--cells N] [--json FILE]

Cells that are spread evenly over the ranks of the table are trained in full, once each. Printed are
Spearman's rank correlations, with intervals of 95% from resampled cells, between what the mini split says
after the epochs of the search and what full training ends with. What is trained already is kept in FOLDER, so
that it can be stopped and called again at any time.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import spearmanr

from benchmarks import hardware
from benchmarks.table import train
from hpo.space import Point, cell
from hpo.spec import StudySpec
from hpo.table import CurveTable, Run, read, write

SEED = 3
"""Unlike those of the table."""

RESAMPLES = 2000


def spread(table: CurveTable, points: list[Point], epochs: int, count: int) -> list[int]:
    """The places of so many points, from the best to the worst, at even distances in rank."""
    ranked = sorted(range(len(points)), key=lambda place: table.loss(points[place], epochs))
    return [ranked[round(step * (len(ranked) - 1) / (count - 1))] for step in range(count)]


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


def trained(spec: StudySpec, points: list[Point], places: list[int], folder: Path) -> dict[int, Run]:
    """The full trainings, by place."""
    folder.mkdir(parents=True, exist_ok=True)
    names, budget, begun = tuple(spec.space.domains), spec.budget("full"), time.perf_counter()
    files = {place: folder / f"{place}.csv.gz" for place in places}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        waiting = {
            processes.submit(train, spec, "full", budget, SEED, [(place, points[place])]): place
            for place, path in files.items()
            if not path.exists()
        }
        for done, future in enumerate(as_completed(waiting), 1):
            place = waiting[future]
            runs = {cell(points[place]): future.result()}
            write(files[place], CurveTable(names, runs), [])
            passed = time.perf_counter() - begun
            print(f"{done} of {len(waiting)} cells, {passed:.0f} s", file=sys.stderr, flush=True)
    return {place: read(path).runs[cell(points[place])][0] for place, path in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file with a finite space")
    parser.add_argument("table", type=Path, help="its table, of `benchmarks.table`")
    parser.add_argument("folder", type=Path, help="for what is trained")
    parser.add_argument("--cells", type=int, default=12, help="that are trained in full (default 12)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    spec, table = StudySpec.load(options.study), read(options.table)
    epochs = spec.search.epochs
    table.check(spec.space, epochs, str(options.study))
    points = [spec.space.point_at(place) for place in range(spec.space.cells or 0)]
    places = spread(table, points, epochs, options.cells)
    runs = trained(spec, points, places, options.folder)

    rows = [(points[place], mini(table, points[place], epochs), full(runs[place])) for place in places]
    print(f"{hardware.line()}; {spec.name}, {len(rows)} cells\n")
    names = list(spec.space.domains)
    print("".join(f"{name:>14}" for name in names) + f"{'mini loss':>12}{'accuracy':>10}{'full loss':>12}")
    for point, (loss, accuracy), (full_loss, full_accuracy) in rows:
        cells = "".join(f"{point[name]:>14g}" for name in names)
        print(f"{cells}{loss:12.4f}{accuracy:10.2%}{full_loss:12.4f}{full_accuracy:10.2%}")
    columns = {
        ("mini loss", "full loss"): ([m[0] for _, m, _ in rows], [f[0] for _, _, f in rows]),
        ("mini accuracy", "full accuracy"): ([m[1] for _, m, _ in rows], [f[1] for _, _, f in rows]),
        ("mini loss", "full accuracy"): ([-m[0] for _, m, _ in rows], [f[1] for _, _, f in rows]),
        ("mini accuracy", "full loss"): ([-m[1] for _, m, _ in rows], [f[0] for _, _, f in rows]),
    }
    found = {}
    for (before, after), (a, b) in columns.items():
        middle, low, high = correlation(a, b)
        print(f"{before} and {after}: {middle:.2f} ({low:.2f} to {high:.2f})")
        found[f"{before}, {after}"] = [middle, low, high]
    if options.json:
        figures = {"rows": rows, "correlations": found, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
