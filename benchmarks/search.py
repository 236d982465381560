"""The paper's 28 LeNet cells, 5 epochs on the mini split: this service against the loops that people write.

python -m benchmarks.search [--runs N] [--only WAYS] [--quick] [--json FILE]

paper     a trial at a time, images through PIL, a DataLoader with two workers, as the paper describes it
optuna    what a good Optuna user writes: images in memory, `study.optimize`, a trial at a time, all cores
optuna-2  two processes of that on one Postgres, which share the cores, or the GPU if there is one
hpo       `hpo study create` and `hpo workers`, without pruning
hpo-asha  the same with ASHA

Each is a command, started anew: what counts is all that a user waits for. All train the same cells on the
same images, one way after another.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import tomli_w

from benchmarks import hardware
from benchmarks.command import hpo, lenet, stored
from hpo.launch.devices import slots
from hpo.search.samplers.points import plan
from hpo.settings import Settings, child_environment
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage

LOOPS = (sys.executable, "-m", "benchmarks.loops")


@contextmanager
def study_file(spec: StudySpec) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.toml")
        file.write_text(tomli_w.dumps(spec.to_json()))
        yield str(file)


def as_in_the_paper(spec: StudySpec) -> float:
    with study_file(spec) as file:
        done = subprocess.run((*LOOPS, "paper", file), text=True, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def with_optuna(spec: StudySpec, storage: Storage, processes: int) -> float:
    study = optuna.create_study(storage=storage.backend)
    for point in plan(spec.space, spec.search.trials, spec.seed):
        study.enqueue_trial(point)
    shared = slots("all", processes)[0].environment if processes > 1 else {}
    environment = child_environment(**shared)
    with study_file(spec) as file:
        command = (*LOOPS, "optuna", file, study.study_name)
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(processes)
        ]
        if sum(process.wait() != 0 for process in running):
            sys.exit("a loop over Optuna failed")
    best = study.best_value
    optuna.delete_study(study_name=study.study_name, storage=storage.backend)
    return best


def with_hpo(spec: StudySpec, storage: Storage, artifacts: Path, pruner: Mapping[str, Any]) -> float:
    spec = StudySpec.parse(spec.to_json() | {"pruner": pruner}, "benchmark")
    with stored(storage, spec, artifacts):
        hpo("workers", spec.name)
        return storage.study(spec.name).best_value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--only", help="these ways, with commas between them")
    parser.add_argument("--quick", action="store_true", help="6 trials of 2 epochs on digits, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    if options.quick:
        options.runs = 1
    spec = lenet("benchmark", options.quick)
    settings = Settings.from_environment()
    storage = open_storage(settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ours = partial(with_hpo, spec, storage, settings.artifacts_path)
    ways: dict[str, Callable[[], float]] = {
        "paper": lambda: as_in_the_paper(spec),
        "optuna": lambda: with_optuna(spec, storage, 1),
        "optuna-2": lambda: with_optuna(spec, storage, 2),
        "hpo": lambda: ours({"name": "none"}),
        "hpo-asha": lambda: ours({"name": "asha", "reduction": 3}),
    }
    if options.only:
        ways = {way: ways[way] for way in options.only.split(",")}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.runs):
        for way, run in ways.items():
            start = time.perf_counter()
            losses[way].append(run())
            seconds[way].append(time.perf_counter() - start)
            print(f"{way}: {seconds[way][-1]:.1f} s", file=sys.stderr)
    report(options, spec, seconds, losses)


def report(
    options: argparse.Namespace,
    spec: StudySpec,
    seconds: dict[str, list[float]],
    losses: dict[str, list[float]],
) -> None:
    print(
        f"{spec.search.trials} trials of {spec.search.epochs} epochs, "
        f"{spec.model.name} on {spec.data.name}; {hardware.line()}; n = {options.runs}"
    )
    print(f"{'':10}{'median s':>10}{'min':>8}{'max':>8}{'best loss':>12}")
    for way, values in seconds.items():
        middle, loss = statistics.median(values), statistics.median(losses[way])
        print(f"{way:10}{middle:10.1f}{min(values):8.1f}{max(values):8.1f}{loss:12.4f}")
    ratios = {}
    for ours in ("hpo", "hpo-asha"):
        for theirs in ("paper", "optuna", "optuna-2"):
            if ours in seconds and theirs in seconds:
                pairs = zip(seconds[theirs], seconds[ours], strict=True)
                ratios[f"{theirs} / {ours}"] = [a / b for a, b in pairs]
    for name, values in ratios.items():
        print(f"{name}: median {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    if options.json:
        figures = {"seconds": seconds, "losses": losses, "ratios": ratios, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
