"""What the benchmarks share: their options, the LeNet study, and `hpo` called as a command."""

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from hpo.artifacts.registry import open_artifacts
from hpo.settings import PYTHON, Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.stored import load, remove
from hpo.study.study import Study

HPO = (*PYTHON, "-m", "hpo")
LENET_FILE = Path(__file__).parents[1] / "studies" / "lenet-paper.toml"


def parser(description: str | None, quick: str | None = None) -> ArgumentParser:
    """Return a parser with the options of every benchmark.

    `quick` describes the short form of the benchmark, if it has one.
    """
    options = ArgumentParser(description=description, formatter_class=RawTextHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the result to this file")
    if quick is not None:
        options.add_argument("--quick", action="store_true", help=f"short form: {quick}")
    return options


def numbers(text: str) -> list[int]:
    """Parse the value of an option that takes numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def lenet_spec(name: str, quick: bool, **changes: Any) -> StudySpec:
    """Return the paper's search of LeNet under another name. `quick`: six trials of two epochs on digits.

    The process id is part of the name, so that two benchmarks on one Postgres do not collide.
    """
    raw = StudySpec.load(LENET_FILE).to_json()
    if quick:
        raw["data"] |= {"name": "digits", "mini": 0.5, "validation": 0.4}
        raw["search"] = {"trials": 6, "epochs": 2}
    return StudySpec.parse({**raw, "name": f"{name}-{os.getpid()}", **changes}, "benchmark")


def describe(spec: StudySpec) -> str:
    """Return the search of a study in a few words."""
    trials, epochs = spec.search.trials, spec.search.epochs
    return f"{trials} trials of {epochs} epochs, {spec.model.name} on {spec.data.name}"


def run_hpo(*arguments: str) -> None:
    """Run `hpo` with these arguments. Ends the benchmark with its error output if it fails."""
    done = subprocess.run([*HPO, *arguments], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"hpo {' '.join(arguments)} ended with exit code {done.returncode}:\n{done.stderr}")


@contextmanager
def study_file(spec: StudySpec) -> Iterator[Path]:
    """Yield a study file of the spec that exists inside the block."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.toml")
        file.write_text(tomli_w.dumps(spec.to_json()))
        yield file


@contextmanager
def stored_study(storage: Storage, spec: StudySpec, settings: Settings) -> Iterator[Study]:
    """Create a study and remove it with its artifacts after the block."""
    with study_file(spec) as file:
        run_hpo("study", "create", str(file))
    study = load(storage, spec.name)
    try:
        yield study
    finally:
        remove(storage, study, open_artifacts(settings, study.artifacts_name))
