"""What several real processes do to one database. They import no torch, and start within milliseconds."""

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
from hpo.store.results import TrialOutcome
from hpo.store.server import start_server
from hpo.study import lifecycle
from hpo.study.fork import fork
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial, claim, is_finished
from hpo.study.study import create, load
from hpo.values.space import Point

T = TypeVar("T")

PROCESSES = multiprocessing.get_context("forkserver")
# All that they import, the parts that SQLAlchemy and Optuna import late included, is imported once.
PROCESSES.set_forkserver_preload(["pytest", "hpo.study.promote", "alembic.command", "psycopg2.extras"])

_barrier: Barrier


def _meet_at(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _call(function: Callable[..., T], arguments: Sequence[Any], place: int) -> T:
    _barrier.wait(timeout=60)
    return function(*arguments, place)


def at_once(count: int, function: Callable[..., T], *arguments: object) -> list[T]:
    """What `function(*arguments, place)` gives in `count` processes that call it at the same moment."""
    barrier = PROCESSES.Barrier(count)
    with ProcessPoolExecutor(count, PROCESSES, initializer=_meet_at, initargs=(barrier,)) as pool:
        calls = [pool.submit(_call, function, arguments, place) for place in range(count)]
        return [call.result(timeout=120) for call in calls]


def loss(point: Point) -> float:
    """What a trial of the tests gives: a function of its point, least at the largest lr."""
    return round(1 / (1 + point["lr"]) + point["momentum"] / 10 + point["weight_decay"], 9)


def expire(storage: Storage, worker: str = "%") -> None:
    """Lets leases run out, on a server that may have started just now."""
    with storage.transaction() as connection:
        connection.execute(
            text(
                "UPDATE hpo.lease SET seconds = 0, expires = now() - interval '1 second' "
                "WHERE worker LIKE :worker"
            ),
            {"worker": worker},
        )


def tables(url: URL, _place: int) -> set[str]:
    """The tables of a storage that this process opens."""
    storage = open_url(url)
    look = inspect(storage.engine)
    return {*look.get_table_names(), *(f"hpo.{name}" for name in look.get_table_names("hpo"))}


def embedded(folder: Path, place: int) -> URL:
    """The URL of the embedded server in `folder`, to whose storage this process adds a worker."""
    url = start_server(folder)
    with open_url(url).transaction() as connection:
        connection.execute(
            insert(schema.workers).values(name=str(place), study="none", device="cpu", expires=func.now())
        )
    return url


def create_study(url: URL, raw: Mapping[str, Any], _place: int) -> tuple[str, int, str]:
    """What the creation did, the number of the search study, the study's key."""
    creation = create(open_url(url), StudySpec.parse(raw, "test"), "test")
    return creation.did, creation.study.search_id, creation.study.key


def fork_study(url: URL, old: str, raw: Mapping[str, Any], _place: int) -> tuple[str, int, int]:
    """What the fork did, the number of its search study, how many trials it inherited."""
    storage = open_url(url)
    creation = fork(storage, load(storage, old), StudySpec.parse(raw, "test"), "test").creation
    return creation.did, creation.study.search_id, creation.study.inherited


def promote_study(url: URL, name: str, _place: int) -> int:
    """The number of full trainings that this process added."""
    storage = open_url(url)
    return promote(storage, load(storage, name)).added


def reap_study(url: URL, name: str, _place: int) -> list[int]:
    """The search trials, by id, that this process puts back into the queue."""
    storage = open_url(url)
    study = load(storage, name)
    with storage.transaction() as connection:
        return leases.reap(connection, study.search_id)


@dataclass(frozen=True)
class Share:
    """The claims of one process, in order."""

    packs: tuple[tuple[LeasedTrial, ...], ...]


def serve(url: URL, name: str, width: int, place: int) -> Share:
    """Claims and finishes search trials, without training, until none is left."""
    storage = open_url(url)
    study, packs = load(storage, name), []
    while not is_finished(storage, study, "search"):
        trials = claim(storage, study, "search", f"worker-{place}", width)
        with storage.transaction() as connection:
            held = leases.hold(connection, [trial.lease for trial in trials])
            assert held == {trial.lease.trial_id for trial in trials}
            for trial in trials:
                results.finish(
                    connection,
                    {
                        trial.lease.trial_id: TrialOutcome(
                            TrialState.COMPLETE, loss(trial.point), {"accuracy": 0.5}
                        )
                    },
                )
        if trials:
            packs.append(tuple(trials))
    return Share(tuple(packs))


def serve_or_fork(url: URL, old: str, raw: Mapping[str, Any], place: int) -> tuple[str, int, int] | Share:
    """The first process forks the study that the others serve."""
    return serve(url, old, 2, place) if place else fork_study(url, old, raw, place)


def serve_or_stop(url: URL, name: str, place: int) -> int | Share:
    """The first process stops the study that the others serve; it gives how many trials had begun by then."""
    if place:
        return serve(url, name, 2, place)
    storage = open_url(url)
    study = load(storage, name)
    lifecycle.stop(storage, study)
    with storage.transaction() as connection:
        open_still = trials.count(connection, study.search_id, (TrialState.WAITING,))
        return trials.count(connection, study.search_id) - open_still


def stop_inside_claim(url: URL, name: str, inside: Event) -> None:
    """Claims, and stays between the giving of the leases and the commit until it is killed."""
    give = leases.grant

    def give_and_stay(*arguments: Any) -> dict[int, Lease]:
        give(*arguments)
        inside.set()
        _stay()

    storage = open_url(url)
    with patch.object(leases, "grant", give_and_stay):
        claim(storage, load(storage, name), "search", "killed", 8)


def _stay() -> NoReturn:
    while True:
        PROCESSES.Event().wait()
