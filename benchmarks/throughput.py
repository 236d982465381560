"""How many candidate-images a second are trained, by network, batch size, width of the pack and way.

python -m benchmarks.throughput [--models NAMES] [--sizes N,N] [--widths N,N] [--quick] [--json FILE]

First on one core with one thread, all on the same images in memory, in turns:

loop        one network, torch's operators and torch.optim.SGD
others      a pack by one of the ways that `hpo tune` measures; * marks the way it chooses

Then on the whole machine, in turns:

paper       a loop as the paper describes it: a trial at a time, images through PIL, two loading processes
hpo         a process on each core, each with a pack in the chosen way

The share of the peak: the floating point work of the chosen way, in what the machine does in a large product
of float32 matrices.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import hardware
from hpo import models
from hpo.data.dataset import Labelled
from hpo.settings import Settings
from hpo.training.allocator import keep_freed
from hpo.training.engines.autotuning import PROGRAM, AutotunedEngine, fastest
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import Engine
from hpo.training.engines.program import Program
from hpo.training.optimizers import Sgd
from hpo.training.pack import Candidate, Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision, search_precisions

CLASSES, SIDE = 62, 28
CANDIDATE = Candidate(lr=0.01, momentum=0.9, weight_decay=1e-4, seed=0)
WAYS = (
    "float32",
    "float32, channels last",
    "bfloat16",
    "bfloat16, channels last",
    f"float32 {PROGRAM}",
    f"bfloat16 {PROGRAM}",
)
HEADS = ("float32", "f32 last", "bfloat16", "bf16 last", "f32 program", "bf16 program")

LONG_SECONDS = 4.0
"""A pack of which a single step would take longer is left out."""

Step = Callable[[], object]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(size, 1, SIDE, SIDE), torch.arange(size) % CLASSES


def loop(name: str, size: int) -> Step:
    model, (images, labels) = models.build(name, CLASSES).train(), batch(size)
    optimizer = sgd(model)
    return lambda: train(model, optimizer, images, labels)


def paper(name: str, size: int) -> Step:
    # No other process has to wait until these are imported.
    from torchvision import transforms

    from benchmarks.loops import PilImages

    pixels = np.random.default_rng(0).integers(0, 256, (8000, SIDE, SIDE), dtype=np.uint8)
    images = Labelled(pixels, np.arange(len(pixels)) % CLASSES)
    steps = [transforms.ToTensor(), transforms.Normalize((0.17,), (0.32,))]
    loader = DataLoader(PilImages(images, transforms.Compose(steps)), size, shuffle=True, num_workers=2)
    model = models.build(name, CLASSES).train()
    optimizer, batches = sgd(model), (one for _epoch in count() for one in loader)
    return lambda: train(model, optimizer, *next(batches))


def packed(name: str, size: int, width: int, way: str | None) -> Step:
    """`way` None: the chosen one."""
    engine, (images, labels) = engine_of(name, way), batch(size)
    if isinstance(engine, CompiledEngine):
        engine.load(replace(engine.like, purpose="sgd", batch_size=size))
    else:
        engine.prepare(size, [Phase("sgd", 1)])
    pack = Pack(lambda: models.build(name, CLASSES), [0] * width, "cpu")
    optimizer = Sgd([CANDIDATE] * width, pack.weights.parameters)
    return lambda: engine.step(pack, optimizer, None, images, labels)


@cache
def engine_of(name: str, way: str | None) -> Engine:
    folder = Settings.from_environment().programs_path
    like = Program(name, CLASSES, 1, (SIDE, SIDE), 0, "evaluation")
    if way is not None:
        precision: Precision = "bfloat16" if way.startswith("bfloat16") else "float32"
        if way.endswith(PROGRAM):
            return CompiledEngine(replace(like, precision=precision), folder)
        return Engine(precision, way.endswith("last"))
    return AutotunedEngine(like, folder, search_precisions(name))


def rate(step: Step, images: int, seconds: float, wait: Callable[[], object] = lambda: None) -> float:
    """Candidate-images a second; `images`: of one step. `wait`: until the steps are done."""
    step()
    wait()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or not steps:
        step()
        steps += 1
    wait()
    return images * steps / (time.perf_counter() - start)


def peaks(seconds: float = 1.0) -> dict[str, float]:
    """Floating point operations a second in a large product of matrices, by precision, and bytes a second
    that are read and written by a copy."""
    size, found = 2048, {}
    for precision in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size).to(precision) for _ in range(2))
        found[str(precision).removeprefix("torch.")] = rate(partial(torch.mm, a, b), 2 * size**3, seconds)
    source = torch.rand(2**26)
    target = torch.empty_like(source)
    found["copy"] = rate(partial(target.copy_, source), 2 * source.nbytes, seconds)
    return found


def work(name: str) -> float:
    """Floating point operations for one image, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        loop(name, 16)()
    return float(counter.get_total_flops()) / 16


# In processes of their own


@cache
def prepared(kind: str, *arguments: Any) -> Step:
    kinds: dict[str, Callable[..., Step]] = {"loop": loop, "paper": paper, "packed": packed}
    step = kinds[kind](*arguments)
    step()  # so that not even the second one, which may still wait for what is started or imported, counts
    return step


def measured(kind: str, arguments: tuple[Any, ...], images: int, seconds: float) -> float:
    return rate(prepared(kind, *arguments), images, seconds)


def ways_of(name: str, size: int) -> dict[str, float]:
    """Seconds of a step by way, as the engine of a search measures them."""
    engine = engine_of(name, None)
    assert isinstance(engine, AutotunedEngine)
    return dict(engine.measured(replace(engine.like, purpose="sgd", batch_size=size)))


