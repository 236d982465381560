"""Measure candidate-images trained per second of a GPU, by network, batch size and pack width.

All variants train on the same images in the GPU's memory, in turns. A step includes making its batch.

loop        one network, torch's operators and torch.optim.SGD
operators   a pack by torch's operators, one launch per operator
graphs      a pack whose steps are CUDA graphs, in float32 (torch computes the convolutions in TF32)
graphs bf16 the same in bfloat16

Then several processes with one pack each, by graphs. Then whole epochs of a pack by graphs, 8,000 training
and 2,000 validation images, evaluated in line after the training or beside the next epoch. `of peak` is the
share of the GPU's peak in a large float32 matrix product that graphs in float32 reach.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle
from multiprocessing import get_context

import torch

from benchmarks.command import numbers, parser
from benchmarks.results import Result, Table, spread
from benchmarks.steps import CANDIDATE, CLASSES, Step, flops, noise, rate, sgd, train
from hpo import models
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import AsyncEvaluator, SideStream
from hpo.training.classification import Classification
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Budget, Phase

ENGINES: dict[str, Callable[[], EagerEngine]] = {
    "operators": EagerEngine,
    "graphs": CudaGraphEngine,
    "graphs bf16": lambda: CudaGraphEngine("bfloat16"),
}
DEVICE = "cuda:0"
MATRIX_SIDE, COPIED_NUMBERS = 8192, 2**28

PROCESS_WIDTH = 16
"""Pack width of each of several processes, and the greatest of whole epochs."""

EPOCHS = 3
"""Epochs of a run, where whole epochs are timed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A network, its batch size, and the width of its pack."""

    name: str
    size: int
    width: int

    @property
    def images(self) -> int:
        """Candidate-images of a step."""
        return self.size * self.width

    @property
    def cells(self) -> tuple[str, str, str]:
        return self.name, str(self.size), str(self.width)

    def __str__(self) -> str:
        return " ".join(self.cells)


@cache
def images() -> DeviceImages:
    return DeviceImages.from_labelled(noise(), DEVICE, (0.17,), (0.32,))


def on_batches(size: int, step: Callable[[torch.Tensor, torch.Tensor], object]) -> Step:
    indices = cycle(torch.split(torch.arange(len(images()), device=DEVICE), size))
    return lambda: step(*images().batch(next(indices)))


def loop_step(name: str, size: int) -> Step:
    model = models.build(name, CLASSES).to(DEVICE).train()
    optimizer = sgd(model)
    return on_batches(size, lambda pixels, labels: train(model, optimizer, pixels, labels))


def pack_step(shape: Shape, variant: str) -> Step:
    """Return a step of a pack whose graphs are captured."""
    engine = ENGINES[variant]()
    pack = Pack(lambda: models.build(shape.name, CLASSES), [0] * shape.width, DEVICE)
    optimizer = create_optimizer("sgd", [CANDIDATE.params] * shape.width, pack.weights.parameters)
    step = on_batches(shape.size, lambda *batch: engine.step(pack, optimizer, None, *batch))
    for _ in range(WARM_UP + 1):
        step()
    return step


def gpu_rate(step: Step, images: int, seconds: float) -> float:
    return rate(step, images, seconds, torch.cuda.synchronize)


def peaks() -> dict[str, float]:
    """Return floating point operations per second of a matrix product, and bytes per second of a copy."""
    by_name = {}
    for precision in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=DEVICE).to(precision) for _ in range(2))
        product = torch.empty_like(a)
        name = str(precision).removeprefix("torch.")
        by_name[name] = gpu_rate(partial(torch.mm, a, b, out=product), 2 * MATRIX_SIDE**3, 0.5)
    source = torch.rand(COPIED_NUMBERS, device=DEVICE)
    target = torch.empty_like(source)
    by_name["copy"] = gpu_rate(lambda: target.copy_(source), 2 * source.nbytes, 0.5)
    return by_name


def medians_of(result: Result, name: str, rates: dict[str, list[float]]) -> list[str]:
    """Note the median rate of each variant in the result, and return the medians as cells."""
    return [f"{result.median(f'{name}, {variant}', values):,.0f}" for variant, values in rates.items()]


def measure_steps(
    result: Result, table: Table, shape: Shape, seconds: float, peak: float
) -> dict[str, list[float]]:
    """Return the rates of all runs by variant; adds a row. `peak` in floating point operations per second."""
    steps = {"loop": (loop_step(shape.name, shape.size), shape.size)}
    steps |= {variant: (pack_step(shape, variant), shape.images) for variant in ENGINES}
    rates: dict[str, list[float]] = {variant: [] for variant in steps}
    for _ in range(result.n):
        for variant, (step, count) in steps.items():
            rates[variant].append(gpu_rate(step, count, seconds))
    cells = medians_of(result, str(shape), rates)
    share = statistics.median(rates["graphs"]) * flops(shape.name) / peak
    ratios = [graphs / loop for graphs, loop in zip(rates["graphs"], rates["loop"], strict=True)]
    table.add(*shape.cells, *cells, f"{statistics.median(ratios):.1f}", spread(ratios, 1), f"{share:.1%}")
    return rates


# `process_rate` and `warm_step` run in processes of their own.


@cache
def warm_step(shape: Shape) -> Step:
    return pack_step(shape, "graphs")


def process_rate(shape: Shape, seconds: float) -> float:
    return gpu_rate(warm_step(shape), shape.images, seconds)


def measure_processes(
    result: Result, table: Table, shape: Shape, counts: list[int], seconds: float
) -> dict[str, list[float]]:
    """Return the summed rates of several processes, by their number; adds a row."""
    processes = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(max(counts))]
    try:
        for future in [process.submit(process_rate, shape, 0.0) for process in processes]:
            future.result()
        rates: dict[str, list[float]] = {str(count): [] for count in counts}
        for _ in range(result.n):
            for count in counts:
                futures = [
                    process.submit(process_rate, shape, max(1.0, seconds)) for process in processes[:count]
                ]
                rates[str(count)].append(sum(future.result() for future in futures))
    finally:
        for process in processes:
            process.shutdown()
    table.add(*shape.cells, *medians_of(result, f"{shape}, processes", rates))
    return rates


def start_training(shape: Shape, evaluator: AsyncEvaluator | None) -> PackSession:
    validation = images().subset(torch.arange(len(images()) // 4, device=DEVICE))
    trainer = Trainer(
        Task(
            lambda: models.build(shape.name, CLASSES),
            images(),
            validation,
            Classification(CLASSES),
        ),
        Recipe(Budget("mini", (Phase("sgd", 10**6),), keep="last"), shape.size, seed=0),
        CudaGraphEngine(),
        Runtime(evaluator=evaluator),
    )
    return trainer.start(dict.fromkeys(range(shape.width), CANDIDATE))


def epoch_rate(session: PackSession, width: int) -> float:
    """Return candidate-images per second over whole epochs.

    One epoch runs before the clock starts. It begins the epoch after it, as the last timed epoch does, so the
    two cancel out.
    """
    session.epoch()
    start = time.perf_counter()
    for _ in range(EPOCHS):
        session.epoch()
    seconds = time.perf_counter() - start
    torch.cuda.synchronize()
    return EPOCHS * len(images()) * width / seconds


def measure_epochs(result: Result, table: Table, shape: Shape) -> dict[str, list[float]]:
    """Return the rates by where epochs are evaluated; adds a row."""
    evaluators = {"in line": None, "beside": SideStream(torch.device(DEVICE))}
    sessions = {variant: start_training(shape, evaluator) for variant, evaluator in evaluators.items()}
    for session in sessions.values():
        for _ in range(WARM_UP + 1):  # captures a graph for the last, smaller batch as well
            session.epoch()
    rates: dict[str, list[float]] = {variant: [] for variant in evaluators}
    for _ in range(result.n):
        for variant, session in sessions.items():
            rates[variant].append(epoch_rate(session, shape.width))
    if any(len(session.members) < shape.width for session in sessions.values()):
        raise RuntimeError(f"{shape.name}: a member has diverged, and was not trained any more")
    ratios = [beside / in_line for beside, in_line in zip(rates["beside"], rates["in line"], strict=True)]
    cells = medians_of(result, f"{shape}, epochs", rates)
    table.add(*shape.cells, *cells, f"{statistics.median(ratios):.2f}", spread(ratios))
    return rates


def parse_options() -> argparse.Namespace:
    options = parser(__doc__, quick="LeNet, widths of 1 and 4, one process and run")
    options.add_argument("--models", default="lenet,alexnet,vggnet,resnet,spinalnet", help="networks")
    options.add_argument("--sizes", type=numbers, default=[16], help="batch sizes (default 16)")
    options.add_argument("--widths", type=numbers, default=[1, 4, 16, 64], help="pack widths")
    options.add_argument(
        "--processes", type=numbers, default=[1, 2, 4], help="numbers of processes, each with a pack of 16"
    )
    options.add_argument("--runs", type=int, default=5, help="alternating runs of each variant (default 5)")
    options.add_argument("--seconds", type=float, default=0.2, help="seconds of a run (default 0.2)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.models, arguments.widths, arguments.processes, arguments.runs = "lenet", [1, 4], [], 1
    return arguments


def main() -> None:
    arguments = parse_options()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here that torch can use")
    result = Result.begin(
        "gpu", f"{torch.cuda.get_device_name()}; candidate-images per second", arguments.runs
    )
    peak = peaks()
    table = result.table("Peak of the GPU", ("float32 TFLOP/s", "bfloat16 TFLOP/s", "copy GB/s"), first=18)
    table.add(f"{peak['float32'] / 1e12:.1f}", f"{peak['bfloat16'] / 1e12:.0f}", f"{peak['copy'] / 1e9:,.0f}")
    names, sizes, seconds = arguments.models.split(","), arguments.sizes, arguments.seconds
    rates: dict[str, dict[str, list[float]]] = {}
    shape_heads = ("network", "batch", "width")
    heads = (*shape_heads, "loop", *ENGINES, "graphs / loop", "range", "of peak")
    table = result.table("Candidate-images per second", heads)
    for shape in [Shape(name, size, width) for name in names for size in sizes for width in arguments.widths]:
        rates[str(shape)] = measure_steps(result, table, shape, seconds, peak["float32"])
        torch.cuda.empty_cache()
    if counts := arguments.processes:
        heads = (*shape_heads, *(f"{count} processes" for count in counts))
        table = result.table("Candidate-images per second of several processes", heads)
        for name in names:
            shape = Shape(name, sizes[0], PROCESS_WIDTH)
            rates[f"{name} in flight"] = measure_processes(result, table, shape, counts, seconds)
    heads = (*shape_heads, "in line", "beside", "beside / in line", "range")
    table = result.table("Candidate-images per second of whole epochs", heads)
    for name in names:
        shape = Shape(name, sizes[0], min(PROCESS_WIDTH, max(arguments.widths)))
        rates[f"{name} epochs"] = measure_epochs(result, table, shape)
        torch.cuda.empty_cache()
    result.values.update({"rates": rates, "peak": peak})
    result.write(arguments.json)


if __name__ == "__main__":
    main()
