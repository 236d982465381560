import sys
from pathlib import Path

import numpy as np
import pytest

from hpo.data.dataset import DataInputError
from hpo.data.registry import fetch, open_dataset

SOURCE = """
import numpy as np

images, labels = np.zeros((3, 3, 4, 5), np.uint8), np.array([0, 1, 1], np.int32)
classes = ["cat", "dog"]
not_a_function = 3

def good(): return images, labels, images[:2], labels[:2], classes
def lists(): return images.tolist(), labels, images, labels, classes
def fraction(): return images, labels / 2, images, labels, classes
def unlike(): return images, labels, images[:, 0], labels, classes
def beyond(): return images, labels + 1, images, labels, classes
def four(): return images, labels, images, labels
def nothing(): pass
def broken(): raise ValueError("no such\\nfolder")
"""


@pytest.fixture(autouse=True)
def own_pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "own_pets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "pets", raising=False)
    monkeypatch.delitem(sys.modules, "pets.own_pets", raising=False)


def test_function_in_the_current_folder_is_a_data_set() -> None:
    dataset = open_dataset("pets.own_pets:good", Path("nowhere"))
    assert dataset.classes == ("cat", "dog")
    train = dataset.load_train()
    assert (len(train), train.channels, train.size) == (3, 3, (4, 5))
    assert train.labels.dtype == np.int64
    assert len(dataset.load_test()) == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lists", "train part: images are int64: they have to be uint8"),
        ("fraction", "train part: labels are float64"),
        ("unlike", r"train images are \(3, 4, 5\) and test images \(4, 5\): they have to be alike"),
        ("four", r"returned 4 things: it has to return \(train_images"),
        ("nothing", "returned a NoneType: it has to return"),
        ("broken", "raised ValueError: no such folder"),
        ("beyond", "label 2 in the train part: 2 classes have labels 0 to 1"),
        ("absent", "has no function absent"),
        ("not_a_function", "has no function not_a_function"),
    ],
)
def test_wrong_function_is_refused_in_one_line(function: str, message: str) -> None:
    with pytest.raises(DataInputError, match=message) as error:
        open_dataset(f"pets.own_pets:{function}", Path("nowhere"))
    assert str(error.value).startswith(f"pets.own_pets:{function}")
    assert "\n" not in str(error.value)


def test_module_that_raises_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("def load(:")
    with pytest.raises(DataInputError, match="torn:load: importing torn raised SyntaxError: "):
        open_dataset("torn:load", Path("nowhere"))


def test_missing_module_is_named() -> None:
    with pytest.raises(DataInputError, match="No module named 'birds'; birds has to be installed or in"):
        open_dataset("birds:load", Path("nowhere"))


def test_fetch_does_nothing() -> None:
    fetch("pets.own_pets:broken", Path("nowhere"))
    assert not Path("nowhere").exists()
