"""What a curve table says about its cells, before any search: losses, noise, ranks, importance."""

from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy.stats import spearmanr

from benchmarks.command import LENET_FILE
from benchmarks.policies import EPOCHS
from hpo.search.samplers.distributions import distributions
from hpo.simulate.curve_table import CurveTable, read
from hpo.spec.study_spec import StudySpec
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.space import Point, SearchSpace, cell


def rank_correlations(by_epoch: Sequence[Sequence[float]], cells: Collection[int]) -> list[float]:
    """Return Spearman's correlation of the losses after each epoch with the last ones, over these cells."""
    losses = [[epoch[number] for number in cells] for epoch in by_epoch]
    return [float(spearmanr(early, losses[-1]).statistic) for early in losses]


def importance(space: SearchSpace, points: Sequence[Point], losses: Sequence[float]) -> dict[str, float]:
    """Return Optuna's PED-ANOVA importance of each parameter, over all cells."""
    study = optuna.create_study()
    for point, loss in zip(points, losses, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=dict(distributions(space)), value=loss)
        )
    return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def mean_losses(points: Sequence[Point], losses: Sequence[float], name: str) -> dict[str, float]:
    """Return the mean loss of the cells with each value of a parameter."""
    pairs = list(zip(points, losses, strict=True))
    return {
        f"{value:g}": fmean(loss for point, loss in pairs if point[name] == value)
        for value in sorted({point[name] for point in points})
    }


def single_run_regret(table: CurveTable, points: Sequence[Point], runs: Sequence[Sequence[float]]) -> float:
    """Return the mean regret of picking the best cell from one run of each.

    `runs` holds losses by cell and run.
    """
    ranked = sorted(range(len(points)), key=lambda number: table.cost(points[number], EPOCHS))
    picks = [min(ranked, key=lambda number: runs[number][run]) for run in range(len(runs[0]))]
    return fmean(table.regret(points[number], EPOCHS) for number in picks)


def cell_statistics(path: Path) -> dict[str, Any]:
    table, space = read(path), StudySpec.load(LENET_FILE).space
    points = [space.point_at(number) for number in range(space.cells or 0)]
    losses = [table.cost(point, EPOCHS) for point in points]
    best = sorted(range(len(points)), key=losses.__getitem__)
    runs = [
        [run[:EPOCHS][-1].metrics[VALIDATION_LOSS] for run in table.runs[cell(point)]] for point in points
    ]
    by_epoch = [[table.cost(point, epoch) for point in points] for epoch in range(1, EPOCHS + 1)]
    return {
        "cells": len(points),
        "runs": len(runs[0]),
        "least": table.best(EPOCHS),
        "median": table.median(EPOCHS),
        "spread": fmean(stdev(runs[number]) for number in best[: len(best) // 4]),
        "one run": single_run_regret(table, points, runs),
        "best": [{**points[number], "loss": losses[number], "runs": runs[number]} for number in best[:8]],
        "ranks": rank_correlations(by_epoch, range(len(points))),
        "ranks of the better": rank_correlations(by_epoch, best[: len(best) // 2]),
        "importance": importance(space, points, losses),
        "mean loss": {name: mean_losses(points, losses, name) for name in space.domains},
    }
