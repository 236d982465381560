"""Choosing search trials and queueing them for full training."""

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import TrialState

from hpo import catalog
from hpo.catalog import TrialRow
from hpo.errors import ConflictError
from hpo.storage import Storage
from hpo.study import Study, full_seed


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
        and {"seed", "accuracy"} <= trial.attributes.keys()
    ]
    return sorted(complete, key=lambda trial: (trial.value, trial.number))[:k]


def promote(storage: Storage, study: Study) -> Promotion:
    """Queues the best trials of a finished search for full training, with each seed once.

    However often and by how many it is called, a search trial gets each of its seeds once. Raises
    `ConflictError` while the search is not finished, and if none of its trials completed.
    """
    spec = study.spec
    with storage.transaction() as connection:
        catalog.lock_study(connection, study.search_id)
        catalog.lock_study(connection, study.full_id)
        rows = catalog.trials(connection, study.search_id)
        missing = spec.trials - sum(row.state.is_finished() for row in rows)
        if missing > 0:
            raise ConflictError(
                f"study {study.name!r}: {missing} of {spec.trials} search trials are not finished; "
                f"finish the search first: hpo workers {study.name}"
            )
        chosen = best_of(rows, spec.promotion.top)
        if not chosen:
            raise ConflictError(f"study {study.name!r}: none of its {len(rows)} search trials completed")
        present = {
            (row.attributes.get("promoted_from"), row.attributes.get("seed"))
            for row in catalog.trials(connection, study.full_id)
        }
        wanted = [
            (row.point, {"promoted_from": row.number, "seed": full_seed(spec, place)})
            for row in chosen
            for place in range(spec.promotion.seeds)
        ]
        new = [(point, a) for point, a in wanted if (a["promoted_from"], a["seed"]) not in present]
        catalog.enqueue(connection, study.full_id, spec.space, new)
    return Promotion(tuple(chosen), len(new))
