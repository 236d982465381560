"""Which sampler and pruner find the best cell with the least training: searches replayed on tables of curves.

python -m benchmarks.regret [--tables FILES] [--seeds N] [--most N] [--report FOLDER] [--json FILE] [--quick]

Each policy is a search by the real claim, sampler, pruner and promotion, in simulated time. Its regret is
that of its best trial: how far the mean loss of that cell, over all its runs, is from the least of all cells,
as a share of how far the median cell is. `search.md` with its pictures goes into the folder of --report.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy.stats import spearmanr

from benchmarks import hardware, ranking, search_page
from benchmarks.command import LENET
from benchmarks.policies import (
    COST,
    DEFAULT,
    EPOCHS,
    OPTUNAS,
    PAPER,
    POLICIES,
    TRIALS,
    TWICE,
    Policy,
    by_optuna,
    pool,
    replays,
    start,
)
from hpo.search.samplers.distributions import distributions
from hpo.simulate.curve_table import read
from hpo.simulate.regret import Axis, Mean, regrets
from hpo.simulate.replay import Replay
from hpo.spec.study_spec import StudySpec
from hpo.values.space import cell

TABLES = sorted((Path(__file__).parent / "tables").glob("*.csv.gz"))
FULL = Path(__file__).parent / "tables" / "full"
"""Tables of full trainings, by `benchmarks.ranking`."""

SPENT = (COST // 4, COST // 2, COST, 2 * COST)
STEPS = 40
"""Points of a curve over device seconds."""

EpochMetrics = dict[str, Any]
Searches = dict[Policy, Callable[[], list[Replay]]]


def regret_of(path: Path, found: Sequence[Replay], axis: Axis, spent: Sequence[float]) -> EpochMetrics:
    """Mean and standard error of the regret, for each of `spent`."""
    table = read(path)
    columns = zip(*(regrets(one, table, EPOCHS, axis, spent) for one in found), strict=True)
    means = [Mean.of(column) for column in columns]
    return {
        "spent": list(spent),
        "mean": [mean.mean for mean in means],
        "error": [mean.error for mean in means],
    }


def in_cells(at: EpochMetrics) -> str:
    pairs = zip(at["mean"], at["error"], strict=True)
    return "".join(f"{mean:9.4f} ±{error:.4f}" for mean, error in pairs)


def end(found: Sequence[Replay], axis: Axis) -> float:
    """What a search has spent in the end, on average."""
    return fmean(float(getattr(one.moments[-1], axis)) for one in found)


# Each of these prints a part of the figures, and gives it


def ranks(by_epoch: Sequence[Sequence[float]], places: Collection[int]) -> list[float]:
    """How far the ranks of these cells after each epoch agree with the last: Spearman's correlation."""
    at = [[losses[place] for place in places] for losses in by_epoch]
    return [float(spearmanr(early, at[-1]).statistic) for early in at]


