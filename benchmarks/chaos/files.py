"""The studies that faults strike: their learning curves depend on neither workers nor timing.

Without pauses, the set of trained epochs does not depend on them either.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tomli_w

NAME = "chaos"
"""Name of the study."""

EXAMPLE = Path(__file__).parents[2] / "studies" / "own-training" / "linear"

_STUDY = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
validation = 0.4
[space]
lr = [1e-3, 3e-3, 1e-2, 3e-2]
batch_size = [64, 128]
momentum = [0, 0.9]
weight_decay = [0, 1e-4]
[engine]
compile = "{compile}"
[sampler]
name = "random"
[pruner]
name = "{pruner}"
[search]
trials = {trials}
epochs = {epochs}
[full]
clip = 1.0
pretrain = {{ epochs = {epochs}, patience = 10 }}
finetune = {{ epochs = {epochs}, patience = 10 }}
augment = {{ rotation = 10, shift = 0.07 }}
[promotion]
top = 2
seeds = 2
"""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a user: the study file, and modules by name."""

    study: str
    modules: Mapping[str, str] = field(default_factory=dict)


def pack_files(
    trials: int, epochs: int, compile: Literal["always", "never"], pruner: Literal["none", "pause"] = "none"
) -> Files:
    """Return a study of packs."""
    return Files(_STUDY.format(trials=trials, epochs=epochs, compile=compile, pruner=pruner))


def function_files(trials: int, epochs: int, pruner: Literal["none", "pause"] = "none") -> Files:
    """Return a study of a training function: the linear classifier among the examples."""
    study = tomllib.loads((EXAMPLE / "study.toml").read_text())
    study |= {
        "name": NAME,
        "sampler": {"name": "random"},
        "pruner": {"name": pruner},
        "search": {"trials": trials, "epochs": epochs},
        "full": {"epochs": 2 * epochs},
        "promotion": {"top": 2, "seeds": 2},
    }
    return Files(tomli_w.dumps(study), {"train.py": (EXAMPLE / "train.py").read_text()})
