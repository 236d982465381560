import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import study_file
from support.workloads import digits_workload

from hpo.errors import InputError
from hpo.settings import Settings
from hpo.training.workload import Workload, checked_workload
from hpo.values.stage import STAGES

OWN = """
import numpy as np
from torch import nn

def floats(): return np.zeros((9, 28, 28)), np.zeros(9, int), np.zeros((9, 28, 28)), np.zeros(9, int), "ab"

class Flat(nn.Module):
    def __init__(self, classes, in_channels): super().__init__()
    def forward(self, images): return images.flatten(1)
"""

MISTAKES = {
    "missing module": (
        'name = "digits"',
        'name = "absent:load"',
        "data.name = \"absent:load\": No module named 'absent'; absent has to be installed or in ",
    ),
    "wrong type": (
        'name = "digits"',
        'name = "own_workload:floats"',
        'data.name = "own_workload:floats": own_workload:floats, train part: images are float64: ',
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
    "wrong logits": (
        'name = "lenet"',
        'name = "own_workload:Flat"',
        "model.name = \"own_workload:Flat\": model 'own_workload:Flat' gives (2, 784) for 2 images; ",
    ),
}


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_names_file_key_and_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, message: str
) -> None:
    (tmp_path / "own_workload.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_workload", raising=False)
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
