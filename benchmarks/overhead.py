"""Measure the bookkeeping of a trial (claim, reports, pruning, end) on Postgres, with many workers.

hpo       a worker whose sessions do nothing: claims, one report per epoch of a pack, median pruning, renewal
optuna    `study.optimize`, with report and should_prune after each epoch, MedianPruner, RandomSampler

No trial trains: each has 10 epochs whose losses follow from its number. The clock runs from the moment all
workers have started to the end of the last trial. For hpo, the time to create the study and its plan is
added. An Optuna worker keeps two connections. Where the server's `max_connections` (100 by default) is too
low for the Optuna workers, their row is left out.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from sqlalchemy import text

from benchmarks.command import numbers, parser
from benchmarks.overhead_workers import SPEC, hpo_worker, optuna_worker, run_together
from benchmarks.results import Result, Table, spread
from hpo.artifacts.registry import open_artifacts
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.create import create
from hpo.study.stored import remove

OPTUNA_CONNECTIONS = 2
"""Connections that a process keeps which has opened an Optuna study."""

OTHER_CONNECTIONS = 8
"""Connections of this process, and those that Postgres reserves."""


@dataclass(frozen=True, slots=True)
class Size:
    """Workers of a search, its trials, and the epochs of each."""

    workers: int
    trials: int
    epochs: int


@dataclass(frozen=True)
class Run:
    """A finished search: its ended trials, reported epochs, and the statements of all workers."""

    seconds: float
    trials: int
    epochs: int
    statements: int

    @property
    def rate(self) -> float:
        return self.trials / self.seconds


def run_hpo_workers(storage: Storage, settings: Settings, size: Size) -> Run:
    search = {"trials": size.trials, "epochs": size.epochs}
    raw = {**SPEC, "name": f"overhead-{os.getpid()}", "search": search}
    start = time.perf_counter()
    study = create(storage, StudySpec.parse(raw, "benchmark"), "benchmark").study
    creation = time.perf_counter() - start
    seconds, statements = run_together(size.workers, hpo_worker, lambda _index: (study.name, size.epochs))
    run = _finished(storage, study.name, creation + seconds, statements)
    remove(storage, study, open_artifacts(settings, study.artifacts_name))
    return run


def run_optuna_workers(storage: Storage, size: Size) -> Run:
    study = optuna.create_study(storage=storage.backend)
    shares = [len(range(index, size.trials, size.workers)) for index in range(size.workers)]
    url = storage.url.render_as_string(hide_password=False)
    seconds, statements = run_together(
        size.workers, optuna_worker, lambda index: (url, study.study_name, shares[index], size.epochs)
    )
    run = _finished(storage, study.study_name, seconds, statements)
    optuna.delete_study(study_name=study.study_name, storage=storage.backend)
    return run


def most_optuna_workers(storage: Storage) -> int:
    """Return how many Optuna workers the server has connections for."""
    with storage.transaction() as connection:
        connections = int(connection.execute(text("SHOW max_connections")).scalar_one())
    return (connections - OTHER_CONNECTIONS) // OPTUNA_CONNECTIONS


def _finished(storage: Storage, name: str, seconds: float, statements: int) -> Run:
    trials = optuna.load_study(study_name=name, storage=storage.backend).trials
    if not all(trial.state.is_finished() for trial in trials):
        sys.exit(f"{name}: a trial has not ended")
    return Run(seconds, len(trials), sum(len(trial.intermediate_values) for trial in trials), statements)


def add_rows(result: Result, table: Table, workers: int, runs: Mapping[str, Sequence[Run]]) -> None:
    for variant, searches in runs.items():
        rates = [run.rate for run in searches]
        rate = result.median(f"{workers} workers, {variant}, trials/s", rates)
        cost = result.median(
            f"{workers} workers, {variant}, ms/trial",
            (1000 * workers * run.seconds / run.trials for run in searches),
        )
        statements = result.median(
            f"{workers} workers, {variant}, statements/trial",
            (run.statements / run.trials for run in searches),
        )
        table.add(str(workers), variant, f"{rate:.1f}", spread(rates, 1), f"{cost:.1f}", f"{statements:.1f}")


def ratios_of(runs: Mapping[str, Sequence[Run]]) -> list[float]:
    """Return how many times as many trials per second hpo ends as Optuna, for each run; [] without Optuna."""
    if "optuna" not in runs:
        return []
    return [hpo.rate / other.rate for hpo, other in zip(runs["hpo"], runs["optuna"], strict=True)]


def main() -> None:
    options = parser(__doc__, quick="16 trials, 2 workers, one run")
    options.add_argument(
        "--workers", type=numbers, default=[1, 4, 16, 64], help="workers (default 1,4,16,64)"
    )
    options.add_argument("--trials", type=int, default=256, help="trials of a study (default 256)")
    options.add_argument("--epochs", type=int, default=10, help="epochs of a trial (default 10)")
    options.add_argument("--runs", type=int, default=5, help="alternating runs of each variant (default 5)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.workers, arguments.trials, arguments.runs = [2], 16, 1
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = Settings.from_environment()
    storage = open_storage(settings)
    setup = f"{arguments.trials} trials of {arguments.epochs} epochs that do not train"
    result = Result.begin("overhead", setup, arguments.runs)
    heads = ("workers", "", "trials/s", "range", "ms/trial", "statements/trial")
    table = result.table("Trials per second of all workers", heads)
    ratios: dict[int, list[float]] = {}
    by_workers = {}
    for workers in arguments.workers:
        size = Size(workers, arguments.trials, arguments.epochs)
        runs: dict[str, list[Run]] = {"hpo": []}
        if workers <= most_optuna_workers(storage):
            runs["optuna"] = []
        for _ in range(result.n):
            if "optuna" in runs:
                runs["optuna"].append(run_optuna_workers(storage, size))
            runs["hpo"].append(run_hpo_workers(storage, settings, size))
        add_rows(result, table, workers, runs)
        ratios[workers] = ratios_of(runs)
        raw = {variant: [vars(run) for run in searches] for variant, searches in runs.items()}
        by_workers[str(workers)] = {"ratios": ratios[workers], **raw}
    table = result.table("Trials per second, hpo / Optuna", ("workers", "median ratio", "range"))
    for workers, values in ratios.items():
        if values:
            ratio = result.median(f"{workers} workers, hpo / optuna", values)
            table.add(str(workers), f"{ratio:.2f}", spread(values))
        else:
            table.add(str(workers), "-", "its Optuna workers need more connections than max_connections")
    result.values["workers"] = by_workers
    result.write(arguments.json)


if __name__ == "__main__":
    main()
