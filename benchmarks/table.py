"""Trains every cell of a study's space under several seeds: a table of curves, for `hpo replay`.

python -m benchmarks.table STUDY FILE [--epochs N] [--seeds N]

A process on each core trains packs of cells of one batch size, as a search does. What is trained already is
kept beside FILE, so that it can be stopped and called again at any time.
"""

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import hardware
from hpo.settings import Settings
from hpo.simulate.curve_table import CurveTable, Measured, Run, read, write
from hpo.spec.study_spec import StudySpec
from hpo.training.allocator import keep_freed
from hpo.training.engines.autotuning import AutotunedEngine
from hpo.training.pack import Candidate
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Budget, Phase
from hpo.values.seeds import derive_seed
from hpo.values.space import Cell, Point, cell
from hpo.values.stage import Stage

CELLS = 12
"""Of a pack, at most: what is lost if it is stopped meanwhile."""


def train(
    spec: StudySpec, stage: Stage, budget: Budget, seed: int, cells: list[tuple[int, Point]]
) -> list[Run]:
    """One run of each of these cells, which have their numbers with them and one batch size."""
    torch.set_num_threads(1)
    keep_freed()
    settings = Settings.from_environment()
    workload = Workload(spec, settings.data_path)
    images, validation = workload.images(stage, "cpu")
    compiles = spec.engine.compile != "never" and spec.autotunes(stage, len(images))
    trainer = Trainer(
        workload.factory,
        images,
        validation,
        budget,
        int(cells[0][1]["batch_size"]),
        seed=derive_seed(spec.seed, 5, seed),
        device=torch.device("cpu"),
        clock=time.thread_time,  # what the machine does beside it takes no part
        engine=AutotunedEngine(workload.program, settings.programs_path, spec.precisions(stage), compiles),
    )
    trainer.prepare()
    training = trainer.start(
        {
            number: Candidate(
                point["lr"], point["momentum"], point["weight_decay"], derive_seed(spec.seed, 6, seed, number)
            )
            for number, point in cells
        }
    )
    curves: dict[int, list[Measured]] = defaultdict(list)
    while training.members:
        for one in training.epoch():
            curves[one.member].append(
                Measured(
                    one.train_loss,
                    one.validation_loss,
                    one.validation_accuracy,
                    one.seconds,
                    one.evaluation_seconds,
                )
            )
    return [tuple(curves[number]) for number, _ in cells]


def parts(spec: StudySpec) -> list[list[tuple[int, Point]]]:
    """The cells of the space with their numbers, in packs of one batch size."""
    assert spec.space.cells is not None
    sizes: dict[float, list[tuple[int, Point]]] = defaultdict(list)
    for number in range(spec.space.cells):
        point = spec.space.point_at(number)
        sizes[point["batch_size"]].append((number, point))
    return [cells[first : first + CELLS] for cells in sizes.values() for first in range(0, len(cells), CELLS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file with a finite space")
    parser.add_argument("file", type=Path, help="the table to write, NAME.csv.gz")
    parser.add_argument("--epochs", type=int, default=10, help="of each training (default 10)")
    parser.add_argument("--seeds", type=int, default=3, help="of each cell (default 3)")
    options = parser.parse_args()
    spec = StudySpec.load(options.study)
    if spec.space.cells is None:
        sys.exit(f"{options.study}: space: only a finite space has a table")
    # Parts of another study, or of fewer epochs, are not taken for ours.
    mark = hashlib.sha256(f"{spec.fingerprint} {spec.engine} {options.epochs}".encode()).hexdigest()[:12]
    folder = options.file.with_name(f"{options.file.name}.{mark}")
    folder.mkdir(parents=True, exist_ok=True)

    packs, names, begun = parts(spec), tuple(spec.space.domains), time.perf_counter()
    budget = Budget("mini", (Phase("sgd", options.epochs),), keep="last")
    files = {(s, n): folder / f"{s}-{n}.csv.gz" for s in range(options.seeds) for n in range(len(packs))}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        waiting = {
            processes.submit(train, spec, "search", budget, seed, packs[place]): (path, packs[place])
            for (seed, place), path in files.items()
            if not path.exists()
        }
        for done, future in enumerate(as_completed(waiting), 1):
            path, cells = waiting[future]
            runs = {cell(point): [run] for (_, point), run in zip(cells, future.result(), strict=True)}
            write(path, CurveTable(names, runs), [])
            print(
                f"{done} of {len(waiting)} packs, {time.perf_counter() - begun:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    runs_of: dict[Cell, list[Run]] = defaultdict(list)
    for _, path in sorted(files.items()):
        for key, seed_runs in read(path).runs.items():
            runs_of[key] += seed_runs
    ordered = {cell(point): runs_of[cell(point)] for pack in packs for _, point in pack}
    comments = [
        f"python -m benchmarks.table {options.study} {options.file} --epochs {options.epochs} "
        f"--seeds {options.seeds}",
        f"{spec.model.name} on {spec.data.name}; mini {spec.data.mini:g}, {spec.data.validation:g} validates",
        hardware.line(),
    ]
    write(options.file, CurveTable(names, ordered), comments)
    shutil.rmtree(folder)
    print(f"{options.file}: {len(ordered)} cells, {options.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
