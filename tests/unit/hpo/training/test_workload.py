import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import study_file
from support.workloads import checked_workload, digits_workload

from hpo.errors import InputError
from hpo.settings import Settings
from hpo.training.engines.eager import EagerEngine
from hpo.training.workload import Workload
from hpo.values.stage import STAGES

OWN = """
import numpy as np
import torch
from torch import nn

def whole(): return make(np.zeros((9, 28, 28), int), np.zeros(9, int))

class Flat(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
    def forward(self, images): return images.flatten(1) * self.weight

class Pair(Flat):
    def forward(self, images):
        logits = images.flatten(1)[:, :10] * self.weight
        return (logits, logits) if self.training else logits

class Refuses(Flat):
    def __init__(self, classes, in_channels):
        super().__init__(classes, in_channels)
        raise ValueError("ten is too many")

def make(images, labels=np.arange(200) % 2): return images, labels, images[:9], labels[:9], "ab"
def black(): return make(np.zeros((200, 8, 8), np.uint8))
def alike(): return make(pixels(200, 8, 8), np.zeros(200, int))
def pixels(*shape): return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
def colours():
    images = pixels(200, 3, 28, 28)
    images[:, 1] = 7
    return (*make(images)[:4], "abc")
"""

BRANCHES = """
from torch import nn

class Branches(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, images):
        return self.layers(images if images.sum() > 0 and self.layers[1].weight.sum() > 0 else -images)
"""

HEAD = '[model]\nname = "{}"\n[data]\nname = "digits"\nmini = 0.5\n[space]\n'

MISTAKES = {
    "missing module": (
        'name = "digits"',
        'name = "absent:load"',
        "data.name = \"absent:load\": No module named 'absent'; absent has to be installed or in ",
    ),
    "wrong type": (
        'name = "digits"',
        'name = "own_workload:whole"',
        'data.name = "own_workload:whole": own_workload:whole, train part: inputs are int64: ',
    ),
    "small class": (
        "mini = 0.5",
        "mini = 0.005",
        "data.mini = 0.005: class 8 has 139 images: with mini = 0.005 and validation = 0.2 ",
    ),
    "missing network": (
        'name = "lenet"',
        'name = "absent:Net"',
        "model.name = \"absent:Net\": absent:Net: No module named 'absent'; absent has to be ",
    ),
    "undersized class": (
        "mini = 0.5",
        "mini = 0.01",
        "data.mini = 0.01: class 8 has 139 images: with mini = 0.01 and validation = 0.2 each class needs "
        "500, one for every part; set mini to 0.04 or more, or add images",
    ),
    "means of other channels": (
        "mini = 0.5",
        "mini = 0.5\nmean = [0.1, 0.2, 0.3]\nstd = [1, 1, 1]",
        "data.mean = [0.1, 0.2, 0.3]: the images have 1 channel",
    ),
    "one class": (
        'name = "digits"',
        'name = "own_workload:alike"',
        'data.name = "own_workload:alike": all training images are of one class',
    ),
    "equal images": (
        'name = "digits"',
        'name = "own_workload:black"',
        'data.name = "own_workload:black": all training images are equal, there is nothing to learn',
    ),
    "wrong constructor": (
        'name = "lenet"',
        'name = "own_workload:Refuses"',
        "model.name = \"own_workload:Refuses\": model 'own_workload:Refuses': "
        "Refuses(classes=10, in_channels=1) raised ValueError at own_workload.py:22: ten is too many",
    ),
    "wrong in training mode": (
        'name = "lenet"',
        'name = "own_workload:Pair"',
        "model.name = \"own_workload:Pair\": model 'own_workload:Pair' gives a tuple for 2 images in train",
    ),
    "no dropout layer": (
        HEAD.format("lenet"),
        HEAD.format("resnet") + "dropout = [0.1, 0.2]\n",
        "space.dropout: model 'resnet' has no layer nn.Dropout, Dropout1d, Dropout2d or Dropout3d; leave ",
    ),
    "wrong logits": (
        'name = "lenet"',
        'name = "own_workload:Flat"',
        "model.name = \"own_workload:Flat\": model 'own_workload:Flat' gives (2, 784) for 2 images; ",
    ),
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the user's module into the current folder."""
    (tmp_path / "own_workload.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_workload", raising=False)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_names_file_key_and_value(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    spec = study_file.load(study_file.TEXT.replace(right, wrong))
    with pytest.raises(InputError, match=f"^{re.escape(f'my.toml: {message}')}"):
        checked_workload(spec, Settings(home=tmp_path), "my.toml")


def test_search_and_full_training_share_the_mapped_images(tmp_path: Path) -> None:
    spec = study_file.load()
    mapped = Workload.open(spec, Settings(home=tmp_path))
    pixels = mapped.train.images
    for stage in STAGES:
        for images in mapped.images(stage, "cpu"):
            assert np.shares_memory(images.images.numpy(), pixels)


def test_mapped_and_read_images_make_the_same_batches(tmp_path: Path) -> None:
    spec = study_file.load()
    mapped, read = Workload.open(spec, Settings(home=tmp_path)), digits_workload(spec)
    assert (mapped.mean, mapped.std) == (read.mean, read.std)
    for stage in STAGES:
        for shared, own in zip(mapped.images(stage, "cpu"), read.images(stage, "cpu"), strict=True):
            copied = own.subset(torch.arange(len(own)))
            index = torch.randperm(len(shared))[:64]
            for got, expected in zip(shared.batch(index), copied.batch(index), strict=True):
                assert torch.equal(got, expected)


@pytest.mark.usefixtures("own")
def test_odd_images_are_trained_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = study_file.load(study_file.TEXT.replace('"digits"', '"own_workload:colours"'))
    workload = checked_workload(spec, Settings(home=tmp_path), "my.toml")
    assert workload.std[1] == 1.0
    assert 0 not in workload.std
    assert caplog.messages == [
        "own_workload:colours: no training image is of class 'c'",
        "own_workload:colours: channel 1 has one value in all training images",
    ]
    batch, _ = workload.images("search", "cpu")[0].batch(torch.arange(4))
    assert batch.isfinite().all()
    assert (batch[:, 1] == 0).all()


@pytest.mark.usefixtures("own")
def test_each_channel_may_have_a_mean_of_its_own(tmp_path: Path) -> None:
    text = study_file.TEXT.replace('"digits"', '"own_workload:colours"')
    spec = study_file.load(text.replace("mini = 0.5", "mini = 0.5\nmean = [0, 0.5, 1]\nstd = [1, 2, 3]"))
    workload = checked_workload(spec, Settings(home=tmp_path), "my.toml")
    assert (workload.mean, workload.std) == ((0, 0.5, 1), (1, 2, 3))


def test_network_that_vmap_cannot_fuse_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own_branches.py").write_text(BRANCHES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_branches", raising=False)
    spec = study_file.load(study_file.TEXT.replace('"lenet"', '"own_branches:Branches"'))
    checked_workload(spec, Settings(home=tmp_path), "my.toml")
    (message,) = caplog.messages
    assert message.startswith(
        "model 'own_branches:Branches': vmap cannot fuse it (RuntimeError at own_branches.py:10"
    )
    assert message.endswith("); a GPU trains its trials in turn")


def test_rehearsal_has_the_smallest_batch_size_of_a_huge_range() -> None:
    space = "batch_size = { low = 2, high = 9007199254740991 }"
    spec = study_file.load(study_file.TEXT.replace("batch_size = [16, 32]", space))
    rehearsal = digits_workload(spec).rehearsal("cpu", EagerEngine())
    assert len(rehearsal.task.train.labels) == 2
