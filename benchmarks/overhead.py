"""What a trial costs besides its training: claim, reports, pruning, tell, on Postgres with many workers.

python -m benchmarks.overhead [--workers N,N] [--trials N] [--runs N] [--quick] [--json FILE]

hpo       claims of packs, a report for each epoch of a pack, the median rule, renewals, as in a worker
optuna    `study.optimize` with report and should_prune after each epoch, MedianPruner, RandomSampler

Both with a trainer that does nothing: 10 epochs a trial, whose losses follow from its number. The clock runs
from the moment at which all workers have started until the last trial has ended; the time in which hpo made
the study, with its plan, is added. A worker of Optuna's keeps two connections: where Postgres does not allow
so many, 100 unless `max_connections` says otherwise, those workers are left out.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from sqlalchemy import Engine, event, text

from benchmarks import hardware
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.schedule import claim, is_finished
from hpo.study.study import create, load, remove
from hpo.values.epoch import EpochResult
from hpo.worker.lease_renewal import Renewal
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter

T = TypeVar("T")

OPTUNA_CONNECTIONS = 2
"""That a process which opens a study of Optuna's keeps."""

OTHER_CONNECTIONS = 8
"""Of this process, and those that Postgres keeps for itself."""

WIDTH = 16
STARTUP = 5
SPEC: Mapping[str, Any] = {
    "seed": 1,
    "model": {"name": "lenet"},
    "data": {"name": "digits"},
    "space": {
        "lr": {"low": 1e-3, "high": 1e-1, "log": True},
        "batch_size": [64],
        "momentum": {"low": 0.0, "high": 0.9},
        "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    },
    "sampler": {"name": "random"},
    "pruner": {"name": "median", "startup_trials": STARTUP},
    "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
}

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["hpo.worker.lease_renewal", "hpo.worker.reporter", "alembic.command", "psycopg2.extras"]
)


@dataclass(frozen=True)
class Run:
    """How many trials ended and epochs were reported; `statements` are those of all workers."""

    seconds: float
    trials: int
    epochs: int
    statements: int

    @property
    def rate(self) -> float:
        return self.trials / self.seconds


def loss(number: int, epoch: int) -> float:
    drawn = random.Random(number).random()
    return drawn + 1 / epoch


class Statements:
    """Counts what an engine sends."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        for name in ("before_cursor_execute", "begin", "commit", "rollback"):
            event.listen(engine, name, self._add)

    def _add(self, *_arguments: object) -> None:
        self.count += 1


def serve(name: str, epochs: int, barrier: Barrier) -> int:
    """A worker of ours that does not train; gives how many statements it took."""
    storage = open_storage(Settings.from_environment())
    statements = Statements(storage.engine)
    study, worker = load(storage, name), f"{name}-{os.getpid()}"
    barrier.wait()
    renewal = Renewal(storage, study, worker, "cpu")
    renewal.renew()
    with renewal, Outbox() as outbox:
        while True:
            trials = claim(storage, study, "search", worker, WIDTH, fleet=barrier.parties - 1)
            if not trials:
                if is_finished(storage, study, "search"):
                    return statements.count
                threading.Event().wait(0.1)
                continue
            reporter = Reporter(storage, study, "search", {"worker": worker, "device": "cpu"}, outbox)
            reporter.add(trials)
            staying = {trial.number for trial in trials}
            with renewal.of(lambda: reporter.leases):  # noqa: B023
                for epoch in range(1, epochs + 1):
                    results = [result(number, epoch, epochs) for number in sorted(staying)]
                    staying -= reporter.report(results)
                    if not staying:
                        break
                outbox.wait(60)
            reporter.close()


def result(number: int, epoch: int, epochs: int) -> EpochResult:
    value = loss(number, epoch)
    status: Literal["training", "finished"] = "finished" if epoch == epochs else "training"
    return EpochResult(number, epoch, 0, value, value, 0.5, 0.0, 0.0, status, epoch)


def optimize(url: str, name: str, trials: int, epochs: int, barrier: Barrier) -> int:
    """A loop over Optuna that does not train; gives how many statements it took."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url)  # as anyone opens it
    statements = Statements(storage.engine)
    study = optuna.load_study(
        study_name=name,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )

    def objective(trial: optuna.Trial) -> float:
        for parameter in ("lr", "weight_decay"):
            domain = SPEC["space"][parameter]
            trial.suggest_float(parameter, domain["low"], domain["high"], log=True)
        trial.suggest_float("momentum", 0.0, 0.9)
        trial.suggest_categorical("batch_size", [64])
        for epoch in range(1, epochs + 1):
            value = loss(trial.number, epoch)
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    barrier.wait()
    study.optimize(objective, n_trials=trials)
    return statements.count


