"""The searches that are replayed on curve tables, by hpo and by Optuna alone."""

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

from benchmarks.command import LENET_FILE
from hpo.search import effective_lr
from hpo.search.pruners.registry import PRUNERS
from hpo.search.pruners.rungs import RungSection
from hpo.search.samplers.distributions import distributions
from hpo.simulate.curve_table import CurveTable, read
from hpo.simulate.replay import Replay, replay_search, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_url
from hpo.study.schedule import WIDTH
from hpo.values.epoch import VALIDATION_LOSS

EPOCHS, TRIALS = 5, 28
COST = TRIALS * EPOCHS
"""Candidate-epochs of the paper's search."""

REDUCTION = RungSection.model_fields["reduction"].default
SAMPLERS = ("random", "tpe", "gp")
"""Samplers whose regret is in docs/search.md. `benchmarks.samplers` compares all samplers."""

OPTUNA_SAMPLERS, OPTUNA_PRUNERS = ("random", "tpe"), ("none", "median", "asha", "hyperband")
"""Samplers and pruners that Optuna has too. `_optuna_replay` makes them."""

CHUNK = 5
"""Seeds that one process replays in a row, on a table that it reads once."""

Results = Callable[[], list[Any]]
"""Wait for the results of all seeds of a policy."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A sampler with a pruner, and a budget.

    A search ends after `cost` candidate-epochs or `trials` trials. `trials` None: all cells of the space.
    """

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
        spec = StudySpec.load(LENET_FILE)
        changes = {
            "sampler": {"name": self.sampler},
            "pruner": {"name": self.pruner},
            "search": {"trials": self.trials or spec.space.cells, "epochs": EPOCHS},
            "stop": {"epochs": self.cost},
        }
        return StudySpec.parse(spec.to_json() | changes, "benchmark")


def policy(sampler: str, pruner: str, cost: int = COST) -> Policy:
    """Return a policy of a cost. Without a pruner, the budget is a number of trials, as in the published
    study."""
    return Policy(sampler, pruner, cost, trials=cost // EPOCHS if pruner == "none" else None)


PAPER, DEFAULT, TWICE = policy("random", "none"), policy("gp", "pause"), policy("random", "none", 2 * COST)
POLICIES = [
    *(policy(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS),
    *(policy("random", pruner, 2 * COST) for pruner in OPTUNA_PRUNERS),
]


@contextmanager
def held_out(path: Path) -> Iterator[None]:
    """Set the typical effective learning rate from the tables beside this one only.

    hpo's own constant was chosen with a look at both tables. A replay must not profit from the table it is
    tested on.
    """
    with patch.object(effective_lr, "TYPICAL", typical_of_other_tables(path)):
        yield


def typical_of_other_tables(path: Path) -> float:
    """Return the geometric mean of the effective learning rates of the ten best cells of each other table."""
    space = StudySpec.load(LENET_FILE).space
    points = [space.point_at(number) for number in range(space.cells or 0)]
    best = []
    for other in {*path.parent.glob("*.csv.gz")} - {path}:
        table = read(other)
        ranked = sorted(points, key=lambda point: table.cost(point, EPOCHS))
        rates = [effective_lr.effective_lr(space, point) for point in ranked[:10]]
        best += [rate for rate in rates if rate is not None]
    return geometric_mean(best) if best else effective_lr.TYPICAL


_storages: list[Storage] = []
"""The storage of a process of the pool."""


@contextmanager
def pool() -> Iterator[ProcessPoolExecutor]:
    """Yield a process of one thread per core, all with one scratch server.

    A server takes as long to start as two searches.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with scratch_storage() as storage:
        url = storage.url.render_as_string(hide_password=False)
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _open, (url,)) as processes:
            yield processes


def _open(url: str) -> None:
    _storages.append(open_url(make_url(url)))


def storage() -> Storage:
    """Return the storage of the pool. Only in a process of the pool."""
    return _storages[0]


def replays(path: Path, policy: Policy, seeds: Sequence[int]) -> list[Replay]:
    """Replay a policy on a table under some seeds. Only in a process of the pool."""
    table, spec = read(path), policy.spec
    table.check(spec.space, EPOCHS, str(path))
    with held_out(path):
        return [
            replay_search(
                storage(), spec.model_copy(update={"seed": seed}), table, policy.workers, policy.width
            )
            for seed in seeds
        ]


def optuna_replays(path: Path, policy: Policy, seeds: Sequence[int]) -> list[tuple[float, int]]:
    """Run a policy by Optuna alone, one trial at a time.

    Returns (regret of the best trial, candidate-epochs) for each seed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = read(path)
    return [_optuna_replay(table, policy, seed) for seed in seeds]


def _optuna_replay(table: CurveTable, policy: Policy, seed: int) -> tuple[float, int]:
    samplers: dict[str, BaseSampler] = {"random": RandomSampler(seed), "tpe": TPESampler(seed=seed)}
    pruners: dict[str, BasePruner] = {
        "none": NopPruner(),
        "median": MedianPruner(n_startup_trials=5, n_warmup_steps=0),
        "asha": SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
        "hyperband": HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=REDUCTION),
    }
    space = distributions(policy.spec.space)
    # Optuna's Hyperband draws the bracket of a trial from the name of the study.
    study = optuna.create_study(
        study_name=f"seed {seed}", sampler=samplers[policy.sampler], pruner=pruners[policy.pruner]
    )
    spent = 0
    for number in range(TRIALS):
        trial, state = study.ask(space), TrialState.COMPLETE
        for epoch, measured in enumerate(table.run(trial.params, seed + number)[:EPOCHS], 1):
            spent += 1
            if not measured.is_finite:
                state = TrialState.FAIL
                break
            trial.report(measured.metrics[VALIDATION_LOSS], epoch)
            if epoch < EPOCHS and trial.should_prune():
                state = TrialState.PRUNED
                break
        study.tell(trial, measured.metrics[VALIDATION_LOSS] if state == TrialState.COMPLETE else None, state)
    return table.regret(study.best_params, EPOCHS), spent


def start(
    pool: ProcessPoolExecutor, work: Callable[..., list[Any]], path: Path, policy: Policy, seeds: int
) -> Results:
    """Submit `work(path, policy, chunk)` for seeds 0, 1, 2, ... in chunks.

    The results come in the order of the seeds.
    """
    chunks = [range(first, min(first + CHUNK, seeds)) for first in range(0, seeds, CHUNK)]
    futures = [pool.submit(work, path, policy, chunk) for chunk in chunks]
    return lambda: [result for future in futures for result in future.result()]
