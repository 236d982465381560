"""How long the trials of a dead worker lie still.

python -m benchmarks.recovery [--runs N] [--json FILE]

worker    kill -9 of one of four workers; its launcher lives
machine   kill -9 of a launcher with its two workers; another launcher with two workers lives

The clock runs from the kill until the last of the lost trials has a new lease, by the rows of the database.
The packs of those who live have room, and the batch size fits.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import tomli_w
from sqlalchemy import text

from benchmarks import hardware
from hpo.claim import LEASE_SECONDS
from hpo.settings import Settings
from hpo.storage import Storage, open_storage
from hpo.study import load, remove

STUDY = {
    "name": "recovery",
    "seed": 1,
    "model": {"name": "lenet"},
    "data": {"name": "digits", "mini": 0.5, "validation": 0.4},
    "space": {
        "lr": {"low": 1e-3, "high": 1e-1, "log": True},
        "batch_size": [64],
        "momentum": [0.9],
        "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    },
    "search": {"trials": 12, "epochs": 5000},  # it does not end by itself
    "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
}
DEADLINE_SECONDS = 120.0


@contextmanager
def launcher(workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher for the study, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hpo", "workers", "recovery", "--gpus", "cpu", "--per-device", str(workers)],
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
        try:
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except FileNotFoundError:
            continue
    return commands


def worker_name(command: list[str]) -> str:
    return command[command.index("--name") + 1]


def held(storage: Storage) -> dict[str, dict[int, int]]:
    """Tokens by trial id, by worker."""
    with storage.transaction() as connection:
        rows = connection.execute(
            text("SELECT worker, trial_id, token FROM hpo.lease WHERE worker IS NOT NULL")
        )
        found: dict[str, dict[int, int]] = {}
        for worker, trial_id, token in rows:
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


def is_waiting(pid: int) -> bool:
    """Whether a process sleeps and uses no processor time: a standby that has loaded everything."""

    def ticks() -> tuple[str, str]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[11], fields[12]

    before = ticks()
    time.sleep(1.0)
    return ticks() == before


def handed_on(storage: Storage, lost: dict[int, int]) -> bool:
    now = {trial_id: token for tokens in held(storage).values() for trial_id, token in tokens.items()}
    return all(now.get(trial_id, 0) > token for trial_id, token in lost.items())


def of_a_worker(storage: Storage) -> float:
    with launcher(4) as process:
        until(lambda: len(held(storage)) == 4, "four workers train")

        def standbys() -> list[int]:
            return [pid for pid, command in children(process.pid).items() if "--standby" in command]

        until(lambda: bool(standbys()) and is_waiting(standbys()[0]), "the standby is ready")
        tokens = held(storage)
        pid, command = next(
            (pid, c) for pid, c in children(process.pid).items() if "--name" in c and worker_name(c) in tokens
        )
        os.kill(pid, signal.SIGKILL)
        return until(lambda: handed_on(storage, tokens[worker_name(command)]), "its trials run again")


def of_a_machine(storage: Storage) -> float:
    with ExitStack() as stack:
        first = stack.enter_context(launcher(2))
        until(lambda: len(held(storage)) == 2, "two workers train")
        stack.enter_context(launcher(2))
        until(lambda: len(held(storage)) == 4, "four workers train")
        victims, tokens = children(first.pid), held(storage)
        for pid in (first.pid, *victims):
            os.kill(pid, signal.SIGKILL)
        names = [worker_name(command) for command in victims.values() if "--name" in command]
        lost = {i: token for name in names for i, token in tokens.get(name, {}).items()}
        return until(lambda: handed_on(storage, lost), "its trials run again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    settings = Settings.from_environment()
    storage = open_storage(settings)
    ways = {"worker": of_a_worker, "machine": of_a_machine}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recovery.toml")
        file.write_text(tomli_w.dumps(STUDY))
        for _ in range(options.runs):
            for way, measure in ways.items():
                create = [sys.executable, "-m", "hpo", "study", "create", str(file)]
                subprocess.run(create, check=True, capture_output=True)
                seconds[way].append(measure(storage))
                print(f"{way}: {seconds[way][-1]:.2f} s", file=sys.stderr)
                remove(storage, load(storage, "recovery"), settings.artifacts_path)
    print(f"{hardware.line()}; n = {options.runs}; a lease lasts {LEASE_SECONDS:.0f} s")
    print(f"{'killed':10}{'median s':>10}{'min':>8}{'max':>8}")
    for way, values in seconds.items():
        print(f"{way:10}{statistics.median(values):10.2f}{min(values):8.2f}{max(values):8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
