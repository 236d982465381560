"""The paper's 28 LeNet cells, 5 epochs on the mini split: this service against a loop over Optuna.

python -m benchmarks.search [--runs N] [--data NAME] [--quick] [--json FILE]

optuna    what a good Optuna user writes: images in memory, `study.optimize`, a trial at a time, all cores
hpo       `hpo study create` and `hpo workers`, as commands, without pruning: start-up, packs, reports, all

Both run the same cells on the same images and store their trials in the same Postgres, alternately.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import torch
from torch import nn

from benchmarks import hardware
from benchmarks.command import hpo, stored
from data.device import DeviceImages
from hpo.sampler import plan
from hpo.settings import Settings
from hpo.spec import StudySpec
from hpo.storage import Storage, open_storage
from hpo.workload import Workload

ROOT = Path(__file__).parents[1]


def with_optuna(spec: StudySpec, workload: Workload, storage: Storage) -> float:
    """Runs the cells in a loop; gives the best validation loss."""
    train, validation = workload.images("search", "cpu")
    study = optuna.create_study(storage=storage.backend)
    for point in plan(spec.space, spec.search.trials, spec.seed):
        study.enqueue_trial(point)

    def objective(trial: optuna.Trial) -> float:
        space = {name: domain.values for name, domain in spec.space.domains.items()}
        point = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        return train_one(spec, workload, train, validation, point)

    study.optimize(objective, n_trials=spec.search.trials)
    best = study.best_value
    optuna.delete_study(study_name=study.study_name, storage=storage.backend)
    return best


def train_one(
    spec: StudySpec, workload: Workload, train: DeviceImages, validation: DeviceImages, point: dict
) -> float:
    model = workload.factory()
    optimizer = torch.optim.SGD(
        model.parameters(), point["lr"], momentum=point["momentum"], weight_decay=point["weight_decay"]
    )
    for _ in range(spec.search.epochs):
        model.train()
        for index in torch.randperm(len(train)).split(point["batch_size"]):
            images, labels = train.batch(index)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        losses = [
            nn.functional.cross_entropy(model(images), labels, reduction="sum")
            for images, labels in (validation.batch(i) for i in torch.arange(len(validation)).split(500))
        ]
    return float(sum(losses)) / len(validation)


def with_hpo(spec: StudySpec, artifacts: Path, storage: Storage) -> float:
    """Runs the cells by command; gives the best validation loss."""
    with stored(storage, spec, artifacts):
        hpo("workers", spec.name)
        return storage.study(spec.name).best_value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--data", default="emnist-byclass", help="data set (default emnist-byclass)")
    parser.add_argument("--quick", action="store_true", help="6 trials of 1 epoch on digits, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    raw = StudySpec.load(ROOT / "studies" / "lenet.toml").to_json()
    raw["name"] = f"benchmark-{os.getpid()}"
    raw["data"]["name"] = options.data
    if options.quick:
        options.runs = 1
        raw["data"] |= {"name": "digits", "mini": 0.5, "validation": 0.4}
        raw["search"] = {"trials": 6, "epochs": 1}
    spec = StudySpec.parse(raw, "benchmark")
    settings = Settings.from_environment()
    storage = open_storage(settings)
    workload = Workload(spec, settings.data_path)
    ways: dict[str, Callable[[], float]] = {
        "optuna": lambda: with_optuna(spec, workload, storage),
        "hpo": lambda: with_hpo(spec, settings.artifacts_path, storage),
    }
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
    ratios = [a / b for a, b in zip(seconds["optuna"], seconds["hpo"], strict=True)]
    print(
        f"{spec.search.trials} trials of {spec.search.epochs} epochs, {spec.model.name} on {spec.data.name}"
    )
    print(f"{hardware.line()}; n = {options.runs}")
    print(f"{'':10}{'median s':>10}{'min':>8}{'max':>8}{'best loss':>12}")
    for way, values in seconds.items():
        middle, loss = statistics.median(values), statistics.median(losses[way])
        print(f"{way:10}{middle:10.1f}{min(values):8.1f}{max(values):8.1f}{loss:12.4f}")
    print(f"optuna / hpo: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if options.json:
        figures = {"seconds": seconds, "losses": losses, "ratios": ratios, "hardware": hardware.line()}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
