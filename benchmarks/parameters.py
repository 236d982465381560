"""Measure what more hyperparameters cost: time per candidate-epoch by optimizer, and the widths of packs.

One thread, LeNet on the mini part of EMNIST (HPO_DATA_DIR), packs of four, in turns. Times are CPU times, so
that other processes on the machine matter less:

operators   torch's operators
program     a compiled program

A row with "+ columns" searches label smoothing, dropout, a schedule and optional settings of the optimizer.
The ratio is that of a row's time to that of SGD without new columns in the same turn.

The widths are those of real searches of label smoothing, schedule and dropout, with SGD and with a searched
optimizer. One worker fills its packs, as on a GPU. A width is the number of members in an epoch of a pack.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.command import lenet_spec, parser
from benchmarks.results import Result, spread
from hpo.artifacts.folder import FolderStore
from hpo.settings import Settings
from hpo.simulate.replay import scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.study.create import create
from hpo.training.allocator import keep_freed_memory
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.kernels.operators import load as load_kernels
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.parameters import PackKey, with_defaults
from hpo.values.stage import Stage
from hpo.values.state import SessionState
from hpo.worker.context import WorkerContext, WorkerSettings
from hpo.worker.interruption import Interruption
from hpo.worker.pack_training import PackTraining
from hpo.worker.trainers import TrainerFactory
from hpo.worker.worker import Worker

WIDTH, BATCH_SIZE = 4, 64
COMMON = {"label_smoothing": 0.1, "dropout": 0.3, "schedule": "cosine"}
OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"nesterov": True},
    "adam": {"weight_decay": 1e-4, "beta1": 0.9, "beta2": 0.99},
    "adamw": {"beta1": 0.9, "beta2": 0.99},
}
BASELINE = "sgd"
SPACE: Mapping[str, Any] = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "batch_size": BATCH_SIZE,
    "label_smoothing": {"low": 0.0, "high": 0.2},
    "schedule": ["constant", "step", "cosine", "one-cycle"],
    "dropout": {"low": 0.1, "high": 0.6},
}

SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "plain": {name: SPACE[name] for name in ("lr", "batch_size")},
    "columns": SPACE,
    "columns and optimizer": {**SPACE, "optimizer": list(OPTIONAL)},
}


@dataclass(frozen=True, slots=True)
class Row:
    """A way to train: an optimizer, and the values of the columns in use beside its own."""

    optimizer: str
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.optimizer + " + columns" * bool(self.columns)

    def session(self, task: Task, engine: Engine, epochs: int) -> PackSession:
        """Return a session of a pack that trains by the engine, which is prepared first."""
        lr = 0.01 if self.optimizer == "sgd" else 1e-3
        params = with_defaults({"lr": lr, "optimizer": self.optimizer, **self.columns})
        budget = Budget("mini", (Phase(self.optimizer, epochs),), keep="last")
        recipe, runtime = Recipe(budget, BATCH_SIZE, 0, tuple(self.columns)), Runtime(clock=time.process_time)
        trainer = Trainer(task, recipe, engine, runtime)
        trainer.prepare()
        return trainer.start({key: Candidate(params, key) for key in range(WIDTH)})


ROWS = [Row(name, columns) for name in OPTIONAL for columns in ({}, {**COMMON, **OPTIONAL[name]})]


def measure_epochs(
    result: Result, rows: Sequence[Row], workload: Workload, images: int | None, programs: Path | None
) -> None:
    """Measure the training time of candidate-epochs, and compilations in an empty folder or in
    `programs`."""
    train, validation = workload.images("search", "cpu")
    if images is not None:
        parts = (train, validation)
        train, validation = (part.subset(torch.arange(min(images, len(part)))) for part in parts)
    task = Task(workload.factory, train, validation, workload.criterion)
    sessions: dict[str, dict[str, PackSession]] = {"operators": {}, "program": {}}
    heads = ("step", "compile seconds", "programs")
    table = result.table("Compilation, with the evaluation in the first row", heads, first=18)
    epochs = result.n + 2
    with tempfile.TemporaryDirectory() as name:
        folder = programs or Path(name)
        load_kernels(folder)
        for row in rows:
            before, start = _programs(folder), time.perf_counter()
            engine = CompiledEngine(workload.network, folder)
            sessions["program"][str(row)] = row.session(task, engine, epochs)
            seconds, compiled = time.perf_counter() - start, _programs(folder) - before
            result.values.setdefault("compilation", {})[str(row)] = [seconds, compiled]
            table.add(str(row), f"{seconds:.1f}", str(compiled))
            sessions["operators"][str(row)] = row.session(task, EagerEngine(), epochs)
        for engine_name, by_row in sessions.items():
            _add_table(result, engine_name, by_row)


def _programs(folder: Path) -> int:
    return len(list(folder.glob("lenet-*.so")))


def _add_table(result: Result, engine: str, sessions: Mapping[str, PackSession]) -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(result.n + 1):
        for row, session in sessions.items():
            spent = sum(entry.seconds for entry in session.epoch()) / WIDTH
            if turn:  # the first epoch warms up
                seconds[row].append(spent)
    heads = ("step", "ms per candidate-epoch", "ratio", "range")
    table = result.table(f"Training of a candidate-epoch, {engine}", heads, first=18)
    for row, values in seconds.items():
        ratios = [value / base for value, base in zip(values, seconds[BASELINE], strict=True)]
        ratio = result.median(f"{engine}, {row} / {BASELINE}", ratios)
        table.add(row, f"{1000 * median(values):.0f}", f"{ratio:.3f}", spread(ratios))
    result.values.setdefault("seconds", {})[engine] = seconds


Widths = dict[str, list[int]]
"""The numbers of members of each epoch, by optimizer."""


class RecordedSession(PackSession):
    """A session that notes its width at each epoch."""

    note: Callable[[int], None]

    def epoch(self) -> list[EpochResult]:
        self.note(len(self.members))
        return super().epoch()


@dataclass(frozen=True, slots=True)
class RecordedTrainer(Trainer):
    note: Callable[[int], None] = lambda _width: None

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> PackSession:
        session = RecordedSession(self.task, self.recipe, self.engine, self.runtime)
        session.note = self.note
        session.join(candidates, states or {})
        return session


class RecordedFactory(TrainerFactory):
    """A factory whose sessions note their widths in `widths`."""

    widths: Widths

    def make(self, stage: Stage, key: PackKey) -> Trainer:
        trainer = super().make(stage, key)
        note = self.widths[dict(key)["optimizer"]].append
        return RecordedTrainer(trainer.task, trainer.recipe, trainer.engine, trainer.runtime, note)


@dataclass(frozen=True, slots=True)
class RecordedTraining(PackTraining):
    widths: Widths = field(default_factory=lambda: defaultdict(list))

    def trainers(self, context: WorkerContext, interruption: Interruption) -> TrainerFactory:
        factory = RecordedFactory(context, self.workload, interruption, self.fused)
        factory.widths = self.widths
        return factory


def measure_widths(result: Result, specs: Mapping[str, StudySpec], workload: Workload, width: int) -> None:
    """Run the searches and add the widths of their packs by optimizer."""
    heads = ("search", "optimizer", "epochs", "mean width", "range", "candidate-epochs")
    table = result.table(f"Widths of packs, at most {width}", heads, first=22)
    for search, spec in specs.items():
        widths = widths_of(spec, workload, width)
        result.values.setdefault("widths", {})[search] = widths
        everything = [value for values in widths.values() for value in values]
        for name, values in (*sorted(widths.items()), *([("all", everything)] if len(widths) > 1 else ())):
            result.medians[f"mean width, {search}, {name}"] = mean(values)
            figures = (str(len(values)), f"{mean(values):.1f}", spread(values, 0), str(sum(values)))
            table.add(search, name, *figures)


def widths_of(spec: StudySpec, workload: Workload, width: int) -> Widths:
    """Run a search and return the widths of its packs."""
    training = RecordedTraining(workload)
    with scratch_storage() as storage, tempfile.TemporaryDirectory() as folder:
        study = create(storage, spec, "benchmark").study
        settings = WorkerSettings(
            "w", "cpu", FolderStore(Path(folder)), width=width, fills=True, trains_full=False
        )
        Worker(storage, study, training, settings).run()
    return dict(training.widths)


def parse_options() -> argparse.Namespace:
    options = parser(__doc__, quick="digits, one run, 500 images, six trials")
    options.add_argument("--runs", type=int, default=7, help="epochs of each row (default 7)")
    options.add_argument("--images", type=int, help="training images of an epoch (default: all of mini)")
    options.add_argument("--programs", type=Path, help="folder of programs that are compiled already")
    options.add_argument("--trials", type=int, default=64, help="trials of the search (default 64)")
    options.add_argument("--epochs", type=int, default=3, help="epochs of a trial (default 3)")
    options.add_argument("--width", type=int, default=16, help="the largest pack (default 16)")
    options.add_argument("--only", choices=("epochs", "widths"), help="measure only this")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.runs, arguments.images, arguments.trials, arguments.epochs = 1, 500, 6, 2
    return arguments


def search_of(arguments: argparse.Namespace, space: Mapping[str, Any]) -> StudySpec:
    """Return the study of a search, with the default sampler and pruner."""
    search = {"trials": arguments.trials, "epochs": arguments.epochs}
    changes: dict[str, Any] = {"space": space, "sampler": {}, "pruner": {}}
    spec = lenet_spec("parameters", arguments.quick, **changes)
    return spec.model_copy(update={"search": spec.search.model_copy(update=search)})


def main() -> None:
    arguments = parse_options()
    torch.set_num_threads(1)
    keep_freed_memory()
    result = Result.begin("parameters", "candidate-epochs of LeNet", arguments.runs)
    specs = {name: search_of(arguments, space) for name, space in SEARCHES.items()}
    workload = Workload.open(specs["columns"], Settings.from_environment())
    if arguments.only != "widths":
        rows = ROWS[:2] if arguments.quick else ROWS
        measure_epochs(result, rows, workload, arguments.images, arguments.programs)
    if arguments.only != "epochs":
        measure_widths(result, specs, workload, arguments.width)
    result.write(arguments.json)


if __name__ == "__main__":
    main()
