"""A data function has to return the same data in every process."""

import sys
from pathlib import Path

import pytest

from hpo.data.arrays import find_mapped, open_mapped
from hpo.data.dataset import OwnDataError
from hpo.run.second_call import SecondCall
from hpo.settings import Settings

OWN = """
import os, random
import numpy as np

np.random.seed(3)

def make(rng, names=("a", "b")):
    images = rng.integers(0, 255, (8, 4, 4)).astype(np.uint8)
    return images, np.arange(8) % 2, images[:2], np.arange(2), list(names)

def seeded(): print("reading"); return make(np.random.default_rng(0))
def seeded_at_import(): return make(np.random.default_rng(np.random.randint(99)))
def shuffled(): return make(np.random.default_rng())
def unordered(): return make(np.random.default_rng(0), set(map(str, range(20))))
def unordered_test():
    train, labels, _, _, names = make(np.random.default_rng(0))
    return train, labels, train[:2], np.array([0, random.SystemRandom().randrange(2)]), names
def once():
    with open("only-once", "x"): pass
    return seeded()
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_twice", raising=False)
    (tmp_path / "own_twice.py").write_text(OWN)
    return Settings(home=tmp_path / "home")


def call_twice(settings: Settings, function: str) -> str:
    """Return the hash of the data of the first call."""
    dataset = open_mapped(f"own_twice:{function}", settings.data_path, settings.arrays_path)
    SecondCall(dataset, settings).check()
    assert dataset.facts is not None
    return dataset.facts.hashes.content


@pytest.mark.parametrize("function", ["seeded", "seeded_at_import"])
def test_equal_data_pass_and_are_called_once_more_only(
    settings: Settings, function: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = call_twice(settings, function)
    assert capfd.readouterr().out == "reading\n" * (function == "seeded")
    dataset = find_mapped(f"own_twice:{function}", settings.data_path, settings.arrays_path, content)
    assert dataset is not None
    Path("own_twice.py").write_text("raise RuntimeError")
    SecondCall(dataset, settings).check()


@pytest.mark.parametrize(
    ("function", "part"),
    [("shuffled", "training images or labels"), ("unordered", "classes")],
)
def test_other_data_are_refused_and_deleted(settings: Settings, function: str, part: str) -> None:
    message = (
        f"^own_twice:{function}: returned other {part} when it was called again; seed its random numbers"
    )
    with pytest.raises(OwnDataError, match=message):
        call_twice(settings, function)
    assert not list(settings.arrays_path.glob("*/meta.json"))


def test_function_that_can_be_called_only_once_is_refused(settings: Settings) -> None:
    with pytest.raises(OwnDataError, match=r"own_twice:once raised FileExistsError at own_twice\.py:\d+"):
        call_twice(settings, "once")


def test_registered_data_set_is_not_read_again(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = open_mapped("digits", settings.data_path, settings.arrays_path)
    again = SecondCall(dataset, settings)
    again.check()
    assert not list((settings.arrays_path / "index").glob("*own*"))
