"""Test whether a search in bfloat16 ranks the cells of a network as a search in float32 does.

Some cells of the paper's space are trained in both precisions, each under two seeds. The table has Spearman's
rank correlation of the validation losses of runs with different seeds: of float32 with bfloat16 (the mean of
both pairs), and of float32 with itself, which limits how well any ranking can agree. `excess` is how much
higher than the least the float32 loss is of the cell that is the best in bfloat16, or in float32, under the
other seed. A network passes if bfloat16 loses at most 0.05 in correlation and 5% in excess against float32
under another seed.
"""

import os
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from multiprocessing import get_context
from statistics import mean

import torch
from scipy.stats import spearmanr

from benchmarks.command import LENET_FILE, parser
from benchmarks.results import Result
from benchmarks.table import NumberedCell
from hpo.search.samplers.points import plan
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.training.engines.eager import EagerEngine
from hpo.training.task import Recipe, Task
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.parameters import with_defaults
from hpo.values.precision import Precision


@dataclass(frozen=True, slots=True)
class Variant:
    """A precision, and an offset that is added to all seeds."""

    precision: Precision
    seed_offset: int


PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
VARIANTS = {
    f"{precision} {offset}": Variant(precision, offset)
    for precision, offset in product(PRECISIONS, (0, 1000))
}

MARGIN = 0.05

DIVERGED = 1e9
"""The loss of a cell that diverged: it ranks last."""

Losses = dict[int, float]
"""Validation losses by cell number."""


def train_cells(variant: str, cells: Sequence[NumberedCell], model: str, options: Namespace) -> Losses:
    """Train cells of one batch size as a pack and return their losses after the last epoch."""
    torch.set_num_threads(1)
    precision, seed = VARIANTS[variant].precision, VARIANTS[variant].seed_offset
    raw = StudySpec.load(LENET_FILE).to_json()
    spec = StudySpec.parse(raw | {"model": {"name": model}, "pruner": {"name": "none"}}, "benchmark")
    workload = Workload.open(spec, Settings.from_environment())
    train, validation = workload.images("search", "cpu")
    trainer = Trainer(
        Task(
            workload.factory,
            train.subset(torch.arange(options.images)),
            validation,
            workload.criterion,
        ),
        Recipe(
            Budget("mini", (Phase("sgd", options.epochs),), keep="last"),
            int(cells[0][1]["batch_size"]),
            seed=seed,
        ),
        EagerEngine(precision, channels_last=True),
    )
    candidates = {number: Candidate(with_defaults(point), seed + number) for number, point in cells}
    session, losses = trainer.start(candidates), dict.fromkeys(candidates, DIVERGED)
    while session.members:
        for result in session.epoch():
            finite = result.status != "diverged"
            losses[result.member] = result.metrics[VALIDATION_LOSS] if finite else DIVERGED
    return losses


def compare(losses: dict[str, Losses]) -> dict[str, float]:
    """Return the correlations and excess losses. `losses`: of each variant."""
    float32, bfloat16 = (
        [losses[variant] for variant in VARIANTS if variant.startswith(precision)] for precision in PRECISIONS
    )
    crossed = list(zip(float32, reversed(bfloat16), strict=True))
    return {
        "bfloat16": mean(correlation(*pair) for pair in crossed),
        "seed": correlation(*float32),
        "regret bfloat16": mean(excess(*pair) for pair in crossed),
        "regret seed": mean(excess(*pair) for pair in permutations(float32)),
    }


def correlation(first: Losses, second: Losses) -> float:
    cells = sorted(first)
    return float(spearmanr([first[cell] for cell in cells], [second[cell] for cell in cells]).statistic)


def excess(true: Losses, seen: Losses) -> float:
    """Return by what share the true loss of the cell that looks best exceeds the least true loss."""
    return true[min(seen, key=seen.__getitem__)] / min(true.values()) - 1


def passes(figures: dict[str, float]) -> bool:
    ranks = figures["bfloat16"] >= figures["seed"] - MARGIN
    return ranks and figures["regret bfloat16"] <= figures["regret seed"] + MARGIN


def main() -> None:
    options = parser(__doc__, quick="4 cells of LeNet, one epoch on 320 images")
    options.add_argument("--models", default="alexnet,vggnet,resnet,spinalnet", help="networks")
    options.add_argument("--cells", type=int, default=24, help="cells of each network (default 24)")
    options.add_argument("--epochs", type=int, default=3, help="epochs of each training (default 3)")
    options.add_argument("--images", type=int, default=2000, help="training images (default 2000)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.models, arguments.cells, arguments.epochs, arguments.images = "lenet", 4, 1, 320

    lenet = StudySpec.load(LENET_FILE)
    by_size: dict[int, list[NumberedCell]] = defaultdict(list)
    for number, point in enumerate(plan(lenet.space, arguments.cells, lenet.seed)):
        by_size[int(point["batch_size"])].append((number, point))
    setup = f"{arguments.cells} cells of {arguments.epochs} epochs on {arguments.images} images"
    result = Result.begin("precision", setup, 1)
    heads = ("network", "bfloat16", "float32", "excess bfloat16", "excess float32", "verdict")
    table = result.table("Rank correlation with float32 under another seed", heads)
    by_model = {}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        for model in arguments.models.split(","):
            train = partial(train_cells, model=model, options=arguments)
            calls = list(product(VARIANTS, by_size.values()))
            futures = [(variant, processes.submit(train, variant, cells)) for variant, cells in calls]
            losses: dict[str, Losses] = defaultdict(dict)
            for variant, future in futures:
                losses[variant] |= future.result()
            figures = compare(losses)
            table.add(
                model,
                f"{figures['bfloat16']:.3f}",
                f"{figures['seed']:.3f}",
                f"{figures['regret bfloat16']:.2%}",
                f"{figures['regret seed']:.2%}",
                "passes" if passes(figures) else "fails",
            )
            by_model[model] = {"losses": losses, "figures": figures}
            result.medians.update({f"{model}, {name}": value for name, value in figures.items()})
    result.values["models"] = by_model
    result.write(arguments.json)


if __name__ == "__main__":
    main()
