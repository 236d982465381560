"""How long the trials of a dead worker lie still.

python -m benchmarks.recovery [--runs N] [--cold] [--json FILE]

worker    kill -9 of one of four workers; its launcher lives
machine   kill -9 of a launcher with its two workers; another launcher with two workers lives

The clock runs from the kill until the last of the lost trials has a new lease, by the rows of the database.
The packs of those who live have room, and the batch size fits. With --cold, the compiled programs that are
kept on this machine are removed before each run, and all workers wait for new ones.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import text

from benchmarks import hardware
from benchmarks.command import HPO, stored
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
    "search": {"trials": 20, "epochs": 5000},  # it does not end by itself
    "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
}
DEADLINE_SECONDS = 120.0


@contextmanager
def launcher(study: Study, workers: int, width: int = WIDTH) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher for the study, until the end of the block."""
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
    """The command lines of a process's children, by process id."""
    found = subprocess.run(["pgrep", "-P", str(parent)], text=True, capture_output=True, check=False).stdout
    commands = {}
    for pid in map(int, found.split()):
        with suppress(OSError):  # it has ended meanwhile
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return commands


def worker_name(command: list[str]) -> str:
    return command[command.index("--name") + 1]


def held(storage: Storage, study: Study) -> dict[str, dict[int, int]]:
    """Tokens of the leases of the search, by trial id, by worker."""
    query = text(
        "SELECT worker, trial_id, token FROM hpo.lease JOIN trials USING (trial_id) "
        "WHERE study_id = :study_id AND worker IS NOT NULL"
    ).bindparams(study_id=study.search_id)
    found: dict[str, dict[int, int]] = {}
    with storage.transaction() as connection:
        for worker, trial_id, token in connection.execute(query):
            found.setdefault(worker, {})[trial_id] = token
    return found


def until(condition: Callable[[], bool], what: str) -> float:
    """Seconds until the condition holds."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > DEADLINE_SECONDS:
            raise SystemExit(f"not within {DEADLINE_SECONDS:.0f} s: {what}")
        time.sleep(0.02)
    return time.perf_counter() - start


def has_standby(parent: int) -> bool:
    """Whether a launcher has one that has loaded everything: it sleeps and uses no processor time."""
    standby = next((pid for pid, command in children(parent).items() if "--standby" in command), None)
    if standby is None:
        return False

    def ticks() -> list[str]:
        return Path(f"/proc/{standby}/stat").read_text().rpartition(")")[2].split()[11:13]

    with suppress(OSError):  # it has ended meanwhile
        before = ticks()
        time.sleep(1.0)
        return ticks() == before
    return False


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # the children of a launcher end when it does
        os.kill(pid, signal.SIGKILL)


def handed_on(storage: Storage, study: Study, lost: dict[int, int]) -> bool:
    now = {i: token for tokens in held(storage, study).values() for i, token in tokens.items()}
    return all(now.get(trial_id, 0) > token for trial_id, token in lost.items())


def of_a_worker(storage: Storage, study: Study) -> float:
    with launcher(study, 4) as process:
        until(lambda: len(held(storage, study)) == 4, "four workers train")
        until(partial(has_standby, process.pid), "the standby is ready")
        tokens = held(storage, study)
        pid, name = next(
            (pid, worker_name(command))
            for pid, command in children(process.pid).items()
            if "--name" in command and worker_name(command) in tokens
        )
        kill(pid)
        return until(lambda: handed_on(storage, study, tokens[name]), "its trials run again")


def of_a_machine(storage: Storage, study: Study) -> float:
    with ExitStack() as stack:
        first = stack.enter_context(launcher(study, 2, width=4))  # which leaves trials to those who live
        until(lambda: len(held(storage, study)) == 2, "two workers train")
        stack.enter_context(launcher(study, 2))
        until(lambda: len(held(storage, study)) == 4, "four workers train")
        victims, tokens = children(first.pid), held(storage, study)
        for pid in (first.pid, *victims):
            kill(pid)
        names = [worker_name(command) for command in victims.values() if "--name" in command]
        lost = {i: token for name in names for i, token in tokens.get(name, {}).items()}
        return until(lambda: handed_on(storage, study, lost), "its trials run again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--cold", action="store_true", help="without compiled programs at the start of each")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    settings = Settings.from_environment()
    storage = open_storage(settings)
    ways = {"worker": of_a_worker, "machine": of_a_machine}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.runs):
        for way, measure in ways.items():
            if options.cold:
                shutil.rmtree(settings.programs_path, ignore_errors=True)
            with stored(storage, StudySpec.parse(STUDY, "benchmark"), settings.artifacts_path) as study:
                seconds[way].append(measure(storage, study))
            print(f"{way}: {seconds[way][-1]:.2f} s", file=sys.stderr)
    print(
        f"{hardware.line()}; n = {options.runs}; a lease lasts {settings.lease_seconds:g} s; "
        f"{'cold' if options.cold else 'with the programs that are there'}"
    )
    print(f"{'killed':10}{'median s':>10}{'min':>8}{'max':>8}")
    for way, values in seconds.items():
        print(f"{way:10}{statistics.median(values):10.2f}{min(values):8.2f}{max(values):8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
