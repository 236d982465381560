"""The examples of training functions run as a user runs them, and their bundles repeat the training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from support.refusals import assert_one_line
from support.shell import ROOT, Shell

import hpo
from hpo.export.function_bundle import FunctionBundle

EXAMPLES = ROOT / "studies" / "own-training"

Fit = Callable[[hpo.Trial], Any]


def copy_example(shell: Shell, name: str, trials: int = 4) -> None:
    """Copy an example to the user's folder, with fewer trials."""
    shutil.copy(EXAMPLES / name / "train.py", shell.folder)
    study = (EXAMPLES / name / "study.toml").read_text()
    shell.write("study.toml", re.sub(r"^trials = \d+", f"trials = {trials}", study, flags=re.MULTILINE))


def open_bundle(folder: Path) -> FunctionBundle:
    bundle = hpo.load_bundle(folder)
    assert isinstance(bundle, FunctionBundle)
    return bundle


def function_of(file: Path) -> Fit:
    spec = spec_from_file_location("example", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    fit: Fit = module.fit
    return fit


def by_hand(fit: Fit, bundle: FunctionBundle) -> dict[str, float]:
    """Train without hpo, and return the metrics of the kept epoch."""
    function = bundle.function
    assert function.seed is not None
    trial = hpo.Trial(bundle.params, budget=function.epochs or 1, stage="full", seed=function.seed)
    result = fit(trial)
    if isinstance(result, Iterator):
        result = list(result)[(function.kept_epoch or 1) - 1]
    return result if isinstance(result, dict) else {"accuracy": result}


def run_example(shell: Shell, name: str) -> FunctionBundle:
    copy_example(shell, name)
    shell.hpo("run", "study.toml", "--gpus", "cpu", "--per-device", "2", "--bundle", "best")
    return open_bundle(shell.folder / "best")


def assert_repeats(bundle: FunctionBundle, folder: Path) -> None:
    """Check that training by hand, from the parameters and the seed in the bundle, gives its metrics."""
    assert bundle.metrics == pytest.approx(by_hand(function_of(folder / "train.py"), bundle), rel=1e-5)


@pytest.mark.parametrize(
    "name", ["boosting", pytest.param("torch-loop", marks=pytest.mark.slow), "one-value"]
)
def test_bundle_of_an_example_repeats_its_training(shell: Shell, name: str) -> None:
    bundle = run_example(shell, name)
    assert_repeats(bundle, shell.folder)
    shown = json.loads(shell.hpo("export", name, "--format", "json").stdout)
    assert shown == bundle.params


def test_state_in_a_bundle_is_that_of_its_metrics(shell: Shell) -> None:
    """As `docs/own-training.md` opens a bundle."""
    bundle = run_example(shell, "linear")
    assert_repeats(bundle, shell.folder)
    images, labels = load_digits(return_X_y=True)
    _, valid_x, _, valid_y = train_test_split(
        images / 16, labels, test_size=0.3, random_state=0, stratify=labels
    )
    model = SGDClassifier(loss="log_loss", **bundle.params)
    state = bundle.state()
    model.coef_, model.intercept_, model.classes_ = state["coef"], state["intercept"], np.unique(labels)
    assert model.score(valid_x, valid_y) == bundle.metrics["accuracy"] > 0.8

    refused = shell.hpo("predict", "best", "image.png", expect=2)
    assert_one_line(refused.stderr, "best: the bundle of a training function has no network")
    shell.hpo("export", "linear", "--bundle", "again")
    again = shell.folder / "again"
    assert {file.name for file in again.iterdir()} == {
        file.name for file in (shell.folder / "best").iterdir()
    }
    assert open_bundle(again).state()["t"] == state["t"]
