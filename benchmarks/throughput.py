"""Measure candidate-images trained per second, by network, batch size, pack width and variant.

One core with one thread, all variants on the same images in memory, in turns:

loop        one network, torch's operators and torch.optim.SGD
others      a pack, by each variant that `hpo tune` measures; * marks the variant that it chooses

The whole machine, in turns:

paper       the loop that the paper describes: one trial at a time, images through PIL, two loading processes
hpo         one process per core, each with a pack in the chosen variant

`of peak` is the share of the machine's peak in a large float32 matrix product that the chosen variant's
floating point operations reach.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.command import numbers, parser
from benchmarks.results import Result, Table, spread
from benchmarks.steps import CANDIDATE, CLASSES, SIDE, Step, batch, flops, loop_step, paper_step, peaks, rate
from hpo import models
from hpo.settings import Settings
from hpo.training.allocator import keep_freed_memory
from hpo.training.engines.autotuning import PROGRAM, AutotunedEngine, TuningOptions
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.engines.timing import fastest
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.data_shape import DataShape
from hpo.values.precision import Precision, search_precisions

HEADS = {
    "float32": "float32",
    "float32, channels last": "f32 last",
    "bfloat16": "bfloat16",
    "bfloat16, channels last": "bf16 last",
    f"float32 {PROGRAM}": "f32 program",
    f"bfloat16 {PROGRAM}": "bf16 program",
}
"""Variants, with the heads of their columns."""

LONGEST_STEP_SECONDS = 4.0
"""Packs whose step takes longer are left out."""


def pack_step(name: str, size: int, width: int, variant: str | None) -> Step:
    """Return a step of a pack. `variant` None: the one that `hpo tune` chooses."""
    engine, (images, labels) = engine_of(name, variant), batch(size)
    if isinstance(engine, CompiledEngine):
        engine.load(Program(engine.network, "sgd", size))
    else:
        engine.prepare(size, [Phase("sgd", 1)])
    pack = Pack(lambda: models.build(name, CLASSES), [0] * width, "cpu")
    optimizer = create_optimizer("sgd", [CANDIDATE.params] * width, pack.weights.parameters)
    return lambda: engine.step(pack, optimizer, None, images, labels)


@cache
def engine_of(name: str, variant: str | None) -> Engine:
    folder = Settings.from_environment().programs_path
    network = NetworkSpec(name, DataShape((1, SIDE, SIDE), CLASSES))
    if variant is not None:
        precision: Precision = "bfloat16" if variant.startswith("bfloat16") else "float32"
        if variant.endswith(PROGRAM):
            return CompiledEngine(network, folder, precision)
        return EagerEngine(precision, variant.endswith("last"))
    return AutotunedEngine(network, folder, TuningOptions(search_precisions(name)))


# These functions run in the processes of a `Machine`.


@cache
def warm_step(kind: str, *arguments: Any) -> Step:
    """Return a step that has run once: `rate` discards one step, but the second may still start or import."""
    kinds: dict[str, Callable[..., Step]] = {"loop": loop_step, "paper": paper_step, "pack": pack_step}
    step = kinds[kind](*arguments)
    step()
    return step


def measure(kind: str, arguments: tuple[Any, ...], images: int, seconds: float) -> float:
    return rate(warm_step(kind, *arguments), images, seconds)


def tuned_seconds(name: str, size: int) -> dict[str, float]:
    """Return the seconds of a step by variant, as the engine of a search measures them."""
    engine = engine_of(name, None)
    assert isinstance(engine, AutotunedEngine)
    return dict(engine.measure(Program(engine.network, "sgd", size)))


def start_as_worker() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


class Machine:
    """One process of one thread for each core, and one process that may use all cores."""

    def __init__(self) -> None:
        spawn, cores = get_context("spawn"), os.cpu_count() or 1
        self._per_core = [ProcessPoolExecutor(1, spawn, start_as_worker) for _ in range(cores)]
        self._whole = ProcessPoolExecutor(1, spawn, torch.set_num_threads, (cores,))

    def on_one_core(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._per_core[0].submit(function, *arguments).result()

    def on_each_core(self, *arguments: Any) -> float:
        """Call `measure` on all cores at once and return the sum of the rates."""
        futures = [process.submit(measure, *arguments) for process in self._per_core]
        return sum(future.result() for future in futures)

    def in_one_process(self, *arguments: Any) -> float:
        """Call `measure` in the process that has all cores."""
        return self._whole.submit(measure, *arguments).result()

    def close(self) -> None:
        for process in (*self._per_core, self._whole):
            process.shutdown()


class Throughput:
    """The measurements of one run of this benchmark. `peak` holds the peaks of one core."""

    def __init__(self, options: argparse.Namespace, result: Result, peak: dict[str, float]) -> None:
        self._options, self._result, self._peak = options, result, peak
        self._machine = Machine()
        self.rates: dict[str, dict[str, dict[str, list[float]]]] = {}
        """By network and batch size, `core` or `machine`, and variant: the rates of all runs."""

    def close(self) -> None:
        self._machine.close()

    def on_one_core(self, table: Table, name: str, size: int) -> None:
        """Measure a network at a batch size; adds a row for each pack width."""
        machine, seconds = self._machine, self._options.seconds
        tuned = machine.on_one_core(tuned_seconds, name, size)
        chosen = fastest(tuned)
        all_variants = not self._options.one_program
        variants = [name for name in HEADS if all_variants or name in tuned or not name.endswith(PROGRAM)]
        loop_rate = machine.on_one_core(measure, "loop", (name, size), size, 0.0)
        by_column = self.rates.setdefault(f"{name} {size}", {}).setdefault("core", {})
        for width in self._options.widths:
            if size * width / loop_rate > LONGEST_STEP_SECONDS:
                continue
            calls: dict[str, tuple[Any, ...]] = {"loop": ("loop", (name, size), size, seconds)}
            for variant in variants:
                calls[variant] = ("pack", (name, size, width, variant), size * width, seconds)
            rates = self._in_turns(
                {column: (machine.on_one_core, measure, *call) for column, call in calls.items()}
            )
            medians = {
                column: self._result.median(f"{name} {size}, width {width}, {column}", values)
                for column, values in rates.items()
            }
            cells = [
                f"{medians[column]:,.0f}{'*' if column == chosen else ''}" if column in medians else "-"
                for column in ("loop", *HEADS)
            ]
            best = max(medians[variant] for variant in variants)
            table.add(name, str(size), str(width), *cells, f"{medians[chosen] / best:.2f}")
            by_column |= {f"{column} {width}": values for column, values in rates.items()}

    def on_the_machine(self, table: Table, name: str, size: int) -> None:
        """Compare the paper's loop with hpo on all cores; adds a row."""
        seconds, width = max(1.0, self._options.seconds), self._options.width
        pack = ("pack", (name, size, width, None), size * width, seconds)
        rates = self._in_turns(
            {
                "paper": (self._machine.in_one_process, "paper", (name, size), size, seconds),
                "hpo": (self._machine.on_each_core, *pack),
            }
        )
        ratios = [hpo / paper for hpo, paper in zip(rates["hpo"], rates["paper"], strict=True)]
        median = {
            variant: self._result.median(f"{name} {size}, {variant}", values)
            for variant, values in rates.items()
        }
        ratio = self._result.median(f"{name} {size}, hpo / paper", ratios)
        share = median["hpo"] * flops(name) / (self._peak["float32"] * (os.cpu_count() or 1))
        figures = (f"{median['paper']:,.0f}", f"{median['hpo']:,.0f}", f"{ratio:.2f}")
        table.add(name, str(size), *figures, spread(ratios), f"{share:.1%}")
        self.rates.setdefault(f"{name} {size}", {})["machine"] = rates

    def _in_turns(self, calls: dict[str, tuple[Any, ...]]) -> dict[str, list[float]]:
        """Call each function in turn, once per run: a slow minute of the machine then slows all variants."""
        rates: dict[str, list[float]] = {column: [] for column in calls}
        for _ in range(self._result.n):
            for column, (function, *arguments) in calls.items():
                rates[column].append(function(*arguments))
        return rates


