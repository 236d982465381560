import sys
from pathlib import Path

import numpy as np
import pytest

from hpo.data.dataset import DataInputError
from hpo.data.registry import fetch, open_dataset

SOURCE = """
import sys
import numpy as np

images, labels = np.zeros((3, 3, 4, 5), np.uint8), np.array([0, 1, 1], np.int32)
rows = np.arange(15, dtype=np.float32).reshape(3, 5)
classes = ["cat", "dog"]
not_a_function = 3

def good(): return images, labels, images[:2], labels[:2], classes
def lists(): return images.tolist(), labels, images, labels, classes
def fraction(): return images, labels / 2, images, labels, classes
def unlike(): return images, labels, images[:, 0], labels, classes
def beyond(): return images, labels + 1, images, labels, classes
def four(): return images, labels, images, labels
def three(): return images, labels, images
def nothing(): pass
def broken(): raise ValueError("no such\\nfolder")
def listed(): return [images, labels, images[:2], labels[:2], range(2)]
def ended(): sys.exit("no data")
class Strange(BaseException): pass
def strange(): raise Strange
def ragged(): return [[[1]], [[1, 2]]], labels, images, labels, classes
def shares(): return images / 255, labels, images, labels, classes
def table(): return rows, labels, rows[:, 1:], labels, classes
def column_only(): return rows[:, 0], labels, rows, labels, classes
def texts(): return rows.astype(object), labels, rows, labels, classes
def empty(): return rows[:, :0], labels, rows, labels, classes
def with_number(value, *index):
    changed = rows.astype(float)
    changed[index] = value
    return changed
def unknown_input(): return with_number(np.nan, 1, 2), labels, rows, labels, classes
def huge_input(): return with_number(1e300, 0, 0), labels, rows, labels, classes
def unknown_target(): return rows, rows[:, 0], rows, np.array([1, 2, np.inf])
def cube(): return rows, rows[:, :1, None], rows, rows[:, 0]
def short(): return rows, rows[:2, 0], rows, rows[:, 0]
def other_targets(): return rows, rows[:, :2], rows, rows[:, 0]
def float_labels(): return rows, labels + np.float32(0.5), rows, labels, classes
def regression(): return rows.astype(float), rows[:, :2], rows[:2], rows[:2, :2]
def classified(): return rows, labels, rows[:2], labels[:2], classes
def last(): return images.transpose(0, 2, 3, 1), labels, images, labels, classes
def first(): return images.transpose(3, 2, 1, 0)[:, :, :, :3], labels, images, labels, classes
def flat(): return np.zeros((3, 25), np.uint8), labels, images, labels, classes
def whole(): return images, labels.astype(float), images, labels, classes
def one_hot(): return images, np.eye(3, 2), images, labels, classes
def column(): return images, labels[:, None], images, labels, classes
def negative(): return images, labels - 1, images, labels, classes
def unknown(): return images, np.array([0, 1, np.nan]), images, labels, classes
def unnamed(): return images, labels, images, labels, ["a", ""]
def surrogate(): return images, labels, images, labels, ["a", "\\udcff"]
def number(): return images, labels, images, labels, 10
def objects(): return images, labels, images, labels, [None, 1]
def beyond_test(): return images, labels, images, labels + 1, classes
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
    assert open_dataset("pets.own_pets:listed", Path("nowhere")).classes == ("0", "1")


def test_floats_are_the_inputs_of_a_table_and_the_targets_of_a_regression() -> None:
    regression = open_dataset("pets.own_pets:regression", Path("nowhere"))
    train = regression.load_train()
    assert regression.classes is None
    assert (train.shape, train.channels, train.labels.shape) == ((5,), 5, (3, 2))
    assert train.images.dtype == train.labels.dtype == np.float32
    classified = open_dataset("pets.own_pets:classified", Path("nowhere"))
    assert classified.classes == ("cat", "dog")
    assert classified.load_train().labels.dtype == np.int64


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lists", r"train part: inputs are int64: they have to be uint8, as .*; astype\('uint8'\) converts"),
        ("fraction", "train part: labels are float64"),
        ("unlike", r"train images are uint8 \(3, 4, 5\) and test images uint8 \(4, 5\): they have to be al"),
        (
            "four",
            r"train part: targets are int32: they have to be floats; .* return the class names as the fi",
        ),
        (
            "three",
            r"returned 3 things: it has to return \(train_images, .*, or \(train_inputs, .* regression",
        ),
        ("nothing", "returned a NoneType: it has to return"),
        ("broken", r"raised ValueError at pets/own_pets.py:\d+: no such folder"),
        ("ended", r"raised SystemExit at pets/own_pets.py:\d+: no data"),
        ("strange", r"raised Strange at pets/own_pets.py:\d+$"),
        ("ragged", "train part: images make no array, all of them must have one shape: "),
        (
            "shares",
            r"train inputs are float32 \(3, 4, 5\) and test inputs uint8 \(3, 4, 5\): they have to be",
        ),
        ("table", r"train inputs are float32 \(5,\) and test inputs float32 \(4,\): they have to be alike"),
        (
            "column_only",
            r"inputs have shape \(3,\): .*; inputs.reshape\(-1, 1\) makes a table of one feature",
        ),
        ("texts", r"inputs are object: they have to be .*; astype\('float32'\) converts them"),
        ("empty", r"inputs have shape \(3, 0\): it has to be \(N, F\) or \(N, C, ...\), N > 0"),
        (
            "unknown_input",
            r"train part: inputs\[1, 2\] is nan: all of them have to be finite float32 numbers",
        ),
        ("huge_input", r"train part: inputs\[0, 0\] is 1e\+300: all of them have to be finite float32"),
        ("unknown_target", r"test part: targets\[2\] is inf: all of them have to be finite float32 numbers"),
        ("cube", r"train part: targets have shape \(3, 1, 1\): it has to be \(3,\) or \(3, K\), one row for"),
        (
            "short",
            r"train part: targets have shape \(2,\): it has to be \(3,\) or \(3, K\), one row for each",
        ),
        (
            "other_targets",
            r"train targets are float32 \(2,\) and test targets float32: they have to be alike",
        ),
        ("float_labels", r"labels are float64 of shape \(3,\): .*; for a regression, return no class names"),
        ("last", r"axis 1 has to be the 1 or 3 channels; transpose them: images.transpose\(0, 3, 1, 2\)"),
        ("first", r"transpose them: images.transpose\(3, 2, 0, 1\)"),
        ("flat", r"images have shape \(3, 25\): .*; images.reshape\(-1, 5, 5\) makes them square"),
        ("whole", r"labels are float64 .*; labels.astype\(int\) converts them"),
        ("one_hot", r"labels are float64 .*; labels.argmax\(1\) converts one-hot labels"),
        ("column", r"labels are int64 of shape \(3, 1\): .*; use labels\[:, 0\]"),
        ("negative", "train part: label -1: labels count from 0"),
        ("unknown", r"labels are float64 .*; some are NaN or infinite"),
        ("unnamed", "class name '': it has to be text that is not empty"),
        ("surrogate", r"class name '\\udcff': it has to be text"),
        ("number", "class names are 10: they have to be a list of texts"),
        ("objects", r"class names are \[None, 1\]: they have to be a list of texts"),
        ("beyond_test", "label 2 in the test part: 2 classes have labels 0 to 1"),
        ("beyond", "label 2 in the train part: 2 classes have labels 0 to 1"),
        ("absent", "pets.own_pets has no absent"),
        ("not_a_function", "has no function not_a_function"),
    ],
)
def test_wrong_function_is_refused_in_one_line(function: str, message: str) -> None:
    with pytest.raises(DataInputError, match=message) as error:
        open_dataset(f"pets.own_pets:{function}", Path("nowhere"))
    assert str(error.value).startswith(f"pets.own_pets:{function}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\ndef load(:", "SyntaxError at torn.py:2: invalid syntax"),
        ("load = undefined", "NameError at torn.py:1: name 'undefined' is not defined"),
        ("import birds", "ModuleNotFoundError at torn.py:1: No module named 'birds'"),
        ("\n\nopen('no.npz')", "FileNotFoundError at torn.py:3: .* No such file or directory: 'no.npz'"),
        ("exit()", "SystemExit at torn.py:1"),
    ],
    ids=["syntax", "name", "import", "file", "exit"],
)
def test_module_that_raises_is_refused_in_one_line(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "torn.py").write_text(source)
    with pytest.raises(DataInputError, match=f"^torn:load: importing torn raised {message}") as error:
        open_dataset("torn:load", Path("nowhere"))
    assert "\n" not in str(error.value)


def test_missing_module_is_named() -> None:
    with pytest.raises(DataInputError, match="No module named 'birds'; birds has to be installed or in"):
        open_dataset("birds:load", Path("nowhere"))


def test_fetch_does_nothing() -> None:
    fetch("pets.own_pets:broken", Path("nowhere"))
    assert not Path("nowhere").exists()
