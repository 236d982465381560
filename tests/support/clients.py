"""Several real processes as clients of one database. They import no torch and start within milliseconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from unittest.mock import patch

from optuna.trial import TrialState
from sqlalchemy import URL, func, insert, inspect, text

from hpo.spec.study_spec import StudySpec
from hpo.store import leases, results, schema, trials
from hpo.store.connection import Storage, open_url
from hpo.store.leases import Lease
from hpo.store.server import start_server
from hpo.study import lifecycle
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.stored import load
from support.claims import claim
from support.outcomes import loss, trained

T = TypeVar("T")

PROCESSES = multiprocessing.get_context("forkserver")
# The fork server imports these once for all clients. The last two are what Optuna and SQLAlchemy import late.
PROCESSES.set_forkserver_preload(["pytest", "hpo.study.promote", "alembic.command", "psycopg2.extras"])

_barrier: Barrier


def _meet_at(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _call(function: Callable[..., T], arguments: Sequence[Any], index: int) -> T:
    _barrier.wait(timeout=60)
    return function(*arguments, index)


def at_once(count: int, function: Callable[..., T], *arguments: object) -> list[T]:
    """Call `function(*arguments, index)` in `count` processes at once. Return the results by index."""
    barrier = PROCESSES.Barrier(count)
    with ProcessPoolExecutor(count, PROCESSES, initializer=_meet_at, initargs=(barrier,)) as pool:
        calls = [pool.submit(_call, function, arguments, index) for index in range(count)]
        return [call.result(timeout=120) for call in calls]


def expire_leases(storage: Storage, worker: str = "%") -> None:
    """End the leases of the workers whose names match the SQL pattern `worker`.

    A server that has just started grants each lease its full length again, so the length becomes 0 as well.
    """
    with storage.transaction() as connection:
        connection.execute(
            text(
                "UPDATE hpo.lease SET seconds = 0, expires = now() - interval '1 second' "
                "WHERE worker LIKE :worker"
            ),
            {"worker": worker},
        )


def table_names(url: URL, _index: int) -> set[str]:
    """Open a storage and return the names of its tables."""
    storage = open_url(url)
    inspector = inspect(storage.engine)
    return {*inspector.get_table_names(), *(f"hpo.{name}" for name in inspector.get_table_names("hpo"))}


def use_embedded_server(folder: Path, index: int) -> URL:
    """Open the embedded server in `folder`, add a worker to its storage and return the server's URL."""
    url = start_server(folder)
    with open_url(url).transaction() as connection:
        connection.execute(
            insert(schema.workers).values(name=str(index), study="none", device="cpu", expires=func.now())
        )
    return url


def create_study(url: URL, raw: Mapping[str, Any], _index: int) -> tuple[str, int, str]:
    """Create a study; return what the creation did, the search study's id and the study's key."""
    creation = create(open_url(url), StudySpec.parse(raw, "test"), "test")
    return creation.did, creation.study.search_id, creation.study.key


def fork_study(url: URL, old: str, raw: Mapping[str, Any], _index: int) -> tuple[str, int, int]:
    """Fork a study; return what the fork did, its search study's id and its number of inherited trials."""
    storage = open_url(url)
    creation = fork(storage, load(storage, old), StudySpec.parse(raw, "test"), "test").creation
    return creation.did, creation.study.search_id, creation.study.inherited


def promote_study(url: URL, name: str, _index: int) -> int:
    """Promote a study; return the number of trials that this process queued."""
    storage = open_url(url)
    return promote(storage, load(storage, name)).queued


def reap_study(url: URL, name: str, _index: int) -> list[int]:
    """Reap overdue leases; return the ids of the search trials that this process put back into the queue."""
    storage = open_url(url)
    study = load(storage, name)
    with storage.transaction() as connection:
        return leases.reap(connection, study.search_id)


@dataclass(frozen=True)
class Claims:
    """The packs that one process claimed, in order."""

    packs: tuple[tuple[LeasedTrial, ...], ...]


def run_trials(url: URL, name: str, width: int, index: int) -> Claims:
    """Claim search trials and complete them without training, until the search is finished."""
    storage = open_url(url)
    study, packs = load(storage, name), []
    while not is_finished(storage, study, "search"):
        trials = claim(storage, study, "search", f"worker-{index}", width)
        with storage.transaction() as connection:
            held = leases.hold(connection, [trial.lease for trial in trials])
            assert held == {trial.lease.trial_id for trial in trials}
            for trial in trials:
                results.finish(
                    connection,
                    {trial.lease.trial_id: trained(loss(trial.point))},
                )
        if trials:
            packs.append(tuple(trials))
    return Claims(tuple(packs))


def fork_or_run_trials(
    url: URL, old: str, raw: Mapping[str, Any], index: int
) -> tuple[str, int, int] | Claims:
    """Fork the study in the process with index 0; run its trials in all others."""
    return run_trials(url, old, 2, index) if index else fork_study(url, old, raw, index)


def stop_or_run_trials(url: URL, name: str, index: int) -> int | Claims:
    """Stop the study in the process with index 0; run its trials in all others.

    The first process returns the number of trials that had begun when the study was stopped.
    """
    if index:
        return run_trials(url, name, 2, index)
    storage = open_url(url)
    study = load(storage, name)
    lifecycle.stop(storage, study)
    with storage.transaction() as connection:
        waiting = trials.count(connection, study.search_id, (TrialState.WAITING,))
        return trials.count(connection, study.search_id) - waiting


def hang_inside_claim(url: URL, name: str, inside: Event) -> None:
    """Claim, and hang between the granting of the leases and the commit until the process is killed."""
    grant = leases.grant

    def grant_and_hang(*arguments: Any) -> dict[int, Lease]:
        grant(*arguments)
        inside.set()
        _hang()

    storage = open_url(url)
    with patch.object(leases, "grant", grant_and_hang):
        claim(storage, load(storage, name), "search", "killed", 8)


def _hang() -> NoReturn:
    while True:
        PROCESSES.Event().wait()