def together(
    count: int, function: Callable[..., int], arguments: Callable[[int], tuple[Any, ...]]
) -> tuple[float, int]:
    """Seconds from the moment at which `count` processes are ready, and their statements."""
    barrier, answers = PROCESSES.Barrier(count + 1), PROCESSES.SimpleQueue()
    processes = [
        PROCESSES.Process(target=_put, args=(answers, function, *arguments(place), barrier), daemon=True)
        for place in range(count)
    ]
    for process in processes:
        process.start()
    barrier.wait(timeout=120)
    start, statements = time.perf_counter(), 0
    for _ in processes:
        answer = answers.get()
        if answer is None:
            sys.exit("a worker failed")
        statements += answer
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return seconds, statements


def _put(answers: Any, function: Callable[..., int], *arguments: object) -> None:
    answer = None
    try:
        answer = function(*arguments)
    finally:
        answers.put(answer)


def with_hpo(storage: Storage, artifacts: Path, workers: int, trials: int, epochs: int) -> Run:
    raw = {**SPEC, "name": f"overhead-{os.getpid()}", "search": {"trials": trials, "epochs": epochs}}
    start = time.perf_counter()
    study = create(storage, StudySpec.parse(raw, "benchmark"), "benchmark").study
    creation = time.perf_counter() - start
    seconds, statements = together(workers, serve, lambda _place: (study.name, epochs))
    run = _run(storage, study.name, creation + seconds, statements)
    remove(storage, study, artifacts)
    return run


def with_optuna(storage: Storage, workers: int, trials: int, epochs: int) -> Run:
    study = optuna.create_study(storage=storage.backend)
    shares = [len(range(place, trials, workers)) for place in range(workers)]
    opened = storage.url.render_as_string(hide_password=False), study.study_name
    seconds, statements = together(workers, optimize, lambda place: (*opened, shares[place], epochs))
    run = _run(storage, study.study_name, seconds, statements)
    optuna.delete_study(study_name=study.study_name, storage=storage.backend)
    return run


def most_of_optuna(storage: Storage) -> int:
    """How many workers of Optuna's the server has connections for."""
    with storage.transaction() as connection:
        most = int(connection.execute(text("SHOW max_connections")).scalar_one())
    return (most - OTHER_CONNECTIONS) // OPTUNA_CONNECTIONS


def _run(storage: Storage, name: str, seconds: float, statements: int) -> Run:
    ended = optuna.load_study(study_name=name, storage=storage.backend).trials
    if not all(trial.state.is_finished() for trial in ended):
        sys.exit(f"{name}: a trial has not ended")
    return Run(seconds, len(ended), sum(len(trial.intermediate_values) for trial in ended), statements)


def compared(runs: Mapping[str, Sequence[Run]]) -> list[float]:
    """Prints how many times as many trials a second ours end, and gives it for each run."""
    if "optuna" not in runs:
        print(f"{'':7} optuna: its workers need more connections than max_connections of this server")
        return []
    ratios = [ours.rate / theirs.rate for ours, theirs in zip(runs["hpo"], runs["optuna"], strict=True)]
    middle = statistics.median(ratios)
    print(f"{'':7} hpo / optuna: median {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", default="1,4,16,64", help="how many (default 1,4,16,64)")
    parser.add_argument("--trials", type=int, default=256, help="of a study (default 256)")
    parser.add_argument("--epochs", type=int, default=10, help="reports of a trial (default 10)")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="16 trials, 2 workers, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.workers, options.trials, options.runs = "2", 16, 1
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = Settings.from_environment()
    storage = open_storage(settings)
    found = {}
    print(f"{options.trials} trials of {options.epochs} epochs; {hardware.line()}; n = {options.runs}")
    print(
        f"{'workers':>7} {'':8}{'trials/s':>10}{'min':>8}{'max':>8}{'ms/trial':>10}{'statements/trial':>18}"
    )
    for workers in map(int, options.workers.split(",")):
        runs: dict[str, list[Run]] = {"hpo": []}
        if workers <= most_of_optuna(storage):
            runs["optuna"] = []
        for _ in range(options.runs):
            size = (workers, options.trials, options.epochs)
            if "optuna" in runs:
                runs["optuna"].append(with_optuna(storage, *size))
            runs["hpo"].append(with_hpo(storage, settings.artifacts_path, *size))
        for way, those in runs.items():
            rates = [run.rate for run in those]
            cost = statistics.median(1000 * workers * run.seconds / run.trials for run in those)
            statements = statistics.median(run.statements / run.trials for run in those)
            print(
                f"{workers:7} {way:8}{statistics.median(rates):10.1f}{min(rates):8.1f}{max(rates):8.1f}"
                f"{cost:10.1f}{statements:18.1f}"
            )
        found[workers] = {
            "ratios": compared(runs),
            **{way: [vars(run) for run in those] for way, those in runs.items()},
        }
    if options.json:
        options.json.write_text(json.dumps({"workers": found, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
