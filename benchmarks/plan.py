"""Compare the plans of short studies with what came true.

Each study is planned with `hpo plan`, then run with `hpo run`, on scikit-learn's digits. The studies differ
in seed, pruner, budget and promotion. A figure is covered if it lies between the least and the most of the
plan.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w

from benchmarks.command import HPO, parser, run_hpo
from benchmarks.results import Result
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import open_storage
from hpo.study.history import history
from hpo.study.status import status
from hpo.study.stored import load
from hpo.values.stage import STAGES

FIGURES = ("search epochs", "full epochs", "total time", "device hours")

PRUNERS = ("pause", "asha", "none", "hyperband", "median")

BASE: Mapping[str, Any] = {
    "model": {"name": "lenet"},
    "data": {"name": "digits", "mini": 0.5, "validation": 0.4},
    "space": {
        "lr": {"low": 1e-3, "high": 0.3, "log": True},
        "batch_size": [16, 32],
        "momentum": [0, 0.9],
    },
    "full": {"pretrain": {"epochs": 25, "patience": 5}, "finetune": {"epochs": 10, "patience": 3}},
}

Figures = dict[str, float]


def studies(count: int) -> list[StudySpec]:
    """Return studies that differ in seed, pruner, budget and promotion."""
    return [_study(number) for number in range(count)]


def _study(number: int) -> StudySpec:
    changes: dict[str, Any] = {
        "name": f"plan-{number}",
        "seed": number,
        "pruner": {"name": PRUNERS[number % len(PRUNERS)]},
        "search": {"trials": (12, 16, 24)[number % 3], "epochs": (4, 8)[number % 2]},
        "promotion": {"top": 1 + number % 3, "seeds": 1 + number % 2},
    }
    if number % 4 == 3:
        changes["stop"] = {"epochs": 60}
    return StudySpec.parse({**BASE, **changes}, "benchmark")


def plan(file: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of the plan of a study file, by name."""
    done = subprocess.run([*HPO, "plan", str(file), "--json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return {figure["name"]: figure for figure in json.loads(done.stdout)["figures"]}


def run(file: Path, name: str, settings: Settings) -> Figures:
    """Run a study and delete it; return what it took, by the names of the figures of a plan."""
    begin = time.perf_counter()
    run_hpo("run", str(file))
    seconds = time.perf_counter() - begin
    storage = open_storage(settings)
    study = load(storage, name)
    figures, trials = status(storage, study), history(storage, study, with_epochs=False).trials
    storage.engine.dispose()
    run_hpo("study", "delete", name, "--yes")
    epochs = {
        f"{stage} epochs": sum(trial.epochs for trial in trials if trial.stage == stage) for stage in STAGES
    }
    spent = figures.search.device_seconds + figures.full.device_seconds
    return {**epochs, "total time": seconds, "device hours": spent / 3600}


def is_covered(planned: Mapping[str, Any], true: float) -> bool:
    """Return whether a figure lies within the bounds of its plan."""
    return bool(planned["low"] <= true <= planned["high"])


def covered(rows: Sequence[Mapping[str, Any]], name: str) -> int:
    """Return how many of the studies kept to the plan of a figure."""
    return sum(is_covered(row["planned"][name], row["true"][name]) for row in rows)


def main() -> None:
    options = parser(__doc__, quick="one study in place of ten")
    arguments = options.parse_args()
    settings = Settings.from_environment()
    result = Result.begin("plan", "Plans of short studies on digits", 1 if arguments.quick else 10)
    table = result.table(
        "What came true, and the least and the most of the plan", ("study", *FIGURES), first=8, others=24
    )
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for spec in studies(result.n):
            file = Path(folder, f"{spec.name}.toml")
            file.write_text(tomli_w.dumps(spec.to_json()))
            planned, true = plan(file), run(file, spec.name, settings)
            rows.append({"study": spec.name, "planned": planned, "true": true})
            table.add(spec.name, *(_cell(planned[name], true[name]) for name in FIGURES))
    table.add("covered", *(f"{covered(rows, name)} of {len(rows)}" for name in FIGURES))
    result.values["studies"] = rows
    result.write(arguments.json)


def _cell(planned: Mapping[str, Any], true: float) -> str:
    return f"{true:.3g} ({planned['low']:.3g} to {planned['high']:.3g})"


if __name__ == "__main__":
    main()
