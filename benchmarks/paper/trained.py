"""The full trainings of a stored study in figures, as far as they are finished."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from optuna.trial import TrialState

from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.history import TrialHistory, history
from hpo.study.promote import best_trials
from hpo.study.study import Study, full_seed
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS
from hpo.values.space import Point

CURVE = (TRAIN_LOSS, VALIDATION_LOSS, VALIDATION_ACCURACY)
"""The metrics of a learning curve."""


@dataclass(frozen=True, slots=True)
class Training:
    """One finished full training.

    `index`: which of the seeds of its study it has. `curve` has the `CURVE` metrics of each epoch. `seconds`
    are device seconds; `ended` is a date. `weights` names the artifact.
    """

    trial: int
    index: int
    accuracy: float
    loss: float
    kept_epoch: int
    epochs: int
    seconds: float
    device: str
    ended: str
    weights: str
    curve: Sequence[Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A study and what is finished of it.

    `params`: the promoted parameters, None before the promotion, but for a study with a single cell.
    `planned`: full trainings there will be. `failed`: the reasons of those that failed, or of the only search
    trial. `search`: figures of the search.
    """

    study: str
    recipe: dict[str, Any]
    params: Point | None
    trainings: Sequence[Training]
    planned: int
    failed: Sequence[str]
    search: dict[str, Any]

    @property
    def is_complete(self) -> bool:
        """Return whether no full training is still to come."""
        return len(self.trainings) + len(self.failed) >= self.planned

    @property
    def accuracies(self) -> list[float]:
        """Return the validation accuracies, one per seed."""
        return [training.accuracy for training in self.trainings]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_trained(storage: Storage, study: Study) -> Trained:
    """Return the full trainings of the best search trial, without those of other promoted trials, and without
    refits, which nothing validates."""
    rows = history(storage, study, with_epochs=True).trials
    search = [row.row for row in rows if row.stage == "search"]
    full = [row for row in rows if row.stage == "full" and row.row.record.refit_of is None]
    promoted = {row.row.record.promoted_from for row in full}
    ranked = best_trials(search, len(search), study.objective)
    best = next((row for row in ranked if row.number in promoted), None)
    own = [row for row in full if best is not None and row.row.record.promoted_from == best.number]
    spec = study.spec
    single = search[0] if spec.space.cells == len(search) == 1 else None
    ended = [single] if single is not None and not ranked else [row.row for row in own]
    indices = {full_seed(spec, index): index for index in range(spec.promotion.seeds)}
    return Trained(
        study=study.name,
        recipe=spec.to_json()["full"],
        params=getattr(best or single, "point", None),
        trainings=sorted(
            (_training(row, indices) for row in own if row.row.state == TrialState.COMPLETE),
            key=lambda training: training.index,
        ),
        planned=spec.promotion.seeds,
        failed=[str(row.record.reason) for row in ended if row.state == TrialState.FAIL],
        search=_search(rows, search, best),
    )


def _training(row: TrialHistory, indices: dict[int, int]) -> Training:
    record = row.row.record
    metrics = record.metrics or {}
    assert record.kept_epoch is not None
    return Training(
        trial=row.row.number,
        index=indices.get(record.seed, -1),
        accuracy=metrics[VALIDATION_ACCURACY],
        loss=metrics[VALIDATION_LOSS],
        kept_epoch=record.kept_epoch,
        epochs=row.epochs,
        seconds=row.times.seconds,
        device=record.device or "",
        ended="" if row.times.ended is None else row.times.ended.date().isoformat(),
        weights=record.weights or "",
        curve=[[epoch.metrics.get(name) for name in CURVE] for epoch in row.curve],
    )


def _search(
    rows: Sequence[TrialHistory], search: Sequence[TrialRow], best: TrialRow | None
) -> dict[str, Any]:
    trained = [row for row in rows if row.stage == "search"]
    return {
        "trials": len(search),
        "epochs": sum(row.epochs for row in trained),
        "seconds": sum(row.times.seconds for row in trained),
        "best": None if best is None else best.value,
    }


def best_points(storage: Storage, study: Study, count: int) -> list[Point]:
    """Return the parameters of the best completed search trials, best first."""
    rows = [row.row for row in history(storage, study, with_epochs=False).trials if row.stage == "search"]
    return [row.point for row in best_trials(rows, count, study.objective)]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation, which a single value does not have."""
    return fmean(values), stdev(values) if len(values) > 1 else None
