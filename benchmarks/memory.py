"""Measure the memory of a launcher and its three workers, on few and on many images of a user's own.

launcher    peak resident memory of `hpo run`, from study file to exported model
images      proportional share (PSS) of the mapped images, summed over the workers
rest        proportional share of everything else, summed over the workers

A page that n processes map counts 1/n in each of them. The shares of the images therefore add up to one copy,
and a hidden copy would show in the rest. Workers are measured in full training, once all images were read.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.command import HPO, parser, run_hpo
from benchmarks.recovery import children
from benchmarks.results import Result, spread
from hpo.settings import Settings
from hpo.store.connection import open_storage
from hpo.study.stored import load

WORKERS = 3
MEGABYTE = 1e6
POLL_SECONDS = 0.3
SIDE, CLASSES = 28, 10

ROWS = {"launcher": "launcher, peak", "images": "three workers, images", "rest": "three workers, the rest"}

MODULE = f"""
import numpy as np
from torch import nn


def load():
    count = COUNT
    images = np.random.default_rng(0).integers(0, 256, (count, {SIDE}, {SIDE}), dtype=np.uint8)
    labels, test = np.arange(count) % {CLASSES}, count // 10
    return images[test:], labels[test:], images[:test], labels[:test], [str(i) for i in range({CLASSES})]


class Small(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49 * in_channels, classes))

    def forward(self, images):
        return self.layers(images)
"""

STUDY: dict[str, Any] = {
    "name": f"memory-{os.getpid()}",
    "model": {"name": "memory_case:Small"},
    "data": {"name": "memory_case:load"},
    "space": {"lr": [0.001, 0.01, 0.1], "batch_size": [512], "momentum": [0.9], "weight_decay": [0.0]},
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "search": {"trials": WORKERS, "epochs": 1},
    "promotion": {"top": WORKERS, "seeds": 1},
    "full": {"pretrain": {"epochs": 8}, "finetune": {"epochs": 1}},
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of one run."""

    launcher: float
    images: float
    rest: float


def images_and_rest(pid: int) -> tuple[float, float]:
    """Return the proportional share of the mapped arrays and of everything else, in megabytes."""
    images = rest = 0
    is_array = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, _, value = line.partition(":")
        if "-" in key.split(" ")[0]:  # the first line of a mapping: its addresses and its file
            is_array = line.endswith(".npy")
        elif key == "Pss":
            kibibytes = int(value.split()[0])
            images += kibibytes * is_array
            rest += kibibytes * (not is_array)
    return images * 1024 / MEGABYTE, rest * 1024 / MEGABYTE


def peak(pid: int) -> float:
    """Return the most resident memory that a process has had, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MEGABYTE


def workers_of(launcher: int) -> list[int]:
    """Return the process ids of a launcher's workers, without the standby."""
    commands = children(launcher).items()
    return [pid for pid, command in commands if "worker" in command and "--standby" not in command]


def watch(launcher: subprocess.Popen[bytes]) -> Memory:
    """Return the launcher's peak, and the workers' memory when they shared the most of the images."""
    most = Memory(0.0, 0.0, 0.0)
    while launcher.poll() is None:
        with suppress(OSError, IndexError):  # a process has ended
            workers = workers_of(launcher.pid)
            # Twice: a worker that maps the images between two others would have their pages counted again.
            shares, again = ([images_and_rest(pid) for pid in workers] for _ in range(2))
            images, rest = (sum(column) for column in zip(*shares, strict=True)) if shares else (0.0, 0.0)
            is_stable = [images for images, _ in shares] == [images for images, _ in again]
            if len(shares) < WORKERS or images < most.images or not is_stable:
                images, rest = most.images, most.rest
            most = Memory(peak(launcher.pid), images, rest)
        time.sleep(POLL_SECONDS)
    return most


def measure(images: int) -> Memory:
    """Run a study on this number of images and return the memory of its processes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "memory_case.py").write_text(MODULE.replace("COUNT", str(images)))
        Path(folder, "study.toml").write_text(tomli_w.dumps(STUDY))
        options = ("--gpus", "cpu", "--per-device", str(WORKERS), "--width", "1")
        log = Path(folder, "log")
        with (
            log.open("w") as file,
            subprocess.Popen(
                [*HPO, "run", "study.toml", *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=file
            ) as launcher,
        ):
            memory = watch(launcher)
        if launcher.returncode:
            sys.exit(log.read_text())
    remove_study()
    return memory


def remove_study() -> None:
    """Delete the study and its arrays."""
    settings = Settings.from_environment()
    storage = open_storage(settings)
    hashes = load(storage, STUDY["name"]).identity.data
    storage.engine.dispose()
    assert hashes is not None
    shutil.rmtree(settings.arrays_path / hashes.content)
    run_hpo("study", "delete", STUDY["name"], "--yes")


def main() -> None:
    options = parser(__doc__, quick="20 MB of images in place of 205")
    options.add_argument("--runs", type=int, default=3, help="runs of each size (default 3)")
    arguments = options.parse_args()
    largest = 20 if arguments.quick else 205
    sizes = (2, largest)
    setup = f"hpo run with {WORKERS} workers on a user's images"
    result = Result.begin("memory", setup, 1 if arguments.quick else arguments.runs)
    runs: dict[int, list[Memory]] = {size: [] for size in sizes}
    for _ in range(result.n):
        for size in sizes:
            runs[size].append(measure(int(size * MEGABYTE / SIDE**2)))
            print(f"{size} MB: {runs[size][-1]}", file=sys.stderr)
    heads = ("MB", *(f"{size} MB of images" for size in sizes))
    table = result.table("Memory of the processes of one study, median (range)", heads, first=40)
    rows = {
        "launcher": "launcher, peak",
        "images": "three workers, images",
        "rest": "three workers, the rest",
    }
    for part, title in rows.items():
        values = {size: [getattr(memory, part) for memory in runs[size]] for size in sizes}
        medians = {size: result.median(f"{part} {size}", values[size]) for size in sizes}
        table.add(title, *(f"{medians[size]:.0f} ({spread(values[size], 0)})" for size in sizes))
    result.values["runs"] = {size: [asdict(memory) for memory in runs[size]] for size in sizes}
    result.write(arguments.json)


if __name__ == "__main__":
    main()
