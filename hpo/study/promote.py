"""Choosing search trials and queueing them for full training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError
from hpo.store import studies, trials
from hpo.store.connection import Storage
from hpo.store.trials import TRAINED, TrialRow
from hpo.study import lifecycle
from hpo.study.study import Study, current, full_seed


@dataclass(frozen=True, slots=True)
class Promotion:
    """`chosen`: the promoted search trials, best first; `added`: full trainings that were not queued yet."""

    chosen: tuple[TrialRow, ...]
    added: int


def best_of(trials: Iterable[TrialRow], k: int) -> list[TrialRow]:
    """The k completed trials of least validation loss, best first; the earlier trial wins a tie.

    Only trials that this service trained to their end count: those that others added or ended through Optuna
    lack the seed or the accuracy.
    """
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and trial.attributes.keys() >= TRAINED
    ]
    return sorted(complete, key=lambda trial: (trial.value, trial.number))[:k]


def promote(storage: Storage, study: Study) -> Promotion:
    """Queues the best trials of a finished search for full training, with each seed once.

    However often and by how many it is called, a search trial gets each of its seeds once. A search that was
    stopped is finished once all trials are that had begun; where full training is stopped too, nothing is
    promoted. Raises `ConflictError` while the search is not finished, and if none of its trials completed.
    """
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        studies.lock(connection, study.full_id)
        study = current(connection, study)
        spec = study.spec
        if lifecycle.read(connection, study, "full") is not None:
            # Or the best so far would be trained after what was a pause, and not the end of the search.
            return Promotion((), 0)
        rows = trials.read(connection, study.search_id)
        _check_over(connection, study, rows)
        chosen = best_of(rows, spec.promotion.top)
        if not chosen:
            raise ConflictError(f"study {study.name!r}: none of its {len(rows)} search trials completed")
        present = {
            (row.attributes.get("promoted_from"), row.attributes.get("seed"))
            for row in trials.read(connection, study.full_id)
        }
        wanted = [
            (row.point, {"promoted_from": row.number, "seed": full_seed(spec, place)})
            for row in chosen
            for place in range(spec.promotion.seeds)
        ]
        new = [(point, a) for point, a in wanted if (a["promoted_from"], a["seed"]) not in present]
        trials.enqueue(connection, study.full_id, spec.space, new)
    return Promotion(tuple(chosen), len(new))


def _check_over(connection: Connection, study: Study, rows: Sequence[TrialRow]) -> None:
    if lifecycle.read(connection, study, "search") is not None:
        if begun := trials.count_begun(connection, study.search_id):
            raise ConflictError(
                f"study {study.name!r}: the search is stopped, but {begun} of its trials have begun and are "
                f"not finished; finish them first: hpo workers {study.name}"
            )
    elif (missing := study.trials - sum(row.state.is_finished() for row in rows)) > 0:
        raise ConflictError(
            f"study {study.name!r}: {missing} of {study.trials} search trials are not finished; "
            f"finish the search first: hpo workers {study.name}"
        )
