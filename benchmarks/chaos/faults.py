"""The faults. Each is a function that does the damage and arranges for its end."""

import math
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import select, text

from benchmarks.chaos.server import Shutdown
from benchmarks.chaos.system import LEASE_SECONDS, System
from hpo.store import schema

QUOTA_BYTES = 4096
"""Less than a checkpoint has."""

Fault = Callable[[System, random.Random], None]
"""Strike a system. Random choices come from the given generator."""


def kill_worker(system: System, draw: random.Random) -> None:
    """Send SIGKILL to a worker, and measure how long its trials wait for their next claim."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGKILL)
    killed = time.monotonic()
    if trials := system.leases_of(victim):
        system.wait("the next claim of a killed worker's trial", lambda: _claimed_again(system, trials), 60)
        system.recoveries.append(time.monotonic() - killed)


def _claimed_again(system: System, trials: Mapping[int, int]) -> bool | None:
    """Return True once one of the trials has a higher token or has ended. `trials`: tokens by trial id."""
    table = schema.leases
    query = select(table.c.trial_id, table.c.token).where(table.c.trial_id.in_(trials))
    current = system.query(lambda connection: {row.trial_id: row.token for row in connection.execute(query)})
    return any(current.get(trial_id, token + 1) > token for trial_id, token in trials.items()) or None


def kill_function(system: System, draw: random.Random) -> None:
    """Send SIGKILL to the process of a training function."""
    system.signal(system.running_function(draw), signal.SIGKILL)


def terminate_worker(system: System, draw: random.Random) -> None:
    """Send SIGTERM to a worker, which must end by itself and leave no lease."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGTERM)
    system.wait(
        "the end of a worker after SIGTERM", lambda: None if victim in system.processes() else True, 20
    )
    if held := system.leases_of(victim):
        system.violations.append(f"SIGTERM: worker {victim.worker} ended and left {len(held)} live leases")


def freeze_worker(system: System, draw: random.Random) -> None:
    """Stop a worker for longer than a lease, so that it wakes as the old owner of its trials."""
    victim = system.busy_worker(draw)
    system.signal(victim, signal.SIGSTOP)
    system.later(LEASE_SECONDS * draw.uniform(1.3, 2.5), lambda: system.signal(victim, signal.SIGCONT))


def kill_launcher(system: System, _draw: random.Random) -> None:
    """Send SIGKILL to `hpo run` alone, and call it again while its old workers still end."""
    os.kill(system.launcher.pid, signal.SIGKILL)
    system.launcher.wait()
    system.start()


def kill_machine(system: System, _draw: random.Random) -> None:
    """Send SIGKILL to all processes but the database, and call `hpo run` again."""
    system.kill_all()
    system.start()


def _restart(mode: Shutdown) -> Fault:
    def restart(system: System, _draw: random.Random) -> None:
        system.server.restart(mode)

    return restart


def stop_postgres(system: System, draw: random.Random) -> None:
    """Stop the database for some seconds."""
    system.server.stop()
    time.sleep(draw.uniform(1, 2 * LEASE_SECONDS))
    system.server.start()


def _cut(limit: int | None) -> Fault:
    """Return a fault that cuts at most `limit` connections, or all if None."""
    query = text(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = "
        "current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT :limit) AS connections"
    ).bindparams(limit=limit)

    def cut(system: System, _draw: random.Random) -> None:
        system.query(lambda connection: connection.execute(query).all())

    return cut


def fill_quota(system: System, draw: random.Random) -> None:
    """Keep the files of all live workers below some kilobytes for a while."""
    limited = [process for process in system.processes() if process.worker]
    for process in limited:
        system.limit_files(process, QUOTA_BYTES)

    def lift() -> None:
        for process in limited:
            system.limit_files(process, resource.RLIM_INFINITY)

    system.later(draw.uniform(2, 6), lift)


def take_artifacts(system: System, draw: random.Random) -> None:
    """Put a file in the place of the artifact folder for a while."""
    if not system.artifacts.is_symlink():
        system.end_faults(math.inf)
    # Replace is one step. Between a removal and a creation, a worker could create the folder again.
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


FUNCTION_FAULTS: Mapping[str, Fault] = {
    "worker killed": kill_worker,
    "function's process killed": kill_function,
}
"""The faults of a study that trains with a function."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`count` faults: all `kinds` in an order drawn from the seed, then all again."""

    kinds: Mapping[str, Fault]
    seed: int
    count: int

    @property
    def names(self) -> list[str]:
        """Return the names of the faults."""
        draw, kinds = random.Random(self.seed), list(self.kinds)
        names: list[str] = []
        while len(names) < self.count:
            names += draw.sample(kinds, len(kinds))
        return names[: self.count]
