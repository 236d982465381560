"""How many candidate-images a second one core trains, by network, batch size and width of the pack.

python -m benchmarks.throughput [--models NAMES] [--sizes N,N] [--widths N,N] [--quick] [--json FILE]

loop        one network, torch's operators and torch.optim.SGD
operators   a pack by torch's operators
programs    a pack by compiled programs; "-" where there are none, or operators are faster

All on the same images in memory, in turns. The last column is the floating point work of the best of them, as
a share of what this core does in a large product of matrices.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import models
from benchmarks import hardware
from hpo.budget import Phase
from hpo.engine import Compiled, Engine
from hpo.optimizer import Sgd
from hpo.pack import Candidate, Pack
from hpo.program import Program
from hpo.settings import Settings

CLASSES, SIDE = 62, 28
CANDIDATE = Candidate(lr=0.01, momentum=0.9, weight_decay=1e-4, seed=0)

Step = Callable[[], object]


def loop(name: str, images: torch.Tensor, labels: torch.Tensor) -> Step:
    model = models.build(name, CLASSES).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def packed(engine: Engine, name: str, width: int, images: torch.Tensor, labels: torch.Tensor) -> Step:
    pack = Pack(lambda: models.build(name, CLASSES), [0] * width, "cpu")
    optimizer = Sgd([CANDIDATE] * width, pack.weights.parameters)
    return lambda: engine.step(pack, optimizer, None, images, labels)


def rate(step: Step, images: int, seconds: float) -> float:
    """Candidate-images a second; `images`: of one step."""
    step()
    steps, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not steps:
        step()
        steps += 1
    return images * steps / passed


def peak() -> float:
    """Floating point operations a second in a large product of float32 matrices."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    return max(rate(lambda: a @ b, 2 * size**3, 1.0) for _ in range(3))


def work(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Floating point operations for one image, forward and backward, as torch counts them."""
    step = loop(name, images, labels)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="lenet,alexnet,vggnet,resnet,spinalnet", help="networks")
    parser.add_argument("--sizes", default="16,32,64", help="batch sizes")
    parser.add_argument("--widths", default="1,4,16", help="members of a pack")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a run (default 0.5)")
    parser.add_argument("--quick", action="store_true", help="LeNet at batch 16, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.models, options.sizes, options.widths, options.runs = "lenet", "16", "1,4", 1
    torch.set_num_threads(1)
    folder, best = Settings.from_environment().programs_path, peak()
    print(f"{hardware.line()}; one thread; n = {options.runs}; peak {best / 1e9:.0f} GFLOP/s in float32")
    widths = [int(width) for width in options.widths.split(",")]
    columns = ["loop", *(f"{way} {width}" for way in ("operators", "programs") for width in widths)]
    print(f"{'':16}" + "".join(f"{column:>14}" for column in columns) + f"{'best / loop':>13}{'of peak':>9}")
    found = {}
    for name in options.models.split(","):
        for size in map(int, options.sizes.split(",")):
            images, labels = torch.rand(size, 1, SIDE, SIDE), torch.arange(size) % CLASSES
            steps = {"loop": (loop(name, images, labels), size)}
            compiled = Compiled(Program(name, CLASSES, 1, (SIDE, SIDE), 0, "evaluation"), folder)
            compiled.prepare(size, [Phase("sgd", 1)])
            engines: dict[str, Engine] = {"operators": Engine()}
            if compiled.has_step(size):
                engines["programs"] = compiled
            for way, engine in engines.items():
                for width in widths:
                    step = packed(engine, name, width, images, labels)
                    steps[f"{way} {width}"] = (step, size * width)
            rates: dict[str, list[float]] = {column: [] for column in steps}
            for _ in range(options.runs):
                for column, (step, count) in steps.items():
                    rates[column].append(rate(step, count, options.seconds))
            middle = {column: statistics.median(values) for column, values in rates.items()}
            share = max(middle.values()) * work(name, images, labels) / best
            cells = "".join(f"{middle[c]:14.0f}" if c in middle else f"{'-':>14}" for c in columns)
            ratio = max(middle.values()) / middle["loop"]
            print(f"{name:10}{size:6}{cells}{ratio:13.2f}{share:9.1%}", flush=True)
            found[f"{name} {size}"] = rates
    if options.json:
        figures = {"rates": found, "peak": best, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
