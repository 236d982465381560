"""`hpo run` on a study that maximises the accuracy and has a baseline."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
import yaml
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import URL
from support.shell import Shell

STUDY = """
seed = 1
[objective]
metric = "accuracy"
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
validation = 0.4
[space]
lr = [1e-4, 1e-2, 1e-1]
batch_size = [16, 32]
momentum = [0, 0.9]
[baseline]
lr = 1e-4
batch_size = 32
momentum = 0
[sampler]
name = "random"
startup = 2
[pruner]
name = "pause"
min_epochs = 1
[search]
trials = 5
epochs = 3
[full]
pretrain = { epochs = 2 }
finetune = { epochs = 1 }
"""


@pytest.mark.slow
def test_study_by_accuracy_with_a_baseline(shell: Shell, database: URL) -> None:
    shell.write("by-accuracy.toml", STUDY)
    run = shell.hpo("run", "by-accuracy.toml")
    baseline = re.search(
        r"Baseline: trial (\d) is better than your baseline \(trial 0, accuracy [\d.]+%\):\s+by ([\d.]+) ± "
        r"([\d.]+)\s+percentage\s+points",
        run.stdout,
    )
    assert baseline, run.stdout
    assert float(baseline[2]) > float(baseline[3])
    assert "best accuracy " in run.stderr

    url = database.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    search = optuna.load_study(study_name="by-accuracy", storage=url)
    full = optuna.load_study(study_name="by-accuracy-full", storage=url)
    assert search.direction == full.direction == StudyDirection.MAXIMIZE
    for trial in (*search.trials, *full.trials):
        assert trial.value is not None
        assert 0 <= trial.value <= 1
        assert trial.value == trial.user_attrs["accuracy"]
    first = search.trials[0]
    assert first.params == {"lr": 1e-4, "batch_size": 32, "momentum": 0.0}
    assert (first.state, sorted(first.intermediate_values)) == (TrialState.COMPLETE, [1, 2, 3])
    best = max(
        (t for t in search.trials if t.state == TrialState.COMPLETE), key=lambda t: (t.value, -t.number)
    )
    assert int(baseline[1]) == best.number
    assert full.best_trial.user_attrs["promoted_from"] == best.number

    status = json.loads(shell.hpo("status", "by-accuracy", "--json").stdout)
    assert status["objective"] == {"metric": "accuracy", "direction": "maximize"}
    assert status["baseline"]["best"] == best.number
    assert status["search"]["best"]["value"] == best.value
    shown = shell.hpo("status", "by-accuracy").stdout
    for words in ("best accuracy", "its loss", "its macro F1", "its balanced accuracy", "Baseline: trial "):
        assert words in shown

    texts = {form: shell.hpo("export", "by-accuracy", "--format", form) for form in FORMATS}
    assert "full trial 0: validation accuracy " in texts["json"].stderr
    assert "baseline: trial " in texts["json"].stderr
    expected = {name: str(value) for name, value in best.params.items()}
    for form, text in texts.items():
        assert {name: str(value) for name, value in FORMATS[form](text.stdout).items()} == expected


FORMATS: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "env": lambda text: {
        name.lower(): value for name, value in (line.split("=", 1) for line in text.splitlines())
    },
    "args": lambda text: {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(shlex.split(text)[::2], shlex.split(text)[1::2], strict=True)
    },
}
"""The formats of exported parameters, with their readers."""
