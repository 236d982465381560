"""Keywords of a user's own network: searched, promoted, exported and opened in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sqlalchemy import URL
from support.refusals import assert_nothing_created, assert_one_line
from support.shell import SMALL_STUDY, Shell

NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, in_channels, width=4, drop=0.0):
        super().__init__()
        if width > 64:
            raise ValueError("too wide")
        self.layers = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, classes)
        )

    def forward(self, images):
        return self.layers(images)
"""

KEYWORDS = """"model.width" = [8, 16]
"model.drop" = { low = 0.1, high = 0.4 }
"""

STUDY = (
    SMALL_STUDY.replace('"lenet"', '"nets:Net"')
    .replace("trials = 12", "trials = 4")
    .replace("epochs = 3", "epochs = 2")
    .replace("seeds = 2", "seeds = 1")
    .replace("batch_size = [16, 32, 64]\n", f"batch_size = 32\n{KEYWORDS}")
)

OPEN = """
import json
import numpy as np
from hpo import load_bundle

bundle = load_bundle("best")
shapes = [tuple(tensor.shape) for tensor in bundle.model.parameters()]
probabilities = bundle.predict(np.zeros((2, 28, 28), np.uint8))
print(json.dumps([shapes, bundle.model.layers[3].p, probabilities.shape]))
"""


@pytest.fixture
def own(shell: Shell) -> Shell:
    """Write the user's network."""
    shell.write("nets.py", NETWORK)
    return shell


def test_keywords_are_searched_and_stored_with_the_model(own: Shell) -> None:
    own.write("own.toml", STUDY)
    own.hpo("run", "own.toml", "--gpus", "cpu", "--per-device", "1", "--bundle", "best")
    params = json.loads((own.folder / "best" / "params.json").read_text())
    keywords = json.loads((own.folder / "best" / "model.json").read_text())["keywords"]
    assert keywords == {"width": params["model.width"], "drop": params["model.drop"]}
    assert keywords["width"] in (8, 16)
    assert 0.1 <= keywords["drop"] <= 0.4
    opened = subprocess.run(
        [sys.executable, "-P", "-c", OPEN],
        cwd=own.folder,
        env=own.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    shapes, drop, predicted = json.loads(opened.stdout)
    assert shapes[0] == [keywords["width"], 28 * 28]
    assert drop == keywords["drop"]
    assert predicted == [2, 10]


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("[8, 16]", "[8, 65]", "own.toml: space.model.width = 65: model 'nets:Net': Net(classes=10, "),
        ("high = 0.4", "high = 1.5", "own.toml: space.model.drop = 1.5: model 'nets:Net': Net(classes=10, "),
        ("model.width", "model.widht", "space.model.widht: model 'nets:Net' takes no keyword 'widht'; did "),
    ],
)
def test_keyword_that_does_not_fit_is_refused_in_one_line(
    own: Shell, database: URL, right: str, wrong: str, message: str
) -> None:
    own.write("own.toml", STUDY.replace(right, wrong))
    assert_one_line(own.hpo("study", "create", "own.toml", expect=2).stderr, message)
    assert_nothing_created(own, database)