def as_a_worker() -> None:
    torch.set_num_threads(1)
    keep_freed()


class Machine:
    """A process on each core, of one thread each, and one that may use them all."""

    def __init__(self) -> None:
        spawn, cores = get_context("spawn"), os.cpu_count() or 1
        self._each = [ProcessPoolExecutor(1, spawn, as_a_worker) for _ in range(cores)]
        self._all = ProcessPoolExecutor(1, spawn, torch.set_num_threads, (cores,))

    def one(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """On one core."""
        return self._each[0].submit(function, *arguments).result()

    def all_at_once(self, *arguments: Any) -> float:
        """The sum of what `measured` gives on each core."""
        waiting = [process.submit(measured, *arguments) for process in self._each]
        return sum(one.result() for one in waiting)

    def together(self, *arguments: Any) -> float:
        """What `measured` gives in one process that has all cores."""
        return self._all.submit(measured, *arguments).result()

    def close(self) -> None:
        for process in (*self._each, self._all):
            process.shutdown()


def by_way(machine: Machine, name: str, size: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Rates on one core, by way and width; prints a line for each width."""
    runs, seconds, known = options.runs, options.seconds, machine.one(ways_of, name, size)
    chosen = fastest(known)
    ways = [way for way in WAYS if not options.one_program or way in known or not way.endswith(PROGRAM)]
    alone = machine.one(measured, "loop", (name, size), size, 0.0)
    found: dict[str, list[float]] = {}
    for width in options.widths:
        if size * width / alone > LONG_SECONDS:
            continue
        columns: dict[str, tuple[Any, ...]] = {"loop": ("loop", (name, size), size, seconds)}
        columns |= {way: ("packed", (name, size, width, way), size * width, seconds) for way in ways}
        rates: dict[str, list[float]] = {column: [] for column in columns}
        for _ in range(runs):
            for column, arguments in columns.items():
                rates[column].append(machine.one(measured, *arguments))
        middle = {column: statistics.median(values) for column, values in rates.items()}
        cells = "".join(
            f"{middle[column]:14,.0f}{'*' if column == chosen else ' '}"
            if column in middle
            else f"{'-':>14} "
            for column in ("loop", *WAYS)
        )
        best = max(middle[way] for way in ways)
        print(f"{name:10}{size:6}{width:6}{cells}{middle[chosen] / best:8.2f}", flush=True)
        found |= {f"{column} {width}": values for column, values in rates.items()}
    return found


def against_the_paper(
    machine: Machine, name: str, size: int, options: argparse.Namespace, peak: float
) -> dict[str, list[float]]:
    """Rates of the whole machine; prints a line."""
    seconds, width = max(1.0, options.seconds), options.width
    rates: dict[str, list[float]] = {"paper": [], "hpo": []}
    for _ in range(options.runs):
        rates["paper"].append(machine.together("paper", (name, size), size, seconds))
        arguments = ("packed", (name, size, width, None), size * width, seconds)
        rates["hpo"].append(machine.all_at_once(*arguments))
    ratios = [ours / theirs for ours, theirs in zip(rates["hpo"], rates["paper"], strict=True)]
    middle = {way: statistics.median(values) for way, values in rates.items()}
    share = middle["hpo"] * work(name) / (peak * (os.cpu_count() or 1))
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    figures = f"{middle['paper']:12,.0f}{middle['hpo']:12,.0f}{statistics.median(ratios):8.2f} {spread:18}"
    print(f"{name:10}{size:6}{figures}{share:8.1%}", flush=True)
    return rates


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="lenet,alexnet,vggnet,resnet,spinalnet", help="networks")
    parser.add_argument("--sizes", type=numbers, default=[16, 32, 64], help="batch sizes")
    parser.add_argument("--widths", type=numbers, default=[1, 4, 16, 64], help="members of a pack")
    parser.add_argument(
        "--width", type=int, default=4, help="members of a pack, on the whole machine (default 4)"
    )
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a run (default 0.5)")
    parser.add_argument("--one-program", action="store_true", help="only those that a search would compile")
    parser.add_argument("--quick", action="store_true", help="LeNet at batch 16, one run, with --one-program")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.models, options.sizes, options.widths, options.runs = "lenet", [16], [1, 4], 1
        options.one_program = True
    torch.set_num_threads(1)
    peak = peaks(0.2 if options.quick else 1.0)
    print(f"{hardware.line()}; n = {options.runs}")
    giga = {what: value / 1e9 for what, value in peak.items()}
    print(
        f"one core: {giga['float32']:.0f} GFLOP/s in float32, {giga['bfloat16']:.0f} in bfloat16, "
        f"{giga['copy']:.1f} GB/s in a copy\n"
    )
    cells = [(name, size) for name in options.models.split(",") for size in options.sizes]
    machine, found = Machine(), {}
    try:
        print("candidate-images a second of one core")
        print(
            f"{'':10}{'batch':>6}{'width':>6}"
            + "".join(f"{c:>15}" for c in ("loop", *HEADS))
            + f"{'* / best':>9}"
        )
        for name, size in cells:
            found[f"{name} {size}"] = {"core": by_way(machine, name, size, options)}
        print("\ncandidate-images a second of all cores")
        print(f"{'':10}{'batch':>6}{'paper':>12}{'hpo':>12}{'ratio':>8}{'of peak':>27}")
        for name, size in cells:
            found[f"{name} {size}"]["machine"] = against_the_paper(
                machine, name, size, options, peak["float32"]
            )
    finally:
        machine.close()
    if options.json:
        figures = {"rates": found, "peak": peak, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
