"""Training functions of users: `fit` is one of them, by the parameter `case`."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import hpo
from hpo.functions.channel import Channel

Epochs = Iterator[dict[str, float]]


def fit(trial: hpo.Trial) -> Any:
    return globals()[trial.params["case"]](trial)


def walks(trial: hpo.Trial) -> Epochs:
    """A random walk: every epoch depends on all epochs before it, and a file has them all."""
    state = trial.load() or {"place": np.zeros(3), "generator": None, "tags": ("new", 1)}
    generator = np.random.default_rng(trial.seed)
    if state["generator"] is not None:
        generator.bit_generator.state = state["generator"]
    diary = trial.directory / "notes" / "diary.txt"
    diary.parent.mkdir(exist_ok=True)
    for epoch in trial.epochs:
        state["place"] += generator.standard_normal(3) * trial.params.get("step", 1.0)
        with diary.open("a") as file:
            file.write(f"{epoch} {state['place'].sum()}\n")
        if epoch % trial.params.get("every", 1) == 0:
            trial.save({**state, "generator": generator.bit_generator.state})
        hook(trial, epoch)
        yield {"loss": float(np.abs(state["place"]).sum()), "lines": len(diary.read_text().splitlines())}


def hook(trial: hpo.Trial, epoch: int) -> None:
    """Do once what the test asks for in this epoch. A file outside of the trial remembers it."""
    done = trial.params.get("once")
    if done is None or epoch != trial.params["at"] or Path(done).exists():
        return
    Path(done).write_text(str(os.getpid()))
    if trial.params.get("hangs"):
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)


def dies(_trial: hpo.Trial) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def deletes_its_directory(trial: hpo.Trial) -> Epochs:
    for epoch in trial.epochs:
        if trial.directory.exists():
            trial.directory.rmdir()
        trial.save(epoch)
        hook(trial, epoch)
        yield {"loss": 1.0}


def goes_on_in_a_fork(trial: hpo.Trial) -> Epochs:
    child = os.fork()
    for epoch in trial.epochs:
        yield {"loss": 1.0}
        if child and epoch == 1:
            os.waitpid(child, 0)


def forges(trial: hpo.Trial) -> Epochs:
    """Write messages to the worker as `hpo.functions.child` does."""
    (channel,) = [each for each in gc.get_objects() if isinstance(each, Channel) and each.fileno() >= 0]
    for epoch in trial.params["epochs"]:
        message = {"epoch": epoch, "metrics": {"loss": 1.0}, "is_last": False, "state": None, "files": {}}
        channel.send(message)
    yield from ()
    time.sleep(600)


def forgets(trial: hpo.Trial) -> Epochs:
    """Save a state, and never load it."""
    for epoch in trial.epochs:
        trial.save(epoch)
        yield {"loss": 1.0}


def bounces(trial: hpo.Trial) -> Epochs:
    """The best epoch is the second, and only even epochs are saved."""
    for epoch in trial.epochs:
        loss = abs(epoch - 2) + 1.0
        if epoch % 2 == 0 or trial.params.get("all"):
            trial.save(np.array([epoch]))
        (trial.directory / "model.bin").write_bytes(bytes([epoch]))
        yield {"loss": loss}


def returns(trial: hpo.Trial) -> Any:
    sys.stdout.write("hello from the function\n")
    (trial.directory / "model.txt").write_text("model")
    return trial.params["value"]


def stops_early(trial: hpo.Trial) -> Epochs:
    for epoch in trial.epochs:
        if epoch == 3:
            trial.save("the end")
            return
        yield {"loss": 1 / epoch}


def diverges(trial: hpo.Trial) -> Epochs:
    for epoch in trial.epochs:
        yield {"loss": 1.0 if epoch == 1 else float("nan"), "other": float("inf")}


def raises(_trial: hpo.Trial) -> Epochs:
    yield {"loss": 1.0}
    raise ValueError("no luck")


def exhausts(_trial: hpo.Trial) -> float:
    raise MemoryError


def exits(_trial: hpo.Trial) -> float:
    sys.exit(3)


def exits_at_once(_trial: hpo.Trial) -> float:
    os._exit(3)


def crashes(_trial: hpo.Trial) -> float:
    ctypes.string_at(0)
    return 0.0


def hangs(trial: hpo.Trial) -> float:
    Path(trial.params["pids"]).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


def grows(trial: hpo.Trial) -> float:
    process = subprocess.Popen([sys.executable, "-c", "data = bytearray(100_000_000); input()"], stdin=-1)
    return process.wait()


def closes_output(trial: hpo.Trial) -> Epochs:
    os.close(1)
    os.close(2)
    sys.stdout.close()
    for _ in trial.epochs:
        yield {"loss": 1.0}


def has_children(trial: hpo.Trial) -> Epochs:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    Path(trial.params["pids"]).write_text(f"{os.getpid()} {process.pid}")
    try:
        for _ in trial.epochs:
            yield {"loss": 1.0}
    finally:
        (Path(trial.params["pids"]).with_suffix(".closed")).touch()


def terminates(trial: hpo.Trial) -> Epochs:
    """SIGTERM ends what the function starts, and not the function."""
    for _ in trial.epochs:
        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=[600])
        forked.start()
        forked.terminate()
        forked.join()
        started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
        started.terminate()
        os.kill(os.getpid(), signal.SIGTERM)
        yield {"loss": float(forked.exitcode or 0), "started": started.wait()}


def is_interrupted(trial: hpo.Trial) -> float:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)
    return 0.0


def forks(trial: hpo.Trial) -> Epochs:
    """What is forked from the function raises, and exits."""
    for epoch in trial.epochs:
        child = os.fork()
        if child == 0:
            if epoch == 1:
                raise ValueError("in the child")
            sys.exit(4)
        yield {"loss": float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))}


def saves_an_object(trial: hpo.Trial) -> float:
    trial.save({"model": [trial]})
    return 0.0


def yields_text(_trial: hpo.Trial) -> Iterator[str]:
    yield "0.5"
