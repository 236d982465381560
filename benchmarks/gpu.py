"""How many candidate-images a second a GPU trains, by network, batch size and width of the pack.

python -m benchmarks.gpu [--models NAMES] [--sizes N,N] [--widths N,N] [--quick] [--json FILE]

All on the same images in the memory of the GPU, in turns, each step with the making of its batch:

loop        one network, torch's operators and torch.optim.SGD
operators   a pack by torch's operators, a launch for each
graphs      a pack whose steps are CUDA graphs, in float32 (of which torch computes convolutions in TF32)
graphs bf16 the same in bfloat16

Then several processes with a pack each, by graphs. Then whole epochs of a pack by graphs, of 8,000 images and
2,000 for validation: evaluated in line, after the training, or beside the next epoch. The share of the peak:
the floating point work of graphs in float32, in what the GPU does in a large product of float32 matrices.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import hardware
from benchmarks.throughput import CANDIDATE, CLASSES, SIDE, Step, numbers, rate, sgd, train, work
from hpo import models
from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import Overlap, SideStream
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import Engine
from hpo.training.optimizers import Sgd
from hpo.training.pack import Pack
from hpo.training.trainer import PackSession, Trainer
from hpo.values.budget import Budget, Phase

WAYS: dict[str, Callable[[], Engine]] = {
    "operators": Engine,
    "graphs": CudaGraphEngine,
    "graphs bf16": lambda: CudaGraphEngine("bfloat16"),
}
DEVICE = "cuda:0"


@cache
def images() -> DeviceImages:
    pixels = np.random.default_rng(0).integers(0, 256, (8000, SIDE, SIDE), dtype=np.uint8)
    return DeviceImages.from_labelled(
        Labelled(pixels, np.arange(len(pixels)) % CLASSES), DEVICE, (0.17,), (0.32,)
    )


def on_batches(size: int, step: Callable[[torch.Tensor, torch.Tensor], object]) -> Step:
    indices = cycle(torch.split(torch.arange(len(images()), device=DEVICE), size))
    return lambda: step(*images().batch(next(indices)))


def loop(name: str, size: int) -> Step:
    model = models.build(name, CLASSES).to(DEVICE).train()
    optimizer = sgd(model)
    return on_batches(size, lambda pixels, labels: train(model, optimizer, pixels, labels))


def packed(name: str, size: int, width: int, way: str) -> Step:
    engine = WAYS[way]()
    pack = Pack(lambda: models.build(name, CLASSES), [0] * width, DEVICE)
    optimizer = Sgd([CANDIDATE] * width, pack.weights.parameters)
    step = on_batches(size, lambda *batch: engine.step(pack, optimizer, None, *batch))
    for _ in range(WARM_UP + 1):
        step()
    return step


def measured(step: Step, images: int, seconds: float) -> float:
    return rate(step, images, seconds, torch.cuda.synchronize)


def peaks() -> dict[str, float]:
    """Floating point operations a second in a large product of matrices, and bytes a second in a copy."""
    size, found = 8192, {}
    for precision in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=DEVICE).to(precision) for _ in range(2))
        product = torch.empty_like(a)
        name = str(precision).removeprefix("torch.")
        found[name] = measured(partial(torch.mm, a, b, out=product), 2 * size**3, 0.5)
    source = torch.rand(2**28, device=DEVICE)
    target = torch.empty_like(source)
    found["copy"] = measured(lambda: target.copy_(source), 2 * source.nbytes, 0.5)
    return found


def by_way(
    name: str, size: int, width: int, options: argparse.Namespace, peak: float
) -> dict[str, list[float]]:
    """Rates by way; prints a line."""
    steps: dict[str, tuple[Step, int]] = {"loop": (loop(name, size), size)}
    steps |= {way: (packed(name, size, width, way), size * width) for way in WAYS}
    rates: dict[str, list[float]] = {way: [] for way in steps}
    for _ in range(options.runs):
        for way, (step, count) in steps.items():
            rates[way].append(measured(step, count, options.seconds))
    middle = {way: statistics.median(values) for way, values in rates.items()}
    figures = "".join(f"{middle[way]:13,.0f}" for way in steps)
    share = middle["graphs"] * work(name) / peak
    ratio, spread = ratios(rates["graphs"], rates["loop"])
    print(f"{name:10}{size:6}{width:6}{figures}{ratio:8.1f} {spread:18}{share:7.1%}", flush=True)
    return rates


def ratios(ours: list[float], theirs: list[float], digits: int = 1) -> tuple[float, str]:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(each), f"({min(each):.{digits}f} to {max(each):.{digits}f})"


# In processes of their own


@cache
def prepared(*arguments: Any) -> Step:
    return packed(*arguments)


def once(arguments: tuple[Any, ...], images: int, seconds: float) -> float:
    return measured(prepared(*arguments), images, seconds)


def in_flight(
    name: str, size: int, width: int, counts: list[int], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Rates of several processes together, by how many; prints a line."""
    processes = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(max(counts))]
    arguments = ((name, size, width, "graphs"), size * width)
    try:
        for waiting in [process.submit(once, *arguments, 0.0) for process in processes]:
            waiting.result()
        rates: dict[str, list[float]] = {str(count): [] for count in counts}
        for _ in range(options.runs):
            for count in counts:
                running = [p.submit(once, *arguments, max(1.0, options.seconds)) for p in processes[:count]]
                rates[str(count)].append(sum(one.result() for one in running))
    finally:
        for process in processes:
            process.shutdown()
    figures = "".join(f"{statistics.median(values):13,.0f}" for values in rates.values())
    print(f"{name:10}{size:6}{width:6}{figures}", flush=True)
    return rates


