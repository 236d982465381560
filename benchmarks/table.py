"""Train every cell of a study's space under several seeds, and write a curve table for `hpo replay`.

One process per core trains packs of cells of one batch size, as a search does. Finished packs are kept beside
FILE until the table is complete, so the command can be stopped and called again.
"""

import hashlib
import os
import shutil
import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import hardware
from benchmarks.command import parser
from benchmarks.results import Result
from hpo.settings import Settings
from hpo.simulate.curve_table import METRICS, CurveTable, Measured, Run, read, write
from hpo.spec.study_spec import StudySpec
from hpo.training.allocator import keep_freed_memory
from hpo.training.engines.autotuning import AutotunedEngine, TuningOptions
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.parameters import PackKey, pack_key, with_defaults
from hpo.values.seeds import Purpose
from hpo.values.space import Cell, Point, cell
from hpo.values.stage import Stage

PACK_WIDTH = 12
"""The greatest number of cells in a pack. An interrupted pack is lost, so it must not be long."""

NumberedCell = tuple[int, Point]
"""The number of a cell in its space, and its parameters."""


def train(
    spec: StudySpec, stage: Stage, budget: Budget, seed: int, cells: Sequence[NumberedCell]
) -> list[Run]:
    """Train one run of each cell, as one pack. All cells must have the same batch size."""
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = Settings.from_environment()
    workload = Workload.open(spec, settings)
    images, validation = workload.images(stage, "cpu")
    compiles = spec.engine.compile != "never" and spec.autotunes(stage, len(images))
    trainer = Trainer(
        Task(workload.factory, images, validation, workload.criterion),
        Recipe(budget, int(cells[0][1]["batch_size"]), seed=Purpose.TABLE_TRAINING.derive(spec.seed, seed)),
        AutotunedEngine(
            workload.network, settings.programs_path, TuningOptions(spec.precisions(stage), compiles)
        ),
        Runtime(clock=time.thread_time),  # other work on the machine must not count as training time
    )
    trainer.prepare()
    session = trainer.start(
        {
            number: Candidate(with_defaults(point), Purpose.TABLE_WEIGHTS.derive(spec.seed, seed, number))
            for number, point in cells
        }
    )
    curves: dict[int, list[Measured]] = defaultdict(list)
    while session.members:
        for result in session.epoch():
            curves[result.member].append(
                Measured(
                    **{name: result.metrics[name] for name in METRICS},
                    seconds=result.seconds,
                    evaluation_seconds=result.evaluation_seconds,
                )
            )
    return [tuple(curves[number]) for number, _ in cells]


def packs_of(spec: StudySpec) -> list[list[NumberedCell]]:
    """Return all cells of the space with their numbers, in packs of one batch size."""
    assert spec.space.cells is not None
    by_size: dict[PackKey, list[NumberedCell]] = defaultdict(list)
    for number in range(spec.space.cells):
        point = spec.space.point_at(number)
        by_size[pack_key(point)].append((number, point))
    return [
        cells[first : first + PACK_WIDTH]
        for cells in by_size.values()
        for first in range(0, len(cells), PACK_WIDTH)
    ]


def parse_options() -> Namespace:
    options = parser(__doc__, quick="two epochs, one seed")
    options.add_argument("study", type=Path, help="study file with a finite space")
    options.add_argument("file", type=Path, help="table to write, NAME.csv.gz")
    options.add_argument("--epochs", type=int, default=10, help="epochs of each run (default 10)")
    options.add_argument("--seeds", type=int, default=3, help="runs of each cell (default 3)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.seeds = 2, 1
    return arguments


def train_packs(spec: StudySpec, arguments: Namespace, folder: Path) -> dict[Cell, list[Run]]:
    """Train all packs that have no file in `folder`, and return the runs of all, by cell."""
    packs, names = packs_of(spec), tuple(spec.space.domains)
    budget = Budget("mini", (Phase("sgd", arguments.epochs),), keep="last")
    files = {
        (seed, index): folder / f"{seed}-{index}.csv.gz"
        for seed in range(arguments.seeds)
        for index in range(len(packs))
    }
    start = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        futures = {
            processes.submit(train, spec, "search", budget, seed, packs[index]): (path, packs[index])
            for (seed, index), path in files.items()
            if not path.exists()
        }
        for done, future in enumerate(as_completed(futures), 1):
            path, cells = futures[future]
            runs = {cell(point): [run] for (_, point), run in zip(cells, future.result(), strict=True)}
            write(path, CurveTable(names, runs), [])
            seconds = time.perf_counter() - start
            print(f"{done} of {len(futures)} packs, {seconds:.0f} s", file=sys.stderr, flush=True)
    by_cell: dict[Cell, list[Run]] = defaultdict(list)
    for _, path in sorted(files.items()):
        for key, new in read(path).runs.items():
            by_cell[key] += new
    return {cell(point): by_cell[cell(point)] for pack in packs for _, point in pack}


def main() -> None:
    arguments = parse_options()
    spec, file = StudySpec.load(arguments.study), arguments.file
    if spec.space.cells is None:
        sys.exit(f"{arguments.study}: space: only a finite space has a table")
    setup = f"{spec.space.cells} cells of {spec.model.name} on {spec.data.name}, {arguments.epochs} epochs"
    result = Result.begin("table", setup, arguments.seeds)
    # The folder's name keeps packs of another study, or of another number of epochs, apart from these.
    key = hashlib.sha256(f"{spec.fingerprint} {spec.engine} {arguments.epochs}".encode()).hexdigest()[:12]
    folder = file.with_name(f"{file.name}.{key}")
    folder.mkdir(parents=True, exist_ok=True)
    runs = train_packs(spec, arguments, folder)
    table = CurveTable(tuple(spec.space.domains), runs)
    comments = [
        f"python -m benchmarks.table {arguments.study} {file} --epochs {arguments.epochs} "
        f"--seeds {arguments.seeds}",
        f"{spec.model.name} on {spec.data.name}; mini {spec.data.mini:g}, {spec.data.validation:g} validates",
        hardware.line(),
    ]
    write(file, table, comments)
    shutil.rmtree(folder)
    seconds = result.median(
        "seconds of a run", (sum(epoch.seconds for epoch in run) for each in runs.values() for run in each)
    )
    printed = result.table(str(file), ("cells", "runs of a cell", "bytes", "median s of a run"))
    printed.add(str(len(runs)), str(result.n), str(file.stat().st_size), f"{seconds:.2f}")
    result.write(arguments.json)


if __name__ == "__main__":
    main()
