"""Searches on tables of curves: which there are, and how they are carried out by us and by Optuna alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean
from typing import Any
from unittest.mock import patch

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy import make_url

from benchmarks.command import LENET
from hpo.search import effective_lr
from hpo.search.pruners.section import PrunerSection
from hpo.search.samplers.distributions import distributions
from hpo.simulate.curve_table import read
from hpo.simulate.replay import Replay, replay, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_url
from hpo.study.schedule import WIDTH

EPOCHS, TRIALS = 5, 28
COST = TRIALS * EPOCHS
"""Candidate-epochs of the paper's search."""

REDUCTION = PrunerSection().reduction
SAMPLERS, PRUNERS = ("random", "tpe", "gp"), ("none", "median", "asha", "hyperband", "pause")
OPTUNAS = PRUNERS[:-1]
"""Those that Optuna has too."""

CHUNK = 5
"""Replays in a row of one process."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A search that ends after `cost` candidate-epochs, or once its `trials` are through; None: all cells."""

    sampler: str
    pruner: str
    cost: int = COST
    trials: int | None = None
    workers: int = 1
    width: int = WIDTH

    @property
    def name(self) -> str:
        twice = ", twice the cost" if self.cost > COST else ""
        return f"{self.sampler}, {self.pruner}{twice}"

    @property
    def spec(self) -> StudySpec:
        spec = StudySpec.load(LENET)
        changes = {
            "sampler": {"name": self.sampler},
            "pruner": {"name": self.pruner},
            "search": {"trials": self.trials or spec.space.cells, "epochs": EPOCHS},
            "stop": {"epochs": self.cost},
        }
        return StudySpec.parse(spec.to_json() | changes, "benchmark")


def policy(sampler: str, pruner: str, cost: int = COST) -> Policy:
    """Without a pruner a trial costs all its epochs: there the budget is one of trials, as in the paper."""
    return Policy(sampler, pruner, cost, trials=cost // EPOCHS if pruner == "none" else None)


PAPER, DEFAULT, TWICE = policy("random", "none"), policy("gp", "pause"), policy("random", "none", 2 * COST)
POLICIES = [
    *(policy(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS),
    *(policy("random", pruner, 2 * COST) for pruner in OPTUNAS),
]


@contextmanager
def without(path: Path) -> Iterator[None]:
    """As if we knew a good length of a step from the tables beside this one, and had not seen this one."""
    with patch.object(effective_lr, "TYPICAL", step_of_others(path)):
        yield


def step_of_others(path: Path) -> float:
    """The length, in the geometric mean, in the ten best cells of each other table beside it."""
    space = StudySpec.load(LENET).space
    points = [space.point_at(place) for place in range(space.cells or 0)]
    best = []
    for other in {*path.parent.glob("*.csv.gz")} - {path}:
        table = read(other)
        ranked = sorted(points, key=lambda point: table.loss(point, EPOCHS))
        best += [effective_lr.effective_lr(point) for point in ranked[:10]]
    return geometric_mean(best) if best else effective_lr.TYPICAL


_storages: list[Storage] = []
"""In a process of the pool, the one storage of it."""


@contextmanager
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process for each core, with one thread, on one scratch server for all: its start takes as long as
    two searches."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with scratch_storage() as storage:
        url = storage.url.render_as_string(hide_password=False)
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _open, (url,)) as processes:
            yield processes


def _open(url: str) -> None:
    _storages.append(open_url(make_url(url)))


def storage() -> Storage:
    """That of the pool, in one of its processes."""
    return _storages[0]


def replays(path: Path, of: Policy, seeds: Sequence[int]) -> list[Replay]:
    """In a process of the pool."""
    table, spec = read(path), of.spec
    table.check(spec.space, EPOCHS, str(path))
    with without(path):
        return [
            replay(storage(), spec.model_copy(update={"seed": seed}), table, of.workers, of.width)
            for seed in seeds
        ]


def by_optuna(path: Path, of: Policy, seeds: Sequence[int]) -> list[tuple[float, int]]:
    """(regret of the best, candidate-epochs) of the same search by Optuna alone, a trial at a time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table, space = read(path), distributions(of.spec.space)
    found = []
    for seed in seeds:
        samplers: dict[str, BaseSampler] = {"random": RandomSampler(seed), "tpe": TPESampler(seed=seed)}
        pruners: dict[str, BasePruner] = {
            "none": NopPruner(),
            "median": MedianPruner(n_startup_trials=5, n_warmup_steps=0),
            "asha": SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
            "hyperband": HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=REDUCTION),
        }
        # Its Hyperband draws the bracket of a trial from the name of the study.
        study = optuna.create_study(
            study_name=f"seed {seed}", sampler=samplers[of.sampler], pruner=pruners[of.pruner]
        )
        spent = 0
        for number in range(TRIALS):
            trial, state = study.ask(space), TrialState.COMPLETE
            for epoch, one in enumerate(table.run(trial.params, seed + number)[:EPOCHS], 1):
                spent += 1
                if not one.is_finite:
                    state = TrialState.FAIL
                    break
                trial.report(one.validation_loss, epoch)
                if epoch < EPOCHS and trial.should_prune():
                    state = TrialState.PRUNED
                    break
            study.tell(trial, one.validation_loss if state == TrialState.COMPLETE else None, state)
        found.append((table.regret(study.best_params, EPOCHS), spent))
    return found


def start(
    pool: ProcessPoolExecutor, work: Callable[..., list[Any]], path: Path, of: Policy, seeds: int
) -> Callable[[], list[Any]]:
    """Work on so many seeds, in chunks; gives what waits for the results, in the order of the seeds."""
    chunks = [range(first, min(first + CHUNK, seeds)) for first in range(0, seeds, CHUNK)]
    waiting = [pool.submit(work, path, of, chunk) for chunk in chunks]
    return lambda: [one for future in waiting for one in future.result()]
