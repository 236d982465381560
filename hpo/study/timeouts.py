"""End the trials of a worker that shows no epoch."""

from dataclasses import dataclass

from optuna.trial import TrialState

from hpo.store import hand_backs, leases, results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study import lifecycle
from hpo.study.study import Study


@dataclass(frozen=True, slots=True)
class Timeout:
    """The numbers of the trials that failed, and of the trials that were handed back to run alone."""

    failed: tuple[int, ...] = ()
    handed_back: tuple[int, ...] = ()


def time_out(storage: Storage, study: Study, worker: str, minutes: float) -> Timeout:
    """Take away the trials of a worker that has trained for `minutes` without finishing an epoch.

    A trial that is alone fails. The trials of a pack run again, each alone. If the worker is still alive, it
    can write nothing more about these trials.
    """
    reason = f"timed out: no epoch in {minutes:g} minutes (limits.epoch_minutes)"
    with storage.transaction() as connection:
        held = leases.lock_of_worker(connection, worker)
        if len(held) > 1:
            hand_backs.hand_back(connection, held, reason)
            return Timeout(handed_back=tuple(held.values()))
        outcome = TrialOutcome(TrialState.FAIL, reason=reason)
        results.finish(connection, dict.fromkeys(held, outcome), worker)
    lifecycle.stop_broken_search(storage, study)
    return Timeout(failed=tuple(held.values()))
