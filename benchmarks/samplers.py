"""Compare all samplers by their regret on a folder of curve tables, without a pruner and with `pause`.

Each search has one worker. --tables takes tables from elsewhere: files in the format of
`hpo.simulate.curve_table`, with all cells of a grid. An epoch is a point of a curve. The time of a suggestion
is measured in a space of ranges.
"""

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import optuna
from optuna.trial import TrialState

from benchmarks.command import LENET_FILE, parser
from benchmarks.default_search import Figures, grid, parse_replays, regret_figures, replays_of
from benchmarks.policies import DEFAULT, Policy, pool, start
from benchmarks.results import Result
from benchmarks.search_page import padded
from hpo.search.samplers.base import Observation
from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import SAMPLERS
from hpo.simulate.curve_table import CurveTable, read
from hpo.simulate.replay import Replay
from hpo.spec.study_spec import StudySpec
from hpo.values.space import Choices, Point, Range, SearchSpace

PRUNERS = ("none", "pause")

RANGES = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Range(1e-6, 1e-2, log=True),
        "batch_size": Choices((16, 32, 64)),
    }
)
HISTORIES, POINTS, REPETITIONS = (100, 1000), 4, 5
"""Trials before a suggestion, points of a suggestion (a claim's default), and measured suggestions."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search: a sampler with some of its keys, and a pruner."""

    sampler: str
    pruner: str
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = [f"{key} {json_word(value)}" for key, value in self.keys.items()]
        return ", ".join([self.sampler, *words, self.pruner])

    def spec(self, table: CurveTable, epochs: int, budget: int) -> StudySpec:
        """Return a study of the grid of the table that may spend `budget` epochs in trials of `epochs`."""
        space = grid(table)
        trials = prod(map(len, space.values()))
        if self.pruner == "none":
            trials = min(trials, budget // epochs)
        changes = {
            "space": space,
            "sampler": {"name": self.sampler, **self.keys},
            "pruner": {"name": self.pruner},
            "search": {"trials": trials, "epochs": epochs},
            "stop": {"epochs": budget},
        }
        return StudySpec.parse(StudySpec.load(LENET_FILE).to_json() | changes, "benchmark")


def json_word(value: object) -> str:
    """Return a value as a study file spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


VARIANTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *((name, {}) for name in SAMPLERS),
    ("QMCSampler", {"scramble": True}),
    ("NSGAIISampler", {"population_size": 10}),
    ("CmaEsSampler", {"startup": 1}),
)
SEARCHES = [
    *(Search(name, pruner, keys) for pruner in PRUNERS for name, keys in VARIANTS),
    Search("CmaEsSampler", "pause", {"consider_pruned_trials": False}),
]


def replays(
    search: Search, epochs: int, budget: int, path: Path, _policy: Policy, seeds: Sequence[int]
) -> list[Replay]:
    """Replay a search on a table under some seeds. Only in a process of the pool."""
    return replays_of(lambda table: search.spec(table, epochs, budget), path, seeds)


def history(trials: int) -> list[Observation]:
    """Return complete trials of `RANGES`, with curves of three epochs."""
    points = plan(RANGES, trials, 0)

    def curve(point: Point) -> dict[int, float]:
        loss = 0.1 + (math.log10(point["lr"]) + 1.5) ** 2 + (float(point["momentum"]) - 0.7) ** 2
        return {epoch: loss + 1 / epoch for epoch in (1, 2, 3)}

    curves = map(curve, points)
    return [
        Observation(point, TrialState.COMPLETE, losses[3], losses)
        for point, losses in zip(points, curves, strict=True)
    ]


def measure_times(result: Result) -> None:
    """Measure what a claim waits for `POINTS` points, after histories of several lengths."""
    heads = ("sampler", *(f"{trials:,} trials" for trials in HISTORIES))
    printed = result.table(f"Milliseconds of a suggestion of {POINTS} points", heads, first=44)
    histories = [history(trials) for trials in HISTORIES]
    result.values["milliseconds"] = {}
    for name, section in SAMPLERS.items():
        sampler = section()
        if sampler.plans_all:
            continue
        sampler.load()
        medians = []
        for trials in histories:
            seconds = []
            for seed in range(REPETITIONS):
                start_time = perf_counter()
                sampler.suggest(RANGES, trials, POINTS, seed)
                seconds.append(perf_counter() - start_time)
            medians.append(1000 * median(seconds))
        result.values["milliseconds"][name] = medians
        printed.add(name, *(f"{milliseconds:.0f}" for milliseconds in medians))


def parse_options() -> Namespace:
    options = parser(__doc__, quick="two seeds of the first two searches on the first table")
    arguments = parse_replays(options, budgets=(35, 70, 140), seeds=20)
    arguments.searches = SEARCHES[:2] if arguments.quick else SEARCHES
    return arguments


def compare(arguments: Namespace) -> Result:
    """Run all searches on all tables. Return their figures."""
    epochs, budgets = arguments.epochs, arguments.budgets
    setup = f"regret on {len(arguments.paths)} curve tables, trials of {epochs} epochs, one worker"
    result = Result.begin("samplers", setup, arguments.seeds)
    heads = ("sampler and pruner", *(f"{budget} epochs" for budget in budgets))
    figures: dict[str, dict[str, Figures]] = {}
    with pool() as processes:
        for path in arguments.paths:
            table, name = read(path), path.name.removesuffix(".csv.gz")
            waits = [
                start(processes, partial(replays, each, epochs, budgets[-1]), path, DEFAULT, arguments.seeds)
                for each in arguments.searches
            ]
            printed = result.table(f"Regret on {path.name}", heads, first=44, others=15)
            figures[name] = {}
            for search, wait in zip(arguments.searches, waits, strict=True):
                row = regret_figures(wait(), table, epochs, budgets, "loss")
                figures[name][search.name] = row
                printed.add(search.name, *padded(row["mean"], row["error"], len(budgets)))
    result.values.update({"budgets": budgets, "tables": figures})
    return result


def main() -> None:
    arguments = parse_options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    result = compare(arguments)
    measure_times(result)
    result.write(arguments.json)


if __name__ == "__main__":
    main()