def parse_options() -> argparse.Namespace:
    options = parser(__doc__, quick="LeNet at batch size 16, one run, with --one-program")
    options.add_argument("--models", default="lenet,alexnet,vggnet,resnet,spinalnet", help="networks")
    options.add_argument("--sizes", type=numbers, default=[16, 32, 64], help="batch sizes")
    options.add_argument("--widths", type=numbers, default=[1, 4, 16, 64], help="pack widths on one core")
    options.add_argument("--width", type=int, default=4, help="pack width on the whole machine (default 4)")
    options.add_argument("--runs", type=int, default=5, help="alternating runs of each variant (default 5)")
    options.add_argument("--seconds", type=float, default=0.5, help="seconds of a run (default 0.5)")
    options.add_argument(
        "--one-program", action="store_true", help="measure only the program that a search would compile"
    )
    arguments = options.parse_args()
    if arguments.quick:
        arguments.models, arguments.sizes, arguments.widths, arguments.runs = "lenet", [16], [1, 4], 1
        arguments.one_program = True
    return arguments


def main() -> None:
    arguments = parse_options()
    torch.set_num_threads(1)
    result = Result.begin("throughput", "candidate-images trained per second", arguments.runs)
    peak = peaks(0.2 if arguments.quick else 1.0)
    table = result.table("Peak of one core", ("float32 GFLOP/s", "bfloat16 GFLOP/s", "copy GB/s"), first=18)
    table.add(*(f"{peak[name] / 1e9:.1f}" for name in ("float32", "bfloat16", "copy")))
    cells = [(name, size) for name in arguments.models.split(",") for size in arguments.sizes]
    throughput = Throughput(arguments, result, peak)
    try:
        heads = ("network", "batch", "width", "loop", *HEADS.values(), "* / best")
        table = result.table("Candidate-images per second of one core", heads, others=8)
        for name, size in cells:
            throughput.on_one_core(table, name, size)
        heads = ("network", "batch", "paper", "hpo", "ratio", "range", "of peak")
        table = result.table("Candidate-images per second of all cores", heads)
        for name, size in cells:
            throughput.on_the_machine(table, name, size)
    finally:
        throughput.close()
    result.values.update({"rates": throughput.rates, "peak": peak})
    result.write(arguments.json)


if __name__ == "__main__":
    main()
