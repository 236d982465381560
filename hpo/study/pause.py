"""Paused trials of a search, and which of them resume.

With the pruner `pause` a trial that reaches a rung leaves its pack with a checkpoint. It resumes once its
predicted final loss is among the best of all trials that have reached the rung. No trial continues merely
because it reached the rung before others. A trial that first looked bad may still resume; a pruned trial
cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.effective_lr import effective_lr
from hpo.search.learning_curves import log_losses, predict_final_losses
from hpo.store import results, trials
from hpo.store.results import TrialCurve, TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.curves import losses_by
from hpo.study.study import Study


@dataclass(frozen=True, slots=True)
class Prediction:
    """A trial that has trained `epochs` epochs, and the log loss predicted for its last epoch."""

    row: TrialRow
    epochs: int
    log_loss: float


def predictions(study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]) -> list[Prediction]:
    """Return the predictions for all search trials that have trained an epoch and have not failed."""
    spec = study.spec
    losses_of = losses_by(study.objective, curves)
    trained = [
        (row, curve)
        for row in rows
        if row.state != TrialState.FAIL
        and row.point in spec.space
        and (curve := log_losses(losses_of(curves[row.trial_id]))).size
    ]
    if not trained:
        return []
    rates = [effective_lr(spec.space, row.point) for row, _ in trained]
    losses, _ = predict_final_losses([curve for _, curve in trained], rates, spec.search.epochs)
    return [
        Prediction(row, len(curve), loss) for (row, curve), loss in zip(trained, losses.tolist(), strict=True)
    ]


def resumable(study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]) -> list[TrialRow]:
    """Return the paused search trials to resume now, best first, all from one rung.

    No trial resumes before `sampler.startup` trials have trained an epoch or ended, because the best of a few
    trials is worth no more than a new trial. With `stop.epochs`, this number is at most the number of trials
    that half of that budget brings to the first rung.
    """
    spec = study.spec
    pruner = spec.make_pruner()
    if not pruner.pause_epochs:
        return []
    observed = sum(bool(curve.costs) or curve.state.is_finished() for curve in curves.values())
    needed = min(spec.sampler.startup, study.trials)
    if spec.stop.epochs is not None:
        needed = min(needed, max(1, spec.stop.epochs // (2 * pruner.pause_epochs[0])))
    if observed < needed:
        return []
    known = predictions(study, rows, curves)
    reached, losses = [trial.epochs for trial in known], [trial.log_loss for trial in known]
    for indices in pruner.resumable(reached, losses):
        if paused := [known[index].row for index in indices if known[index].row.is_paused]:
            return paused
    return []


def resumable_for_promotion(
    study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]
) -> list[TrialRow]:
    """Return the paused trials to resume at the end of a search, best first.

    Their number is at most `promotion.top` minus the number of completed trials without the baseline.
    """
    # The baseline completes whether it is promising or not.
    completed = sum(
        row.state == TrialState.COMPLETE and not study.spec.is_baseline(row.point) for row in rows
    )
    paused = [trial for trial in predictions(study, rows, curves) if trial.row.is_paused]
    paused.sort(key=lambda trial: trial.log_loss)
    return [trial.row for trial in paused[: max(0, study.spec.promotion.top - completed)]]


def prune_paused(connection: Connection, study: Study) -> None:
    """Prune all paused trials of a search, which must be locked."""
    paused = trials.paused(connection, study.search_id)
    if not paused:
        return
    outcomes = {}
    for trial_id, metrics in results.epoch_metrics(connection, paused, study.objective).items():
        epoch = paused[trial_id]
        outcomes[trial_id] = TrialOutcome(
            state=TrialState.PRUNED,
            value=study.objective.of(metrics),
            epochs=epoch,
            kept_epoch=epoch,
            metrics=metrics,
        )
    results.finish(connection, outcomes)
    # A trial without a recorded epoch starts over.
    trials.unpause(connection, paused.keys() - outcomes.keys())
