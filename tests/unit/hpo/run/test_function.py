"""The check of a training function, in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.study_file import FUNCTION_TEXT, load

from hpo.errors import InputError
from hpo.run.function import check_function, identity_of
from hpo.spec.identity import Identity

SOURCE = """
import functools
from own_train_parts import LEARNING_RATE

def fit(trial):
    yield {"accuracy": 0.5}

def once(trial):
    return 0.5

def two(trial, depth):
    yield 0.5

def logged(function):
    @functools.wraps(function)
    def call(*arguments):
        return function(*arguments)
    return call

@logged
def decorated(trial):
    yield 0.5

@logged
def decorated_once(trial):
    return 0.5

class Fit:
    def __call__(self, trial):
        yield 0.5

    def method(self, trial):
        yield 0.5

called, method = Fit(), Fit().method
bound = functools.partial(two, depth=3)
positional = functools.partial(two, None)
c_function = print

async def later(trial):
    yield 0.5

number = 3
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_train.py").write_text(SOURCE)
    (tmp_path / "own_train_parts.py").write_text("LEARNING_RATE = 0.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("own_train", "own_train_parts"):
        sys.modules.pop(name, None)


def check(name: str, text: str = FUNCTION_TEXT) -> Identity:
    return check_function(load(text.replace("train:fit", f"own_train:{name}")))


@pytest.mark.parametrize(
    "name", ["fit", "decorated", "called", "method", "bound", "positional", "c_function"]
)
def test_function_that_may_yield_is_allowed(name: str) -> None:
    assert check(name).function is not None


def test_function_of_one_epoch_may_return_its_metrics() -> None:
    assert check("once", FUNCTION_TEXT.replace("epochs = 3", "").replace("epochs = 5", "")).function
    with pytest.raises(InputError, match=r"^own_train.py:8: yields nothing, but full.epochs is 5: "):
        check("once", FUNCTION_TEXT.replace("epochs = 3", ""))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("once", "own_train.py:8: yields nothing, but search.epochs is 3: it has to yield the metrics"),
        ("decorated_once", "own_train.py:24: yields nothing, but search.epochs is 3: it has to yield"),
        ("two", "own_train.py:11: takes (trial, depth), and has to take one argument: the trial"),
        ("later", "own_train.py:40: is asynchronous; write it without async"),
        ("number", "must be a function, not a value of type int"),
        ("Fit", "must be a function, not a class"),
        ("absent", "own_train:absent: own_train has no absent"),
    ],
)
def test_what_cannot_train_is_refused_with_file_and_line(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(name)
    assert str(caught.value).startswith(message)


def test_code_is_the_module_and_what_it_imports(tmp_path: Path) -> None:
    before = identity_of("own_train:fit")
    assert before == identity_of("own_train:once")
    (tmp_path / "own_train_parts.py").write_text("LEARNING_RATE = 0.2\n")
    assert identity_of("own_train:fit") != before
    (tmp_path / "own_other.py").write_text("")
    assert identity_of("own_train:fit") == identity_of("own_train:fit")
