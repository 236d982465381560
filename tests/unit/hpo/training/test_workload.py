import re
import sys
from pathlib import Path

import pytest
from support import study_file

from hpo.errors import InputError
from hpo.training.workload import checked_workload

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
        "model.name = \"absent:Net\": model 'absent:Net' cannot be imported: ",
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
        checked_workload(spec, tmp_path, "my.toml")
