"""Measure what the machinery of training functions costs: `python -m benchmarks.function_overhead`.

A line for each figure, the median of some repetitions: the start of a trial with and without a spare process,
trials of five epochs one after another, an epoch of a function that does nothing, and an epoch that saves a
state. A module that holds a file open is not forked: each trial has a new process.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.functions.session import FunctionTrainer
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionRuntime, FunctionTask
from hpo.values.candidate import Candidate
from hpo.values.objective import Objective

MODULE = """
{header}import numpy as np

def fit(trial):
    array = np.ones(trial.params["megabytes"] * 250_000, np.float32)
    for epoch in trial.epochs:
        if len(array):
            trial.save({{"array": array}})
        yield 1 / epoch
"""


def epochs(processes: FunctionProcesses, megabytes: int, count: int) -> Iterator[float]:
    """Train one trial; yield the seconds of each epoch, the first with the start of the trial."""
    objective = Objective("loss", "minimize", "loss")
    task = FunctionTask("measured:fit", "search", count, "last", objective, "cpu")
    trainer = FunctionTrainer(task, processes, FunctionRuntime())
    session = trainer.start({0: Candidate({"megabytes": megabytes}, 0)})
    while session.members:
        start = time.perf_counter()
        session.epoch()
        yield time.perf_counter() - start
    trainer.close()


def wait_for_spare(processes: FunctionProcesses) -> None:
    """Wait until the spare has imported the module."""
    processes.code()


def measure_short_trials(title: str, header: str, repetitions: int) -> None:
    """Print the time of short trials in a row, of a module that is forked and of one that is not."""
    for words, head in (("forked", header), ("in new processes", f"{header}FILE = open(__file__)\n")):
        with TemporaryDirectory() as folder:
            Path(folder, "measured.py").write_text(MODULE.format(header=head))
            os.chdir(folder)
            with closing(FunctionProcesses("measured:fit", Path(folder))) as processes:
                wait_for_spare(processes)
                seconds = [sum(epochs(processes, 0, 5)) for _ in range(2 * repetitions)]
            print(f"{title}: short trials {words} {1000 * statistics.median(seconds):.0f} ms each")
            os.chdir("/")


def measure(title: str, header: str, repetitions: int) -> None:
    """Print the figures of a module that begins with `header`."""
    with TemporaryDirectory() as folder:
        Path(folder, "measured.py").write_text(MODULE.format(header=header))
        os.chdir(folder)
        with closing(FunctionProcesses("measured:fit", Path(folder))) as processes:
            cold = next(epochs(processes, 0, 2))
            warm = []
            for _ in range(repetitions):
                wait_for_spare(processes)
                warm.append(next(epochs(processes, 0, 2)))
            wait_for_spare(processes)
            print(f"{title}: start of a trial without a spare {1000 * cold:.0f} ms")
            print(f"{title}: start of a trial with a spare {1000 * statistics.median(warm):.1f} ms")
            for megabytes in (0, 1, 100):
                wait_for_spare(processes)
                _, *later = epochs(processes, megabytes, 1000 if not megabytes else 20)
                milliseconds = 1000 * statistics.median(later)
                print(f"{title}: epoch with a state of {megabytes} MB {milliseconds:.2f} ms")
        os.chdir("/")


if __name__ == "__main__":
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for title, header in (("numpy", ""), ("torch", "import torch\n")):
        measure(title, header, repetitions)
        measure_short_trials(title, header, repetitions)
