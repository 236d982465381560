"""Compare first rungs and objectives of the default search, by their regret on a folder of curve tables.

Each search has one worker: random search without a pruner; gp with pause, from a first rung after one epoch
and from the default first rung, if that is another. With --objective accuracy, searches rank trials by
accuracy. A search that ranks by loss joins them. All regrets are in the objective. --tables takes tables from
elsewhere: files in the format of `hpo.simulate.curve_table`, with all cells of a grid. An epoch is a point of
a curve.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna

from benchmarks.command import LENET_FILE, numbers, parser
from benchmarks.policies import DEFAULT, Policy, Results, held_out, pool, start, storage
from benchmarks.results import Result
from benchmarks.search_page import padded
from hpo.errors import InputError
from hpo.search.pruners.rungs import default_rung
from hpo.simulate.curve_table import METRICS, CurveTable, read
from hpo.simulate.regret import Mean, regrets
from hpo.simulate.replay import Replay, replay_search
from hpo.spec.study_spec import StudySpec
from hpo.values.objective import OBJECTIVES
from hpo.values.parameters import PARAMETERS

OWN_TABLES = Path(__file__).parent / "tables"
"""The tables that hpo's typical effective learning rate was chosen on (`benchmarks.policies.held_out`)."""

HIGH_REGRET = 0.3
"""A table counts as failed if the mean regret at the end is above this."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Search:
    """A search. `metric`: what trials are ranked by. `first_rung`: None without a pruner."""

    sampler: str
    pruner: str
    metric: str
    first_rung: int | None = None

    def spec(self, table: CurveTable, epochs: int, budget: int) -> StudySpec:
        """Return a study of the grid of the table that may spend `budget` epochs in trials of `epochs`."""
        space = grid(table)
        trials = prod(map(len, space.values()))
        if self.pruner == "none":
            trials = min(trials, budget // epochs)
        rung = {} if self.first_rung is None else {"min_epochs": self.first_rung}
        changes = {
            "space": space,
            "sampler": {"name": self.sampler},
            "pruner": {"name": self.pruner} | rung,
            "objective": {"metric": self.metric},
            "search": {"trials": trials, "epochs": epochs},
            "stop": {"epochs": budget},
        }
        return StudySpec.parse(StudySpec.load(LENET_FILE).to_json() | changes, "benchmark")


def grid(table: CurveTable) -> dict[str, list[Any]]:
    """Return the values of each parameter of a table, as the space of a study file."""
    values: dict[str, set[Any]] = {name: set() for name in table.parameters}
    for key in table.runs:
        for name, value in key:
            whole = name in PARAMETERS and PARAMETERS[name].kind == "integer"
            values[name].add(int(value) if whole else value)
    return {name: sorted(each) for name, each in values.items()}


def searches(metric: str, rung: int) -> dict[str, Search]:
    """Return the searches by name. `rung`: the default first rung."""
    chosen = {"random, none": Search("random", "none", metric)}
    for first in sorted({1, rung}):
        chosen[f"gp, pause from {first}"] = Search("gp", "pause", metric, first)
    if metric != "loss":
        chosen[f"gp, pause from {rung}, by loss"] = Search("gp", "pause", "loss", rung)
    return chosen


def replays(
    search: Search, epochs: int, budget: int, path: Path, _policy: Policy, seeds: Sequence[int]
) -> list[Replay]:
    """Replay a search on a table under some seeds. Only in a process of the pool."""
    return replays_of(lambda table: search.spec(table, epochs, budget), path, seeds)


def replays_of(spec_of: Callable[[CurveTable], StudySpec], path: Path, seeds: Sequence[int]) -> list[Replay]:
    """Replay a study of a table under some seeds. Only in a process of the pool."""
    table = read(path)
    spec = spec_of(table)
    with held_out(path) if path.resolve().parent == OWN_TABLES else nullcontext():
        return [replay_search(storage(), spec.model_copy(update={"seed": seed}), table) for seed in seeds]


def regret_figures(
    found: Sequence[Replay], table: CurveTable, epochs: int, budgets: Sequence[int], metric: str
) -> Figures:
    """Return the regret in the metric of each search at each budget, and mean and standard error."""
    objective = OBJECTIVES[metric]
    rows = [
        regrets(replace(search, objective=objective), table, epochs, "epochs", budgets) for search in found
    ]
    means = [Mean.of(column) for column in zip(*rows, strict=True)]
    return {
        "mean": [mean.mean for mean in means],
        "error": [mean.error for mean in means],
        "searches": rows,
    }


def summary(tables: Mapping[str, Figures]) -> Figures:
    """Return the mean regret over all tables at each budget, and what the worst tables end with."""
    by_budget = list(zip(*(figures["mean"] for figures in tables.values()), strict=True))
    last = {name: figures["mean"][-1] for name, figures in tables.items()}
    worst = max(last, key=last.__getitem__)
    return {
        "mean": [fmean(column) for column in by_budget],
        "worst": last[worst],
        "worst table": worst,
        "high": sum(regret > HIGH_REGRET for regret in last.values()),
        "tables": len(last),
    }


def parse_options() -> Namespace:
    options = parser(__doc__, quick="two seeds on the first table")
    metrics = [name for name, objective in OBJECTIVES.items() if objective.key in METRICS]
    options.add_argument("--objective", choices=metrics, default="loss", help="metric of the regret")
    return parse_replays(options, budgets=(70, 140, 280), seeds=10)


def parse_replays(options: ArgumentParser, budgets: Sequence[int], seeds: int) -> Namespace:
    """Parse options with those of replays on a folder of tables. The attribute `paths` has the tables."""
    options.add_argument(
        "--tables", type=Path, default=OWN_TABLES, metavar="FOLDER", help="default: benchmarks/tables"
    )
    options.add_argument("--epochs", type=int, default=5, help="epochs of a trial (default 5)")
    default = ",".join(map(str, budgets))
    options.add_argument(
        "--budgets",
        type=numbers,
        default=list(budgets),
        help=f"epochs of all trials at which the regret is measured (default {default})",
    )
    options.add_argument("--seeds", type=int, default=seeds, help=f"replays of each search (default {seeds})")
    arguments = options.parse_args()
    arguments.paths = sorted(arguments.tables.glob("*.csv.gz"))
    if not arguments.paths:
        options.error(f"--tables {arguments.tables}: no file *.csv.gz in this folder")
    arguments.budgets.sort()
    if arguments.quick:
        arguments.seeds, arguments.paths = 2, arguments.paths[:1]
    return arguments


def default_rung_of(path: Path, table: CurveTable, epochs: int, budget: int) -> int:
    """Return the default first rung. Raises `InputError` if the table is not a grid or has fewer epochs."""
    spec = Search("gp", "pause", "loss").spec(table, epochs, budget)
    table.check(spec.space, epochs, str(path))
    return default_rung(epochs, spec.space)


def start_all(
    processes: ProcessPoolExecutor, arguments: Namespace, path: Path, chosen: Mapping[str, Search]
) -> dict[str, Results]:
    """Start all seeds of the searches on one table."""
    epochs, budget = arguments.epochs, arguments.budgets[-1]
    return {
        name: start(processes, partial(replays, search, epochs, budget), path, DEFAULT, arguments.seeds)
        for name, search in chosen.items()
    }


def compare(arguments: Namespace, tables: Mapping[Path, CurveTable], rung: int) -> Result:
    """Run all searches on all tables. Return their figures."""
    epochs, budgets, metric = arguments.epochs, arguments.budgets, arguments.objective
    setup = f"regret in {metric} on {len(tables)} curve tables, trials of {epochs} epochs, one worker"
    result = Result.begin("default_search", setup, arguments.seeds)
    heads = ("search", *(f"{budget} epochs" for budget in budgets))
    chosen = searches(metric, rung)
    figures: dict[str, dict[str, Figures]] = {name: {} for name in chosen}
    with pool() as processes:
        running = {path: start_all(processes, arguments, path, chosen) for path in tables}
        for path, waits in running.items():
            printed = result.table(f"Regret on {path.name}", heads, first=28, others=15)
            for name, wait in waits.items():
                row = regret_figures(wait(), tables[path], epochs, budgets, metric)
                figures[name][path.name.removesuffix(".csv.gz")] = row
                printed.add(name, *padded(row["mean"], row["error"], len(budgets)))
    heads = (*heads, "worst table", f"tables above {HIGH_REGRET:g}")
    printed = result.table("Mean regret over the tables", heads, first=28)
    summaries = {name: summary(rows) for name, rows in figures.items()}
    for name, total in summaries.items():
        means = (f"{mean:.4f}" for mean in total["mean"])
        printed.add(name, *means, f"{total['worst']:.4f}", f"{total['high']} of {total['tables']}")
    result.values.update({"budgets": budgets, "tables": figures, "summary": summaries})
    return result


def main() -> None:
    arguments = parse_options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        tables = {path: read(path) for path in arguments.paths}
        rungs = {
            default_rung_of(path, table, arguments.epochs, arguments.budgets[-1])
            for path, table in tables.items()
        }
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    compare(arguments, tables, max(rungs)).write(arguments.json)


if __name__ == "__main__":
    main()
