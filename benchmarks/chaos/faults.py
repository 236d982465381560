"""The faults: each a function that does the damage and sees to it that it ends."""

import math
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Mapping

from sqlalchemy import select, text

from benchmarks.chaos.server import Shutdown
from benchmarks.chaos.system import LEASE_SECONDS, System
from hpo.store import schema

QUOTA_BYTES = 4096

Fault = Callable[[System, random.Random], None]


def kill_worker(system: System, draw: random.Random) -> None:
    """SIGKILL; measures how long its trials lie idle."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGKILL)
    killed = time.monotonic()
    if trials := system.leases_of(victim):
        system.wait("the next claim of a killed worker's trial", lambda: _moved_on(system, trials), 60)
        system.recoveries.append(time.monotonic() - killed)


def _moved_on(system: System, trials: Mapping[int, int]) -> bool | None:
    """Whether one of the trials has a higher token or has ended."""
    table = schema.leases
    query = select(table.c.trial_id, table.c.token).where(table.c.trial_id.in_(trials))
    now = system.ask(lambda opened: {row.trial_id: row.token for row in opened.execute(query)})
    return any(now.get(trial_id, token + 1) > token for trial_id, token in trials.items()) or None


def terminate_worker(system: System, draw: random.Random) -> None:
    """SIGTERM: the worker ends by itself and leaves no lease."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGTERM)
    system.wait(
        "the end of a worker after SIGTERM", lambda: None if victim in system.processes() else True, 20
    )
    if held := system.leases_of(victim):
        system.violations.append(f"SIGTERM: worker {victim.worker} ended and left {len(held)} live leases")


def freeze_worker(system: System, draw: random.Random) -> None:
    """SIGSTOP for longer than a lease, then SIGCONT: the worker wakes as an old owner."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGSTOP)
    system.later(LEASE_SECONDS * draw.uniform(1.3, 2.5), lambda: system.signal(victim, signal.SIGCONT))


def kill_launcher(system: System, _draw: random.Random) -> None:
    """SIGKILL to `hpo run` alone, which is called again while its old workers still notice."""
    os.kill(system.launcher.pid, signal.SIGKILL)
    system.launcher.wait()
    system.start()


def kill_machine(system: System, _draw: random.Random) -> None:
    """SIGKILL to everything but the database; `hpo run` is called again."""
    system.kill_all()
    system.start()


def _restart(how: Shutdown) -> Fault:
    def restart(system: System, _draw: random.Random) -> None:
        system.server.restart(how)

    return restart


def stop_postgres(system: System, draw: random.Random) -> None:
    """No database for some seconds."""
    system.server.stop()
    time.sleep(draw.uniform(1, 2 * LEASE_SECONDS))
    system.server.start()


def _cut(most: int | None) -> Fault:
    """`most`: how many connections are cut, None for all."""
    query = text(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = "
        "current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT :most) AS connections"
    ).bindparams(most=most)

    def cut(system: System, _draw: random.Random) -> None:
        system.ask(lambda opened: opened.execute(query).all())

    return cut


def fill_quota(system: System, draw: random.Random) -> None:
    """No file of a live worker can grow beyond some kilobytes for a while."""
    limited = [process for process in system.processes() if process.worker]
    for process in limited:
        system.limit_files(process, QUOTA_BYTES)

    def lift() -> None:
        for process in limited:
            system.limit_files(process, resource.RLIM_INFINITY)

    system.later(draw.uniform(2, 6), lift)


def take_artifacts(system: System, draw: random.Random) -> None:
    """The artifact folder is gone, and a file stands in its place."""
    if not system.artifacts.is_symlink():
        system.end_faults(math.inf)
    # Each time in one step: a worker could make the folder anew between two.
    new, folder = system.artifacts.with_name("new"), system.artifacts.readlink()
    new.write_text("not a folder")
    new.replace(system.artifacts)

    def put_back() -> None:
        new.symlink_to(folder)
        new.replace(system.artifacts)

    system.later(draw.uniform(1, 5), put_back)


FAULTS: Mapping[str, Fault] = {
    "worker killed": kill_worker,
    "worker terminated": terminate_worker,
    "worker frozen past its lease": freeze_worker,
    "launcher killed": kill_launcher,
    "launcher and workers killed": kill_machine,
    "Postgres restarted": _restart("fast"),
    "Postgres crashed": _restart("immediate"),
    "Postgres stopped for seconds": stop_postgres,
    "one connection cut": _cut(1),
    "all connections cut": _cut(None),
    "quota of files full": fill_quota,
    "artifact folder gone": take_artifacts,
}


def schedule(seed: int, count: int) -> list[str]:
    """The names of `count` faults: all kinds in an order drawn from the seed, then all again."""
    draw, names = random.Random(seed), list(FAULTS)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += draw.sample(names, len(names))
    return drawn[:count]
