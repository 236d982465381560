"""Store a large study that nobody trained, to measure and look at what shows studies.

    python -m benchmarks.large_study --trials 5000 && time hpo report large

Trials go through the functions of the store that workers call: plan, claims, epochs, costs, ends, events.
"""

import math
from collections.abc import Mapping, Sequence

import click
import numpy as np
from optuna.trial import TrialState

from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, results
from hpo.store.connection import Storage, open_storage
from hpo.store.results import TrialOutcome
from hpo.study import schedule
from hpo.study.create import create
from hpo.study.schedule import ClaimRequest, LeasedTrial
from hpo.study.study import Study
from hpo.values.epoch import (
    TRAIN_LOSS,
    VALIDATION_ACCURACY,
    VALIDATION_ACCURACY_ERROR,
    VALIDATION_LOSS,
    VALIDATION_LOSS_ERROR,
    EpochResult,
    Metrics,
)
from hpo.values.space import Point

WORKERS, WIDTH = 8, 64
FAILED, PRUNED = 0.02, 0.6
"""Shares of the trials that fail, and that are pruned after two epochs."""


def main() -> None:
    """Run the command."""
    store_study()


@click.command()
@click.option("--name", default="large", show_default=True)
@click.option("--trials", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--epochs", type=click.IntRange(min=2), default=5, show_default=True)
def store_study(name: str, trials: int, epochs: int) -> None:
    """Store a study with this number of trials in the storage of the environment."""
    storage = open_storage(Settings.from_environment())
    study = create(storage, large_spec(name, trials, epochs), "large_study").study
    click.echo(f"{fill(storage, study)} trials in study {study.name}")


def large_spec(name: str, trials: int, epochs: int) -> StudySpec:
    """Return the spec of a study of LeNet with six searched parameters."""
    space = {
        "lr": {"low": 1e-4, "high": 1.0, "log": True},
        "batch_size": [16, 32, 64, 128],
        "momentum": {"low": 0.0, "high": 0.95},
        "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
        "optimizer": ["sgd", "adam"],
        "dropout": {"low": 0.0, "high": 0.5},
    }
    return StudySpec.parse(
        {
            "name": name,
            "model": {"name": "lenet"},
            "data": {"name": "digits"},
            "space": space,
            "sampler": {"name": "random"},
            "pruner": {"name": "asha"},
            "search": {"trials": trials, "epochs": epochs},
            "full": {"pretrain": {"epochs": 2}, "finetune": {"epochs": 1}},
        }
    )


def fill(storage: Storage, study: Study) -> int:
    """End all trials of a search in packs of several workers; return their number."""
    rng, count, turn = np.random.default_rng(0), 0, 0
    while True:
        worker = f"cpu/{turn % WORKERS}"
        leased = schedule.claim(storage, study, ClaimRequest(stage="search", worker=worker, width=WIDTH))
        if not leased:
            return count
        _end(storage, study, worker, leased, rng)
        count, turn = count + len(leased), turn + 1


def _end(
    storage: Storage, study: Study, worker: str, leased: Sequence[LeasedTrial], rng: np.random.Generator
) -> None:
    """Record the epochs of a pack and the ends of its trials in one transaction."""
    epochs = study.spec.search.epochs
    fates = {trial.lease.trial_id: rng.random() for trial in leased}
    lengths = {i: 2 if fate < FAILED + PRUNED else epochs for i, fate in fates.items()}
    curves = {trial.lease.trial_id: _curve(trial.point, epochs, rng) for trial in leased}
    with storage.transaction() as connection:
        for epoch in range(1, epochs + 1):
            reported = {
                i: EpochResult(i, epoch, curves[i][epoch - 1], 1.5, 0.2, "training", epoch)
                for i, length in lengths.items()
                if epoch <= length
            }
            results.report(connection, reported, study.objective, worker)
        seconds = {i: {"training": 1.5 * length, "evaluation": 0.2 * length} for i, length in lengths.items()}
        costs.charge(connection, seconds)
        outcomes = {i: _outcome(fates[i], length, curves[i]) for i, length in lengths.items()}
        results.finish(connection, outcomes, worker, "cpu")


def _outcome(fate: float, epochs: int, curve: Sequence[Metrics]) -> TrialOutcome:
    if fate < FAILED:
        return TrialOutcome(TrialState.FAIL, epochs=epochs, reason="its loss was not finite")
    state = TrialState.PRUNED if fate < FAILED + PRUNED else TrialState.COMPLETE
    metrics = curve[epochs - 1]
    return TrialOutcome(state, metrics[VALIDATION_LOSS], epochs=epochs, kept_epoch=epochs, metrics=metrics)


def _curve(point: Point, epochs: int, rng: np.random.Generator) -> list[Metrics]:
    """Return the metrics of a curve that falls as a power of the epoch; its height follows from the point."""
    distance = abs(math.log10(point["lr"]) + 2.0) + 0.3 * abs(point.get("momentum", 0.5) - 0.8)
    height = 0.3 + 0.4 * distance**1.5 + 0.1 * (point["optimizer"] == "adam") + 0.5 * point["dropout"] ** 2
    losses = [height * epoch**-0.4 * math.exp(0.05 * rng.standard_normal()) for epoch in range(1, epochs + 1)]
    return [_metrics(loss) for loss in losses]


def _metrics(loss: float) -> Mapping[str, float]:
    accuracy = math.exp(-loss)
    return {
        TRAIN_LOSS: 0.9 * loss,
        VALIDATION_LOSS: loss,
        VALIDATION_LOSS_ERROR: 0.02 * loss,
        VALIDATION_ACCURACY: accuracy,
        VALIDATION_ACCURACY_ERROR: math.sqrt(accuracy * (1 - accuracy) / 5000),
    }


if __name__ == "__main__":
    main()
