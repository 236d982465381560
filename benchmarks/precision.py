"""Whether a search in bfloat16 ranks the cells of a network as one in float32 does.

python -m benchmarks.precision [--models NAMES] [--cells N] [--epochs N] [--images N] [--json FILE]

Some cells of the paper's space are trained in both precisions, each under two seeds. Printed are Spearman's
rank correlations of the validation losses of runs with different seeds: of float32 with bfloat16, the mean of
both pairs, and of float32 with itself, which is what a ranking can mean at all. Beside them stands how much
more than the least the loss in float32 is of the cell that is the best in bfloat16, or in float32, under the
other seed. A network passes where the correlation is at most 0.05 lower, and the loss at most 5% higher, than
under another seed, as much as chance alone makes.
"""

import argparse
import json
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import permutations, product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
from scipy.stats import spearmanr

from benchmarks import hardware
from benchmarks.command import LENET
from hpo.search.samplers.points import plan
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.training.engines.eager import Engine
from hpo.training.pack import Candidate
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Budget, Phase
from hpo.values.precision import Precision
from hpo.values.space import Point

WAYS: dict[str, tuple[Precision, int]] = {
    f"{precision} {seed}": (precision, seed) for precision in ("float32", "bfloat16") for seed in (0, 1000)
}
"""Precision, and what is added to the seeds."""

MARGIN = 0.05

DIVERGED = 1e9
"""The loss of a cell that has diverged: the last of all."""


def losses(
    model: str, way: str, cells: list[tuple[int, Point]], epochs: int, images: int
) -> dict[int, float]:
    """The validation loss of each cell, by its number, after so many epochs on so many images."""
    torch.set_num_threads(1)
    precision, seed = WAYS[way]
    raw = StudySpec.load(LENET).to_json()
    spec = StudySpec.parse(raw | {"model": {"name": model}, "pruner": {"name": "none"}}, "benchmark")
    workload = Workload(spec, Settings.from_environment().data_path)
    train, validation = workload.images("search", "cpu")
    trainer = Trainer(
        workload.factory,
        train.subset(torch.arange(images)),
        validation,
        Budget("mini", (Phase("sgd", epochs),), keep="last"),
        int(cells[0][1]["batch_size"]),
        seed=seed,
        device=torch.device("cpu"),
        engine=Engine(precision, channels_last=True),
    )
    candidates = {
        number: Candidate(point["lr"], point["momentum"], point["weight_decay"], seed + number)
        for number, point in cells
    }
    training, found = trainer.start(candidates), dict.fromkeys(candidates, DIVERGED)
    while training.members:
        for result in training.epoch():
            lasts = result.status != "diverged"
            found[result.member] = result.validation_loss if lasts else DIVERGED
    return found


def compared(found: dict[str, dict[int, float]]) -> dict[str, float]:
    """`found`: losses by way and cell."""
    precise, short = (
        [found[way] for way in WAYS if way.startswith(name)] for name in ("float32", "bfloat16")
    )
    crossed = list(zip(precise, reversed(short), strict=True))
    return {
        "bfloat16": mean(correlation(*pair) for pair in crossed),
        "seed": correlation(*precise),
        "regret bfloat16": mean(regret(*pair) for pair in crossed),
        "regret seed": mean(regret(*pair) for pair in permutations(precise)),
    }


def correlation(one: dict[int, float], other: dict[int, float]) -> float:
    return float(
        spearmanr([one[cell] for cell in sorted(one)], [other[cell] for cell in sorted(one)]).statistic
    )


def regret(true: dict[int, float], seen: dict[int, float]) -> float:
    """How much more than the least the true loss is of the cell that is seen as the best."""
    return true[min(seen, key=seen.__getitem__)] / min(true.values()) - 1


def passes(figures: dict[str, float]) -> bool:
    ranks = figures["bfloat16"] >= figures["seed"] - MARGIN
    return ranks and figures["regret bfloat16"] <= figures["regret seed"] + MARGIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="alexnet,vggnet,resnet,spinalnet", help="networks")
    parser.add_argument("--cells", type=int, default=24, help="of each network (default 24)")
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default 3)")
    parser.add_argument("--images", type=int, default=2000, help="that are trained on (default 2000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    lenet = StudySpec.load(LENET)
    sizes: dict[int, list[tuple[int, Point]]] = defaultdict(list)
    for number, point in enumerate(plan(lenet.space, options.cells, lenet.seed)):
        sizes[int(point["batch_size"])].append((number, point))
    print(
        f"{options.cells} cells of {options.epochs} epochs on {options.images} images; {hardware.line()}\n"
        f"{'':10}{'bfloat16':>10}{'seed':>8}   best cell's loss, above the least: bfloat16, seed"
    )
    every = {}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        for model in options.models.split(","):
            work = [(way, cells) for way, cells in product(WAYS, sizes.values())]
            one = partial(losses, model, epochs=options.epochs, images=options.images)
            waiting = [(way, processes.submit(one, way, cells)) for way, cells in work]
            found: dict[str, dict[int, float]] = defaultdict(dict)
            for way, future in waiting:
                found[way] |= future.result()
            figures = compared(found)
            verdict = "passes" if passes(figures) else "fails"
            print(
                f"{model:10}{figures['bfloat16']:10.3f}{figures['seed']:8.3f}   "
                f"{figures['regret bfloat16']:.2%}, {figures['regret seed']:.2%}: {verdict}",
                flush=True,
            )
            every[model] = {"losses": found, "figures": figures}
    if options.json:
        options.json.write_text(json.dumps({"models": every, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
