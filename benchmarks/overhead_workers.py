"""Worker processes that do all of the bookkeeping of a search and no training."""

import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.synchronize import Barrier
from typing import Any

import optuna
from sqlalchemy import Engine, event

from benchmarks.null_training import NullTraining
from hpo.artifacts.registry import open_artifacts
from hpo.settings import Settings
from hpo.store.connection import open_storage
from hpo.study.stored import load
from hpo.worker.context import WorkerSettings
from hpo.worker.runtime import Runtime, WorkerLimits
from hpo.worker.worker import Worker

WIDTH = 16
IDLE_SECONDS = 0.1
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
PROCESSES.set_forkserver_preload(["hpo.worker.worker", "alembic.command", "psycopg2.extras"])


def loss(number: int, epoch: int) -> float:
    """Return the loss of a trial after an epoch. It follows from the trial's number alone."""
    drawn = random.Random(number).random()
    return drawn + 1 / epoch


class StatementCounter:
    """Count the statements that an engine sends, with begin, commit and rollback."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        for name in ("before_cursor_execute", "begin", "commit", "rollback"):
            event.listen(engine, name, self._add)

    def _add(self, *_arguments: object) -> None:
        self.count += 1


def hpo_worker(name: str, epochs: int, barrier: Barrier) -> int:
    """Work on the search of a study as a worker of hpo does, and return the number of statements."""
    settings = Settings.from_environment()
    storage = open_storage(settings)
    statements = StatementCounter(storage.engine)
    study = load(storage, name)
    options = WorkerSettings(
        name=f"{name}-{os.getpid()}",
        device="cpu",
        artifacts=open_artifacts(settings, study.artifacts_name),
        width=WIDTH,
        fleet=barrier.parties - 1,
        trains_full=False,
    )
    limits = WorkerLimits(idle_seconds=IDLE_SECONDS)
    worker = Worker(storage, study, NullTraining(epochs, loss), options, Runtime(limits=limits))
    gc.freeze()  # as the command of a worker does
    barrier.wait()
    worker.run()
    return statements.count


def optuna_worker(url: str, name: str, trials: int, epochs: int, barrier: Barrier) -> int:
    """Run `study.optimize` on a study for some trials, and return the number of statements."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url)  # with Optuna's defaults, as its users open it
    statements = StatementCounter(storage.engine)
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


def run_together(
    count: int, function: Callable[..., int], arguments: Callable[[int], tuple[Any, ...]]
) -> tuple[float, int]:
    """Call a function in `count` processes at once. Returns (seconds, sum of the returned values).

    The arguments of a call follow from its index, and a barrier comes last. The clock starts when all
    processes have reached the barrier.
    """
    barrier, answers = PROCESSES.Barrier(count + 1), PROCESSES.SimpleQueue()
    processes = [
        PROCESSES.Process(target=_answer, args=(answers, function, *arguments(index), barrier), daemon=True)
        for index in range(count)
    ]
    for process in processes:
        process.start()
    barrier.wait(timeout=120)
    start, total = time.perf_counter(), 0
    for _ in processes:
        answer = answers.get()
        if answer is None:
            sys.exit("a worker failed")
        total += answer
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return seconds, total


def _answer(answers: Any, function: Callable[..., int], *arguments: object) -> None:
    answer = None
    try:
        answer = function(*arguments)
    finally:
        answers.put(answer)
