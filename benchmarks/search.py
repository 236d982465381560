"""Time the paper's LeNet search (28 cells, 5 epochs, mini split) by hpo and by hand-written loops.

paper     one trial at a time, images through PIL, a DataLoader with two workers, as the paper describes
optuna    a good Optuna loop: images in memory, `study.optimize`, one trial at a time, all cores
optuna-2  two processes of that loop on one Postgres, which share the cores or the GPU
hpo       `hpo study create` and `hpo workers`, without pruning
hpo-asha  the same with ASHA

Each search is a command and its time includes start-up, as its user would wait for it. All train the same
cells on the same images, one search after the other.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna

from benchmarks.command import describe, lenet_spec, parser, run_hpo, stored_study, study_file
from benchmarks.results import Result, spread
from hpo.launch.devices import slots
from hpo.search.samplers.points import plan
from hpo.settings import Settings, child_environment
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage

LOOPS = (sys.executable, "-m", "benchmarks.loops")
HPO_VARIANTS, LOOP_VARIANTS = ("hpo", "hpo-asha"), ("paper", "optuna", "optuna-2")

Search = Callable[[], float]
"""Run a search and return its best validation loss."""


def paper_search(spec: StudySpec) -> float:
    with study_file(spec) as file:
        done = subprocess.run((*LOOPS, "paper", str(file)), text=True, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def optuna_search(spec: StudySpec, storage: Storage, processes: int) -> float:
    study = optuna.create_study(storage=storage.backend)
    for point in plan(spec.space, spec.search.trials, spec.seed):
        study.enqueue_trial(point)
    shared = slots("all", processes)[0].environment if processes > 1 else {}
    environment = child_environment(**shared)
    with study_file(spec) as file:
        command = (*LOOPS, "optuna", str(file), study.study_name)
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(processes)
        ]
        if sum(process.wait() != 0 for process in running):
            sys.exit("a loop over Optuna failed")
    best = study.best_value
    optuna.delete_study(study_name=study.study_name, storage=storage.backend)
    return best


def hpo_search(spec: StudySpec, storage: Storage, settings: Settings, pruner: Mapping[str, Any]) -> float:
    spec = StudySpec.parse(spec.to_json() | {"pruner": pruner}, "benchmark")
    with stored_study(storage, spec, settings):
        run_hpo("workers", spec.name)
        return storage.study(spec.name).best_value


def searches(spec: StudySpec, settings: Settings) -> dict[str, Search]:
    storage = open_storage(settings)
    return {
        "paper": lambda: paper_search(spec),
        "optuna": lambda: optuna_search(spec, storage, 1),
        "optuna-2": lambda: optuna_search(spec, storage, 2),
        "hpo": lambda: hpo_search(spec, storage, settings, {"name": "none"}),
        "hpo-asha": lambda: hpo_search(spec, storage, settings, {"name": "asha", "reduction": 3}),
    }


def main() -> None:
    options = parser(__doc__, quick="6 trials of 2 epochs on digits, one run")
    options.add_argument("--runs", type=int, default=5, help="alternating runs of each search (default 5)")
    options.add_argument("--only", help="run these searches only, separated by commas")
    arguments = options.parse_args()

    spec = lenet_spec("benchmark", arguments.quick)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chosen = searches(spec, Settings.from_environment())
    if arguments.only:
        chosen = {variant: chosen[variant] for variant in arguments.only.split(",")}
    result = Result.begin("search", describe(spec), 1 if arguments.quick else arguments.runs)
    seconds: dict[str, list[float]] = {variant: [] for variant in chosen}
    losses: dict[str, list[float]] = {variant: [] for variant in chosen}
    for _ in range(result.n):
        for variant, search in chosen.items():
            start = time.perf_counter()
            losses[variant].append(search())
            seconds[variant].append(time.perf_counter() - start)
            print(f"{variant}: {seconds[variant][-1]:.1f} s", file=sys.stderr)
    report(result, seconds, losses)
    result.write(arguments.json)


def report(result: Result, seconds: dict[str, list[float]], losses: dict[str, list[float]]) -> None:
    table = result.table("Seconds of a search", ("search", "median s", "range", "best loss"))
    for variant, values in seconds.items():
        median, loss = result.median(variant, values), result.median(f"{variant}, best loss", losses[variant])
        table.add(variant, f"{median:.1f}", spread(values, 1), f"{loss:.4f}")
    ratios = {
        f"{loop} / {variant}": [a / b for a, b in zip(seconds[loop], seconds[variant], strict=True)]
        for variant in HPO_VARIANTS
        for loop in LOOP_VARIANTS
        if variant in seconds and loop in seconds
    }
    if ratios:
        table = result.table("Speed-up of hpo", ("seconds", "median ratio", "range"), first=22)
    for name, values in ratios.items():
        table.add(name, f"{result.median(name, values):.2f}", spread(values))
    result.values.update({"seconds": seconds, "losses": losses, "ratios": ratios})


if __name__ == "__main__":
    main()
