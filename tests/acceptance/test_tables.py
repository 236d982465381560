"""Tables from end to end: a regression and a classification, searched, promoted, exported and opened."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from support.shell import ROOT, Shell

OPTIONS = ("--gpus", "cpu", "--per-device", "1")

DOCUMENT = (ROOT / "docs" / "own-model-and-data.md").read_text()

DIGITS = """
from sklearn.datasets import load_digits
from torch import nn

def load():
    inputs, labels = load_digits(return_X_y=True)  # (1797, 64) floats
    names = [str(digit) for digit in range(10)]
    return inputs[:1437], labels[:1437], inputs[1437:], labels[1437:], names

class Mlp(nn.Module):
    def __init__(self, in_features, classes, width=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, inputs):
        return self.layers(inputs)
"""

CLASSIFICATION = """
[model]
name = "digits:Mlp"
[data]
name = "digits:load"
mini = 0.5
[space]
lr = { low = 0.05, high = 0.2, log = true }
batch_size = 32
label_smoothing = [0.0, 0.1]
[search]
trials = 4
epochs = 3
[full]
pretrain = { epochs = 5 }
finetune = { epochs = 2 }
"""

OPEN = """
import json
import sys
from importlib import import_module
from hpo.export import load_bundle

bundle = load_bundle(sys.argv[1])
inputs, targets = import_module(sys.argv[2]).load()[2:4]
predicted = bundle.predict(inputs)
error = abs(predicted - targets).mean() if predicted.ndim == 1 else (predicted.argmax(1) == targets).mean()
print(json.dumps([list(predicted.shape), float(error), bundle.spec.mean]))
"""


def example(language: str) -> str:
    """Return the example of a regression in the document, in Python or TOML."""
    section = DOCUMENT[DOCUMENT.index("## Tables, series and numbers") :]
    match = re.search(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def opened(user: Shell, bundle: str, module: str) -> tuple[list[int], float, list[float]]:
    """Return the shape of the predictions for the test part, their metric, and the means of the features."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, bundle, module],
        cwd=user.folder,
        env=user.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    shape, error, mean = json.loads(done.stdout)
    return shape, error, mean


@pytest.mark.slow
def test_regression_is_searched_promoted_exported_and_opened(shell: Shell) -> None:
    shell.write("diabetes.py", example("python"))
    shell.write("regression.toml", example("toml"))
    done = shell.hpo("run", "regression.toml", *OPTIONS, "--bundle", "numbers")
    assert "Test RMSE 0." in done.stdout
    status = json.loads(shell.hpo("status", "regression", "--json").stdout)
    best = status["full"]["best"]
    assert status["objective"] == {"metric": "mae", "direction": "minimize"}
    assert best["value"] == best["metrics"]["validation_mae"]
    assert best["metrics"]["validation_worst"] > best["value"]
    table = shell.hpo("status", "regression").stdout
    for row in ("best mae", "its rmse", "its r2", "its worst"):
        assert row in table
    assert "accuracy" not in table
    metrics = json.loads((shell.folder / "numbers" / "metrics.json").read_text())
    assert metrics["n"] == 90
    assert metrics["own"]["worst"] > metrics["rmse"] > metrics["mae"] > metrics["loss"]
    shape, error, mean = opened(shell, "numbers", "diabetes")
    assert (shape, len(mean)) == ([90], 10)
    assert abs(error - metrics["mae"]) < 1e-5
    refused = shell.hpo("predict", "numbers", "photo.png", expect=2)
    assert refused.stderr.endswith("takes no images, but numbers; use load_bundle in Python\n")

    # The code of a loss belongs to the study.
    shell.write("diabetes.py", example("python").replace("huber_loss", "l1_loss"))
    refused = shell.hpo("run", "regression.toml", expect=2)
    assert 'model.name = "diabetes:Mlp": the hash of its code is ' in refused.stderr


@pytest.mark.slow
def test_table_of_classes_is_searched_promoted_exported_and_opened(shell: Shell) -> None:
    shell.write("digits.py", DIGITS)
    shell.write("classification.toml", CLASSIFICATION)
    done = shell.hpo("run", "classification.toml", *OPTIONS, "--bundle", "classes")
    assert "Test accuracy " in done.stdout
    metrics = json.loads((shell.folder / "classes" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.8
    shape, accuracy, mean = opened(shell, "classes", "digits")
    assert (shape, len(mean)) == ([360, 10], 64)
    assert abs(accuracy - metrics["accuracy"]) < 1e-9


def test_data_of_a_table_are_described(shell: Shell) -> None:
    shell.write("diabetes.py", example("python"))
    shell.write("digits.py", DIGITS)
    numbers = shell.hpo("data", "info", "diabetes:load").stdout
    assert "352 inputs of shape (10,): mean " in numbers
    assert "targets of a number: from -1." in numbers
    facts = json.loads(shell.hpo("data", "info", "digits:load", "--json").stdout)
    assert (facts["examples"], facts["input"], facts["classes"]["3"]) == (1437, [64], 146)
    refused = shell.hpo("data", "info", "digits:load", "--sheet", "sheet.png", expect=2)
    assert "a contact sheet is for images with classes; leave out --sheet" in refused.stderr
