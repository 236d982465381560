"""Measure how long the trials of a killed worker wait for their next lease.

worker    kill -9 of one of four workers; their launcher lives
machine   kill -9 of a launcher with its two workers; another launcher with two workers lives

The clock runs from the kill until the last of the lost trials has a new lease in the database. The packs of
the surviving workers have room, and the batch size fits. With --cold, the compiled programs kept on this
machine are removed before each run, and all workers wait for new ones.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import text

from benchmarks.command import HPO, parser, stored_study
from benchmarks.results import Result, spread
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.schedule import WIDTH
from hpo.study.study import Study

STUDY = {
    "name": f"recovery-{os.getpid()}",
    "seed": 1,
    "model": {"name": "lenet"},
    "data": {"name": "digits", "mini": 0.5, "validation": 0.4},
    "space": {
        "lr": {"low": 1e-3, "high": 1e-1, "log": True},
        "batch_size": [64],
        "momentum": [0.9],
        "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    },
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "search": {"trials": 20, "epochs": 5000},  # far more than a run of this benchmark can train
    "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
}
DEADLINE_SECONDS = 120.0

Tokens = dict[int, int]
"""Lease tokens by trial id."""


@contextmanager
def launcher(study: Study, workers: int, width: int = WIDTH) -> Iterator[subprocess.Popen[bytes]]:
    """Run `hpo workers` for the study until the end of the block."""
    options = ("--gpus", "cpu", "--per-device", str(workers), "--width", str(width))
    process = subprocess.Popen(
        [*HPO, "workers", study.name, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def children(parent: int) -> dict[int, list[str]]:
    """Return the command lines of a process's children, by process id."""
    listed = subprocess.run(["pgrep", "-P", str(parent)], text=True, capture_output=True, check=False).stdout
    commands = {}
    for pid in map(int, listed.split()):
        with suppress(OSError):  # the child has ended since `pgrep`
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return commands


def worker_name(command: list[str]) -> str:
    return command[command.index("--name") + 1]


def tokens_by_worker(storage: Storage, study: Study) -> dict[str, Tokens]:
    """Return the lease tokens of the search, by worker."""
    query = text(
        "SELECT worker, trial_id, token FROM hpo.lease JOIN trials USING (trial_id) "
        "WHERE study_id = :study_id AND worker IS NOT NULL"
    ).bindparams(study_id=study.search_id)
    by_worker: dict[str, Tokens] = {}
    with storage.transaction() as connection:
        for worker, trial_id, token in connection.execute(query):
            by_worker.setdefault(worker, {})[trial_id] = token
    return by_worker


def wait_until(condition: Callable[[], bool], event: str) -> float:
    """Return the seconds until the condition holds. `event` names it in the error after a deadline."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > DEADLINE_SECONDS:
            raise SystemExit(f"not within {DEADLINE_SECONDS:.0f} s: {event}")
        time.sleep(0.02)
    return time.perf_counter() - start


def has_ready_standby(parent: int) -> bool:
    """Return whether a launcher's standby has loaded everything.

    It then sleeps, so it uses no processor time for a second.
    """
    standby = next((pid for pid, command in children(parent).items() if "--standby" in command), None)
    if standby is None:
        return False

    def ticks() -> list[str]:
        return Path(f"/proc/{standby}/stat").read_text().rpartition(")")[2].split()[11:13]

    with suppress(OSError):  # the standby has ended
        before = ticks()
        time.sleep(1.0)
        return ticks() == before
    return False


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # the children of a killed launcher may have ended first
        os.kill(pid, signal.SIGKILL)


def have_new_leases(storage: Storage, study: Study, lost: Tokens) -> bool:
    """Return whether every lost trial has a higher token than the lost lease."""
    by_worker = tokens_by_worker(storage, study)
    current = {trial_id: token for tokens in by_worker.values() for trial_id, token in tokens.items()}
    return all(current.get(trial_id, 0) > token for trial_id, token in lost.items())


def recover_worker(storage: Storage, study: Study) -> float:
    """Kill one of four workers and return the seconds until its trials have new leases."""
    with launcher(study, 4) as process:
        wait_until(lambda: len(tokens_by_worker(storage, study)) == 4, "four workers train")
        wait_until(partial(has_ready_standby, process.pid), "the standby is ready")
        tokens = tokens_by_worker(storage, study)
        pid, name = next(
            (pid, worker_name(command))
            for pid, command in children(process.pid).items()
            if "--name" in command and worker_name(command) in tokens
        )
        kill(pid)
        return wait_until(lambda: have_new_leases(storage, study, tokens[name]), "its trials run again")


def recover_machine(storage: Storage, study: Study) -> float:
    """Kill one of two launchers with its workers, and return the seconds until new leases."""
    with ExitStack() as stack:
        # Narrow packs leave trials for the second launcher.
        first = stack.enter_context(launcher(study, 2, width=4))
        wait_until(lambda: len(tokens_by_worker(storage, study)) == 2, "two workers train")
        stack.enter_context(launcher(study, 2))
        wait_until(lambda: len(tokens_by_worker(storage, study)) == 4, "four workers train")
        victims, tokens = children(first.pid), tokens_by_worker(storage, study)
        for pid in (first.pid, *victims):
            kill(pid)
        names = [worker_name(command) for command in victims.values() if "--name" in command]
        lost = {trial_id: token for name in names for trial_id, token in tokens.get(name, {}).items()}
        return wait_until(lambda: have_new_leases(storage, study, lost), "its trials run again")


RECOVERIES = {"worker": recover_worker, "machine": recover_machine}


def main() -> None:
    options = parser(__doc__, quick="one run of each")
    options.add_argument("--runs", type=int, default=5, help="kills of each kind (default 5)")
    options.add_argument("--cold", action="store_true", help="remove the compiled programs before each run")
    arguments = options.parse_args()
    settings = Settings.from_environment()
    storage = open_storage(settings)
    programs = "without compiled programs" if arguments.cold else "with the compiled programs of this machine"
    setup = f"a lease lasts {settings.lease_seconds:g} s; {programs}"
    result = Result.begin("recovery", setup, 1 if arguments.quick else arguments.runs)
    seconds: dict[str, list[float]] = {victim: [] for victim in RECOVERIES}
    for _ in range(result.n):
        for victim, recover in RECOVERIES.items():
            if arguments.cold:
                shutil.rmtree(settings.programs_path, ignore_errors=True)
            with stored_study(storage, StudySpec.parse(STUDY, "benchmark"), settings) as study:
                seconds[victim].append(recover(storage, study))
            print(f"{victim}: {seconds[victim][-1]:.2f} s", file=sys.stderr)
    table = result.table("Seconds until lost trials have new leases", ("killed", "median s", "range"))
    for victim, values in seconds.items():
        table.add(victim, f"{result.median(victim, values):.2f}", spread(values))
    result.values["seconds"] = seconds
    result.write(arguments.json)


if __name__ == "__main__":
    main()
