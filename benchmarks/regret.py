"""Compare samplers and pruners by the regret of their best trial: searches replayed on curve tables.

Each policy is a search by hpo's own claim, sampler, pruner and promotion, in simulated time. The regret of a
search is that of its best trial: how far the mean loss of the trial's cell, over all its runs, is from the
least of all cells, as a share of the distance of the median cell. With --report, search.md and its pictures
are written into a folder.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna

from benchmarks import ranking, search_page
from benchmarks.cell_statistics import cell_statistics
from benchmarks.command import LENET_FILE, parser
from benchmarks.policies import (
    COST,
    DEFAULT,
    EPOCHS,
    OPTUNA_PRUNERS,
    OPTUNA_SAMPLERS,
    PAPER,
    POLICIES,
    TRIALS,
    TWICE,
    Policy,
    Results,
    optuna_replays,
    pool,
    replays,
    start,
)
from benchmarks.results import Result
from hpo.simulate.curve_table import read
from hpo.simulate.regret import Axis, Mean, regrets
from hpo.simulate.replay import Replay
from hpo.spec.study_spec import StudySpec

TABLES = sorted((Path(__file__).parent / "tables").glob("*.csv.gz"))
FULL = Path(__file__).parent / "tables" / "full"
"""Tables of full trainings, by `benchmarks.ranking`."""

SPENT = (COST // 4, COST // 2, COST, 2 * COST)
STEPS = 40
"""Points of a regret curve over device seconds."""

POLICY_WIDTH, REGRET_WIDTH = 33, 15
"""Widths of printed columns."""

Figures = dict[str, Any]
Searches = dict[Policy, Results]


def regret_of(path: Path, searches: Sequence[Replay], axis: Axis, spent: Sequence[float]) -> Figures:
    """Return mean and standard error of the regret, for each amount of `spent` on the axis."""
    table = read(path)
    columns = zip(*(regrets(search, table, EPOCHS, axis, spent) for search in searches), strict=True)
    means = [Mean.of(column) for column in columns]
    return {
        "spent": list(spent),
        "mean": [mean.mean for mean in means],
        "error": [mean.error for mean in means],
    }


def final(searches: Sequence[Replay], axis: Axis) -> float:
    """Return how much a search has spent at its end, as the mean over searches."""
    return fmean(float(getattr(search.moments[-1], axis)) for search in searches)


class Comparison:
    """The comparison of policies on one curve table. Each method adds tables to the result."""

    def __init__(
        self, path: Path, options: Namespace, processes: ProcessPoolExecutor, result: Result
    ) -> None:
        self._path, self._options, self._processes, self._result = path, options, processes, result

    def start(self, policies: Sequence[Policy]) -> Searches:
        """Start the searches. The policies of the targets get more seeds."""
        options = self._options
        return {
            policy: start(
                self._processes,
                replays,
                self._path,
                policy,
                options.most if policy in (PAPER, DEFAULT, TWICE) else options.seeds,
            )
            for policy in policies
        }

    def cells(self) -> Figures:
        figures = cell_statistics(self._path)
        heads = ("cells", "runs each", "least loss", "median loss", "noise", "regret of one run of each")
        table = self._result.table(f"{self._path.name}, after {EPOCHS} epochs", heads)
        losses = (f"{figures[name]:.4f}" for name in ("least", "median", "spread", "one run"))
        table.add(str(figures["cells"]), str(figures["runs"]), *losses)
        table = self._result.table("Importance of the parameters", ("parameter", "PED-ANOVA"), first=16)
        for name, share in figures["importance"].items():
            table.add(name, f"{share:.2f}")
        return figures

    def policies(self, running: Searches) -> Figures:
        heads = ("policy", *(f"{spent} epochs" for spent in SPENT), "trials", "device seconds")
        title = "Regret after some candidate-epochs, one worker"
        table = self._result.table(title, heads, first=POLICY_WIDTH, others=REGRET_WIDTH)
        rows = {}
        for policy, wait in running.items():
            searches = wait()
            regret = regret_of(
                self._path, searches, "epochs", [spent for spent in SPENT if spent <= policy.cost]
            )
            seconds, trials = final(searches, "device_seconds"), final(searches, "trials")
            cells = search_page.padded(regret["mean"], regret["error"], len(SPENT))
            table.add(policy.name, *cells, f"{trials:.0f}", f"{seconds:.1f}")
            grid = [seconds * step / STEPS for step in range(1, STEPS + 1)]
            rows[policy.name] = {
                "n": len(searches),
                "regret": regret,
                "epochs": final(searches, "epochs"),
                "trials": trials,
                "device seconds": seconds,
                "by epochs": regret_of(self._path, searches, "epochs", range(5, policy.cost + 1, 5)),
                "by device seconds": regret_of(self._path, searches, "device_seconds", grid),
            }
        return rows

    def targets(self, rows: Figures) -> list[Figures]:
        """Compare the default with the paper's random search. `rows`: from `policies`."""

        def regret_at(policy: Policy, spent: int) -> float:
            regret = rows[policy.name]["regret"]
            return float(regret["mean"][regret["spent"].index(spent)])

        paper = regret_at(PAPER, COST)
        targets = [
            ("quarter of the cost", "random search at full cost", regret_at(DEFAULT, COST // 4), paper),
            ("full cost", "a third of random search at full cost", regret_at(DEFAULT, COST), paper / 3),
            (
                "full cost",
                "random search at twice the cost",
                regret_at(DEFAULT, COST),
                regret_at(TWICE, 2 * COST),
            ),
        ]
        names = ("cost", "against", "default", "target")
        rows_of_targets = [dict(zip(names, target, strict=True)) for target in targets]
        title = "The default against the published random search"
        table = self._result.table(title, search_page.TARGET_HEADS, first=22, others=16)
        for row in rows_of_targets:
            table.add(*search_page.target_cells(row))
        return rows_of_targets

    def workers(self, running: Searches) -> Figures:
        """Compare numbers of simulated workers, for the default."""
        heads = ("workers", *(f"{spent} epochs" for spent in SPENT[:3]), "epochs at end", "seconds")
        table = self._result.table("Regret of the default with several workers", heads, others=REGRET_WIDTH)
        rows = {}
        for policy, wait in running.items():
            searches = wait()
            regret = regret_of(self._path, searches, "epochs", SPENT[:3])
            epochs, seconds = final(searches, "epochs"), final(searches, "seconds")
            cells = search_page.padded(regret["mean"], regret["error"], 3)
            table.add(str(policy.workers), *cells, f"{epochs:.1f}", f"{seconds:.1f}")
            rows[str(policy.workers)] = {
                "n": len(searches),
                "regret": regret,
                "seconds": seconds,
                "epochs": epochs,
            }
        return rows

    def optuna(self) -> Figures:
        """Check the methods of hpo against Optuna's own: 28 trials, one at a time."""
        running = {
            policy: [
                start(self._processes, work, self._path, policy, self._options.seeds)
                for work in (replays, optuna_replays)
            ]
            for sampler in OPTUNA_SAMPLERS
            for pruner in OPTUNA_PRUNERS
            for policy in [Policy(sampler, pruner, trials=TRIALS, width=1)]
        }
        heads = ("policy", "regret, hpo", "regret, Optuna", "epochs, hpo", "epochs, Optuna")
        title = f"{TRIALS} trials, one at a time, by hpo and by Optuna"
        table = self._result.table(title, heads, first=POLICY_WIDTH, others=REGRET_WIDTH)
        rows: Figures = {}
        for policy, (wait_hpo, wait_optuna) in running.items():
            searches, others = wait_hpo(), wait_optuna()
            regret = regret_of(self._path, searches, "epochs", [COST])
            other = Mean.of([regret for regret, _ in others])
            rows[policy.name] = {
                "hpo": {
                    "mean": regret["mean"][0],
                    "error": regret["error"][0],
                    "epochs": final(searches, "epochs"),
                },
                "optuna": {
                    "mean": other.mean,
                    "error": other.error,
                    "epochs": fmean(spent for _, spent in others),
                },
            }
            table.add(*search_page.optuna_cells(policy.name, rows[policy.name]))
        return rows

    def ranking(self, full: Path) -> Figures:
        """Compare the mini split with full training."""
        figures = ranking.figures(StudySpec.load(LENET_FILE), read(self._path), read(full))
        ranking.add_tables(self._result, figures)
        return figures

    def everything(self, first: bool) -> Figures:
        """Return all figures of the table. Workers and Optuna are compared on the first table only."""
        figures: Figures = {"table": self.cells()}
        quick = self._options.quick
        running = self.start([PAPER, DEFAULT, TWICE] if quick else POLICIES)
        figures["policies"] = self.policies(running)
        figures["targets"] = self.targets(figures["policies"])
        if first and not quick:
            crowds = self.start([replace(DEFAULT, workers=count) for count in (4, 16)])
            figures["workers"] = self.workers({DEFAULT: running[DEFAULT], **crowds})
            figures["optuna"] = self.optuna()
        if (full := FULL / self._path.name).exists():
            figures["ranking"] = self.ranking(full)
        return figures


def main() -> None:
    options = parser(__doc__, quick="two replays each of few policies")
    options.add_argument("--tables", nargs="+", type=Path, default=TABLES, help="default: benchmarks/tables")
    options.add_argument("--seeds", type=int, default=30, help="replays of each policy (default 30)")
    options.add_argument(
        "--most", type=int, default=100, help="replays of the policies of the targets (default 100)"
    )
    options.add_argument("--report", type=Path, help="write search.md and its pictures into this folder")
    arguments = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    if arguments.quick:
        arguments.seeds = arguments.most = 2
    setup = f"searches replayed on curve tables, {arguments.most} of the policies of the targets"
    result = Result.begin("regret", setup, arguments.seeds)
    tables = {}
    with pool() as processes:
        for path in arguments.tables:
            comparison = Comparison(path, arguments, processes, result)
            tables[path.name.removesuffix(".csv.gz")] = comparison.everything(path == arguments.tables[0])
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    result.values["tables"] = tables
    result.write(arguments.json)
    if arguments.report:
        search_page.write(arguments.report, result)


if __name__ == "__main__":
    main()
