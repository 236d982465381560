"""Compare a pack that waits for the answer to its epoch report with a pack that trains on at once.

waits     training waits until it knows which trials are pruned, at most two seconds; workers do this
goes on   training does not wait, and a pruned trial leaves the pack an epoch late

One worker runs the paper's LeNet search with ASHA, alternating between the two. `database` is the time that
the worker waited for the storage.
"""

import time
from dataclasses import dataclass

import torch

from benchmarks.command import describe, lenet_spec, parser, stored_study
from benchmarks.results import Result, spread
from hpo.artifacts.registry import open_artifacts
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.status import status
from hpo.training.workload import Workload
from hpo.worker.context import WorkerSettings
from hpo.worker.pack_training import PackTraining
from hpo.worker.reporter import ANSWER_SECONDS
from hpo.worker.runtime import LoopLimits, Runtime, WorkerLimits
from hpo.worker.worker import Worker

VARIANTS = {"waits": ANSWER_SECONDS, "goes on": 0.0}
"""How long training waits for an answer, by variant."""

COLUMNS = ("all", "training", "evaluation", "database")


@dataclass(frozen=True, slots=True)
class Setup:
    storage: Storage
    spec: StudySpec
    workload: Workload
    settings: Settings


def search(setup: Setup, answer_seconds: float) -> dict[str, float]:
    """Run the search in this process and return its seconds: `all` and by activity."""
    limits = WorkerLimits(loop=LoopLimits(answer_seconds=answer_seconds))
    with stored_study(setup.storage, setup.spec, setup.settings) as study:
        worker = Worker(
            setup.storage,
            study,
            PackTraining(setup.workload),
            WorkerSettings(
                f"benchmark-{answer_seconds}",
                "cpu",
                open_artifacts(setup.settings, study.artifacts_name),
                programs=setup.settings.programs_path,
            ),
            Runtime(limits=limits),
        )
        start = time.perf_counter()
        worker.run()
        seconds = time.perf_counter() - start
        return {"all": seconds, **status(setup.storage, study).search.activities}


def main() -> None:
    options = parser(__doc__, quick="6 trials of 2 epochs on digits, one run")
    options.add_argument("--runs", type=int, default=5, help="alternating runs of each variant (default 5)")
    arguments = options.parse_args()

    torch.set_num_threads(1)
    spec, settings = (
        lenet_spec("answers", arguments.quick, pruner={"name": "asha"}),
        Settings.from_environment(),
    )
    setup = Setup(open_storage(settings), spec, Workload.open(spec, settings), settings)
    result = Result.begin(
        "answers", f"{describe(spec)}; ASHA, one worker", 1 if arguments.quick else arguments.runs
    )
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(result.n):
        for variant, seconds in VARIANTS.items():
            runs[variant].append(search(setup, seconds))
    report(result, runs)
    result.write(arguments.json)


def report(result: Result, runs: dict[str, list[dict[str, float]]]) -> None:
    table = result.table("Median seconds of a search", ("variant", *COLUMNS))
    for variant, searches in runs.items():
        medians = [
            result.median(f"{variant}, {column}", (seconds[column] for seconds in searches))
            for column in COLUMNS
        ]
        table.add(variant, *(f"{median:.2f}" for median in medians))
    pairs = zip(runs["goes on"], runs["waits"], strict=True)
    ratios = [going_on["all"] / waiting["all"] for going_on, waiting in pairs]
    table = result.table("Time of a whole search", ("ratio", "median", "range"))
    table.add("goes on / waits", f"{result.median('goes on / waits', ratios):.3f}", spread(ratios, 3))
    result.values.update({"runs": runs, "ratios": ratios})


if __name__ == "__main__":
    main()