# Whole epochs

EPOCHS = 3
"""Of a run."""


def training(name: str, size: int, width: int, overlap: Overlap | None) -> PackSession:
    validation = images().subset(torch.arange(len(images()) // 4, device=DEVICE))
    trainer = Trainer(
        lambda: models.build(name, CLASSES),
        images(),
        validation,
        Budget("mini", (Phase("sgd", 10**6),), keep="last"),
        size,
        seed=0,
        device=torch.device(DEVICE),
        engine=CudaGraphEngine(),
        overlap=overlap,
    )
    return trainer.start(dict.fromkeys(range(width), CANDIDATE))


def trained(training: PackSession, width: int) -> float:
    """Candidate-images a second. An epoch comes first: what it has begun of the next one, the last one has of
    the one that follows."""
    training.epoch()
    start = time.perf_counter()
    for _ in range(EPOCHS):
        training.epoch()
    seconds = time.perf_counter() - start
    torch.cuda.synchronize()
    return EPOCHS * len(images()) * width / seconds


def epochs(name: str, size: int, width: int, runs: int) -> dict[str, list[float]]:
    """Rates by where epochs are evaluated; prints a line."""
    overlaps = {"in line": None, "beside": SideStream(torch.device(DEVICE))}
    trainings = {way: training(name, size, width, overlap) for way, overlap in overlaps.items()}
    for one in trainings.values():
        for _ in range(WARM_UP + 1):  # until a graph for the last, smaller batch is there as well
            one.epoch()
    rates: dict[str, list[float]] = {way: [] for way in overlaps}
    for _ in range(runs):
        for way, one in trainings.items():
            rates[way].append(trained(one, width))
    if any(len(one.members) < width for one in trainings.values()):
        raise RuntimeError(f"{name}: a member has diverged, and was not trained any more")
    figures = "".join(f"{statistics.median(values):13,.0f}" for values in rates.values())
    ratio, spread = ratios(rates["beside"], rates["in line"], digits=2)
    print(f"{name:10}{size:6}{width:6}{figures}{ratio:8.2f} {spread}", flush=True)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="lenet,alexnet,vggnet,resnet,spinalnet", help="networks")
    parser.add_argument("--sizes", type=numbers, default=[16], help="batch sizes (default 16)")
    parser.add_argument("--widths", type=numbers, default=[1, 4, 16, 64], help="members of a pack")
    parser.add_argument(
        "--processes", type=numbers, default=[1, 2, 4], help="in flight, each with a pack of 16"
    )
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a run (default 0.2)")
    parser.add_argument("--quick", action="store_true", help="LeNet, widths of 1 and 4, one process and run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here that torch can use")
    if options.quick:
        options.models, options.widths, options.processes, options.runs = "lenet", [1, 4], [], 1
    peak = peaks()
    giga = {what: value / 1e9 for what, value in peak.items()}
    print(f"{torch.cuda.get_device_name()}; {hardware.line()}; n = {options.runs}")
    print(
        f"{giga['float32'] / 1e3:.1f} TFLOP/s in float32, {giga['bfloat16'] / 1e3:.0f} in bfloat16, "
        f"{giga['copy']:,.0f} GB/s in a copy\n\ncandidate-images a second"
    )
    heads = "".join(f"{way:>13}" for way in ("loop", *WAYS))
    print(f"{'':10}{'batch':>6}{'width':>6}{heads}{'graphs / loop':>22}{'of peak':>12}")
    names = options.models.split(",")
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        for size in options.sizes:
            for width in options.widths:
                found[f"{name} {size} {width}"] = by_way(name, size, width, options, peak["float32"])
                torch.cuda.empty_cache()
    if options.processes:
        heads = "".join(f"{count:>13}" for count in options.processes)
        print(f"\ncandidate-images a second of so many processes\n{'':10}{'batch':>6}{'width':>6}{heads}")
    for name in names if options.processes else ():
        found[f"{name} in flight"] = in_flight(name, options.sizes[0], 16, options.processes, options)
    width = min(16, max(options.widths))
    print("\ncandidate-images a second of whole epochs")
    print(f"{'':10}{'batch':>6}{'width':>6}{'in line':>13}{'beside':>13}{'beside / in line':>22}")
    for name in names:
        found[f"{name} epochs"] = epochs(name, options.sizes[0], width, options.runs)
        torch.cuda.empty_cache()
    if options.json:
        figures = {"rates": found, "peak": peak, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
