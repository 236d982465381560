"""A user's own network and data: what trains from a folder full of confusing names, and what is refused."""

from __future__ import annotations

import pytest
from sqlalchemy import URL
from support.refusals import assert_nothing_created, assert_one_line
from support.shell import SMALL_STUDY, Shell

SHADOWS = ("queue", "random", "logging", "hpo", "json", "torch", "numpy")
"""Names of modules of Python, of hpo and of packages."""

DATA = """
import numpy as np

def load():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 60, (120, 3, 8, 8), dtype=np.uint8)
    images[labels == 1, 0, :4] += 150
    images[:, 2] = 9
    return images, labels, images[:20], labels[:20], ["a", "b"]

def shuffled():
    images, labels, *rest = load()
    order = np.random.default_rng().permutation(len(labels))
    return images[order], labels[order], *rest

def channels_last():
    images, labels, *rest = load()
    return images.transpose(0, 2, 3, 1), labels, *rest

def one_too_high():
    images, labels, test_images, test_labels, names = load()
    return images, labels, test_images, test_labels + 1, names
"""

NETWORKS = """
import sys
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes)
        )

    def forward(self, images):
        return self.layers(images)

class Pair(Net):
    def forward(self, images):
        return (self.layers(images),) * 2 if self.training else self.layers(images)

class Leaves(Net):
    def forward(self, images):
        sys.exit("not today")
"""

HOOKED = NETWORKS.replace(
    "nn.Conv2d(in_channels, 4, 3)", "nn.utils.weight_norm(nn.Conv2d(in_channels, 4, 3))"
)
"""torch warns that this way to normalise weights is old."""

STUDY = (
    SMALL_STUDY.replace('"lenet"', '"models:Net"')
    .replace('"digits"', '"data:load"')
    .replace("trials = 12", "trials = 2")
    .replace("epochs = 3", "epochs = 1")
    .replace("seeds = 2", "seeds = 1")
    .replace('[pruner]\nname = "none"\n', "")
)


@pytest.fixture
def own(shell: Shell) -> Shell:
    """Write the user's modules."""
    shell.write("data.py", DATA)
    shell.write("models.py", NETWORKS)
    return shell


@pytest.mark.slow
def test_study_runs_beside_files_with_the_names_of_other_modules(own: Shell) -> None:
    for name in SHADOWS:
        own.write(f"{name}.py", "raise ImportError('shadowed')")
    own.write("models.py", HOOKED)
    own.write("own.toml", "\ufeff" + STUDY)
    done = own.hpo("run", "own.toml", "--gpus", "cpu", "--per-device", "1", "--bundle", "best")
    assert "shadowed" not in done.stderr
    assert "data:load: channel 2 has one value in all training images" in done.stderr
    assert (own.folder / "best" / "weights.safetensors").is_file()
    # After the training the class is edited: its weights belong to the code that was trained.
    own.write("models.py", HOOKED.replace("in_channels, 4", "in_channels, 5"))
    refused = own.hpo("export", "own", "--bundle", "again", expect=2)
    assert_one_line(refused.stderr, 'model.name = "models:Net": the hash of its code is ')
    own.write("models.py", "def (")
    refused = own.hpo("export", "own", "--bundle", "again", expect=2)
    assert_one_line(refused.stderr, "models:Net: importing models raised SyntaxError at models.py:1: invalid")
    assert not (own.folder / "again").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("models:Net", "models:Pair", "'models:Pair' gives a tuple for 2 images in training mode"),
        ("models:Net", "models:Leaves", "raised SystemExit at models.py:21: not today"),
        (
            "data:load",
            "data:shuffled",
            'data.name = "data:shuffled": returned other training images or labels',
        ),
        ("data:load", "data:channels_last", "transpose them: images.transpose(0, 3, 1, 2)"),
        ("data:load", "data:one_too_high", "label 2 in the test part: 2 classes have labels 0 to 1"),
        ("data:load", "queue:load", "the name 'queue' is taken by Python's standard library; rename"),
    ],
)
def test_mistake_is_refused_in_one_line(
    own: Shell, database: URL, right: str, wrong: str, message: str
) -> None:
    own.write("queue.py", DATA)
    own.write("own.toml", STUDY.replace(right, wrong))
    lines = own.hpo("study", "create", "own.toml", expect=2).stderr.splitlines()
    *warnings, line = lines
    assert line.startswith("hpo: own.toml: ")
    assert message in line
    assert all("channel 2 has one value" in warning for warning in warnings)
    assert_nothing_created(own, database)


def test_traceback_is_printed_on_request(own: Shell) -> None:
    own.write("own.toml", STUDY)
    own.write("data.py", "import numpy\n\nload = numpy.load('none.npz')")
    place = "data:load: importing data raised FileNotFoundError at data.py:3: "
    assert_one_line(own.hpo("study", "create", "own.toml", expect=2).stderr, place.partition(": ")[2])
    verbose = own.hpo("-v", "study", "create", "own.toml", expect=2).stderr
    assert "Traceback (most recent call last)" in verbose
    assert 'data.py", line 3, in <module>' in verbose
    assert place.partition(": ")[2] in verbose.splitlines()[-1]


def test_occupied_bundle_folder_is_refused_before_anything_is_trained(shell: Shell, database: URL) -> None:
    (shell.folder / "full").mkdir()
    shell.write("full/notes.txt", "mine")
    done = shell.hpo("run", "small.toml", "--bundle", "full", expect=2)
    assert_one_line(done.stderr, "full: is not empty and not a bundle: choose a new folder")
    assert_nothing_created(shell, database)
