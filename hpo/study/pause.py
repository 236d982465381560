"""Trials that pause at the rungs of the pruner `pause`, and which of them go on.

A trial that has come to a rung leaves its pack with a checkpoint, and waits until it is among the best of
those that came so far, by how all of them are expected to end. So none goes on only because it was early,
and one that looked bad beside few may come back, which a pruned one cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.effective_lr import effective_lr
from hpo.search.learning_curves import log_losses, predict_final_losses
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.results import TrialCurve, TrialOutcome
from hpo.store.trials import PAUSED, TrialRow
from hpo.study.study import Study


def rungs_of(spec: StudySpec) -> tuple[int, ...]:
    """The epochs after which trials of the search pause: the first rung, and each time twice as many."""
    return spec.make_pruner().pause_epochs


def is_paused(row: TrialRow) -> bool:
    """Not one that was ended by other means meanwhile, as the dashboard can."""
    return row.state == TrialState.WAITING and PAUSED in row.attributes


@dataclass(frozen=True, slots=True)
class Runner:
    """A trial that has shown epochs: how many, and the logarithm of the loss that is expected in the end."""

    row: TrialRow
    reached: int
    expected: float


def runners(study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]) -> list[Runner]:
    """Those of a search's trials."""
    spec = study.spec
    known = [
        (row, curve)
        for row in rows
        if row.state != TrialState.FAIL
        and row.point in spec.space
        and (curve := log_losses(curves[row.trial_id].losses)).size
    ]
    if not known:
        return []
    steps = [effective_lr(row.point) for row, _ in known]
    ends, _ = predict_final_losses([curve for _, curve in known], steps, spec.search.epochs)
    return [Runner(row, len(curve), end) for (row, curve), end in zip(known, ends.tolist(), strict=True)]


def going_on(study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]) -> list[TrialRow]:
    """The paused ones of a search's trials that are to go on by now, best first, all of one rung.

    None before as many trials as the sampler begins with have shown an epoch, or ended, but for half of a
    budget of epochs: the best of a few is worth no more than a new one.
    """
    spec = study.spec
    pruner = spec.make_pruner()
    heard = sum(bool(one.losses) or one.state.is_finished() for one in curves.values())
    enough = min(spec.sampler.startup, study.trials)
    if spec.stop.epochs is not None:
        enough = min(enough, max(1, spec.stop.epochs // (2 * spec.pruner.min_epochs)))
    if not pruner.pause_epochs or heard < enough:
        return []
    known = runners(study, rows, curves)
    reached, ends = [one.reached for one in known], [one.expected for one in known]
    for places in pruner.resumable(reached, ends):
        if chosen := [known[place].row for place in places if is_paused(known[place].row)]:
            return chosen
    return []


def still_wanted(study: Study, rows: Sequence[TrialRow], curves: Mapping[int, TrialCurve]) -> list[TrialRow]:
    """The paused trials that are to go on though nothing new comes, best first: where fewer have completed
    than are to be trained in full."""
    completed = sum(row.state == TrialState.COMPLETE for row in rows)
    paused = [one for one in runners(study, rows, curves) if is_paused(one.row)]
    paused.sort(key=lambda one: one.expected)
    return [one.row for one in paused[: max(0, study.spec.promotion.top - completed)]]


def end(connection: Connection, study: Study) -> None:
    """Ends all paused trials of a search, which must be locked, as pruned: none of them will go on."""
    paused = trials.paused(connection, study.search_id)
    if not paused:
        return
    endings = {}
    for trial_id, figures in results.epoch_metrics(connection, paused).items():
        noted = {
            "accuracy": figures.validation_accuracy,
            **dict.fromkeys(("kept_epoch", "epochs"), paused[trial_id]),
        }
        endings[trial_id] = TrialOutcome(TrialState.PRUNED, figures.validation_loss, noted, paused[trial_id])
    results.finish(connection, endings)
    trials.unset_attribute(connection, list(paused), PAUSED)