def of_cells(path: Path) -> EpochMetrics:
    """What the table itself says."""
    table, space = read(path), StudySpec.load(LENET).space
    points = [space.point_at(place) for place in range(space.cells or 0)]
    losses = [table.loss(point, EPOCHS) for point in points]
    best = sorted(range(len(points)), key=losses.__getitem__)
    runs = [[run[:EPOCHS][-1].validation_loss for run in table.runs[cell(point)]] for point in points]
    # Who knew one run of every cell would take the best of these.
    takes = [min(best, key=[its[run] for its in runs].__getitem__) for run in range(len(runs[0]))]
    one_run = fmean(table.regret(points[place], EPOCHS) for place in takes)
    spread = fmean(stdev(runs[place]) for place in best[: len(best) // 4])
    study = optuna.create_study()
    for point, loss in zip(points, losses, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=dict(distributions(space)), value=loss)
        )
    importance = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    by_epoch = [[table.loss(point, epoch) for point in points] for epoch in range(1, EPOCHS + 1)]
    better = best[: len(best) // 2]
    print(
        f"\n{path.name}: {len(points)} cells, {len(runs[0])} runs each\n"
        f"loss after {EPOCHS} epochs: least {table.best(EPOCHS):.4f}, median {table.middle(EPOCHS):.4f}; "
        f"between runs of the best quarter {spread:.4f}\n"
        f"the best by one run of every cell has a regret of {one_run:.4f}\n"
        f"PED-ANOVA: {', '.join(f'{name} {share:.2f}' for name, share in importance.items())}"
    )
    return {
        "cells": len(points),
        "runs": len(runs[0]),
        "least": table.best(EPOCHS),
        "median": table.middle(EPOCHS),
        "spread": spread,
        "one run": one_run,
        "best": [{**points[place], "loss": losses[place], "runs": runs[place]} for place in best[:8]],
        "ranks": ranks(by_epoch, range(len(points))),
        "ranks of the better": ranks(by_epoch, better),
        "importance": dict(importance),
        "mean loss": {
            name: {
                f"{value:g}": fmean(
                    loss for loss, point in zip(losses, points, strict=True) if point[name] == value
                )
                for value in sorted({point[name] for point in points})
            }
            for name in space.domains
        },
    }


def searches(
    path: Path, chosen: Sequence[Policy], options: argparse.Namespace, processes: ProcessPoolExecutor
) -> Searches:
    """Begins them, those in the bars with more seeds; what waits for each."""
    compared = (PAPER, DEFAULT, TWICE)
    return {
        one: start(processes, replays, path, one, options.most if one in compared else options.seeds)
        for one in chosen
    }


def of_policies(path: Path, waiting: Searches) -> EpochMetrics:
    heads = "".join(f"{spent:>10} epochs" for spent in SPENT)
    print(f"\n{'regret after':32}{heads}{'device seconds':>18}")
    rows = {}
    for one, wait in waiting.items():
        found = wait()
        at = regret_of(path, found, "epochs", [spent for spent in SPENT if spent <= one.cost])
        seconds = end(found, "device_seconds")
        print(f"{one.name:32}{in_cells(at):68}{seconds:18.1f}", flush=True)
        grid = [seconds * step / STEPS for step in range(1, STEPS + 1)]
        rows[one.name] = {
            "n": len(found),
            "regret": at,
            "epochs": end(found, "epochs"),
            "trials": end(found, "trials"),
            "device seconds": seconds,
            "by epochs": regret_of(path, found, "epochs", range(5, one.cost + 1, 5)),
            "by device seconds": regret_of(path, found, "device_seconds", grid),
        }
    return rows


def of_bars(rows: EpochMetrics) -> list[EpochMetrics]:
    """The default against the paper's random search."""

    def at(of: Policy, spent: int) -> float:
        regret = rows[of.name]["regret"]
        return float(regret["mean"][regret["spent"].index(spent)])

    paper = at(PAPER, COST)
    bars = [
        ("a quarter of the cost: random search at its full cost", at(DEFAULT, COST // 4), paper),
        ("the full cost: a third of that of random search", at(DEFAULT, COST), paper / 3),
        ("the full cost: random search at twice the cost", at(DEFAULT, COST), at(TWICE, 2 * COST)),
    ]
    print("\nregret of the default, and what it must not be above")
    for words, ours, theirs in bars:
        print(f"{words:58}{ours:8.4f}{theirs:8.4f}  {'holds' if ours <= theirs else 'does not hold'}")
    return [{"words": words, "default": ours, "bar": theirs} for words, ours, theirs in bars]


def of_workers(path: Path, waiting: Searches) -> EpochMetrics:
    """The default with several simulated workers."""
    print(f"\n{'workers, the default':32}{'':51}{'epochs':>10}{'seconds':>10}")
    rows = {}
    for one, wait in waiting.items():
        found = wait()
        at = regret_of(path, found, "epochs", SPENT[:3])
        epochs, seconds = end(found, "epochs"), end(found, "seconds")
        print(f"{one.workers:<32}{in_cells(at)}{epochs:10.1f}{seconds:10.1f}", flush=True)
        rows[str(one.workers)] = {"n": len(found), "regret": at, "seconds": seconds, "epochs": epochs}
    return rows


def against_optuna(path: Path, options: argparse.Namespace, processes: ProcessPoolExecutor) -> EpochMetrics:
    """A check that ours are right: the same methods by Optuna alone, 28 trials, one at a time."""
    waiting = {
        one: [start(processes, work, path, one, options.seeds) for work in (replays, by_optuna)]
        for sampler in ("random", "tpe")
        for pruner in OPTUNAS
        for one in [Policy(sampler, pruner, trials=TRIALS, width=1)]
    }
    heads = f"{'regret, hpo':>17}{'Optuna':>17}{'epochs, hpo':>14}{'Optuna':>9}"
    print(f"\n{f'{TRIALS} trials, one at a time':32}{heads}")
    rows = {}
    for one, (ours, theirs) in waiting.items():
        found, others = ours(), theirs()
        mine, other = regret_of(path, found, "epochs", [COST]), Mean.of([regret for regret, _ in others])
        epochs, other_epochs = end(found, "epochs"), fmean(spent for _, spent in others)
        regret = f"{in_cells(mine)}{other.mean:9.4f} ±{other.error:.4f}"
        print(f"{one.name:32}{regret}{epochs:14.1f}{other_epochs:9.1f}", flush=True)
        rows[one.name] = {
            "hpo": {"mean": mine["mean"][0], "error": mine["error"][0], "epochs": epochs},
            "optuna": {"mean": other.mean, "error": other.error, "epochs": other_epochs},
        }
    return rows


def of_ranking(path: Path, full: Path) -> EpochMetrics:
    """The mini split against full training."""
    found = ranking.figures(StudySpec.load(LENET), read(path), read(full))
    print("\n" + "\n".join(ranking.lines(found)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", nargs="+", type=Path, default=TABLES, help="default: benchmarks/tables")
    parser.add_argument("--seeds", type=int, default=30, help="replays of each policy (default 30)")
    parser.add_argument("--most", type=int, default=100, help="of those in the bars (default 100)")
    parser.add_argument("--report", type=Path, help="write search.md and its pictures into this folder")
    parser.add_argument("--quick", action="store_true", help="two replays, of few policies")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    if options.quick:
        options.seeds = options.most = 2
    print(f"{hardware.line()}; n = {options.seeds}, {options.most} in the bars")
    tables = {}
    with pool() as processes:
        for path in options.tables:
            figures: EpochMetrics = {"table": of_cells(path)}
            begun = searches(path, [PAPER, DEFAULT, TWICE] if options.quick else POLICIES, options, processes)
            figures["policies"] = of_policies(path, begun)
            figures["bars"] = of_bars(figures["policies"])
            if not options.quick and path == options.tables[0]:
                crowds = [replace(DEFAULT, workers=count) for count in (4, 16)]
                crowded = searches(path, crowds, options, processes)
                figures["workers"] = of_workers(path, {DEFAULT: begun[DEFAULT], **crowded})
                figures["optuna"] = against_optuna(path, options, processes)
            if (full := FULL / path.name).exists():
                figures["ranking"] = of_ranking(path, full)
            tables[path.name.removesuffix(".csv.gz")] = figures
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    found = {"tables": tables, "hardware": hardware.line()}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if options.report:
        search_page.write(options.report, found)


if __name__ == "__main__":
    main()
