import sys
from pathlib import Path

import pytest

from hpo.data import DataInputError
from hpo.data.arrays import find_mapped
from hpo.data.dataset import OwnDataError, SplitError
from hpo.errors import AwayError, HpoError, InputError, SpecError
from hpo.models import ModelError
from hpo.run.child import ChildTraceback, decode_error, encode_error, run_in_child
from hpo.settings import Settings

OWN = """
import os, signal, sys
import numpy as np

def load():
    print("reading")
    images = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    return images, np.arange(6) % 2, images[:2], np.arange(2), ["a", "b"]

def broken(): raise ValueError("no such file")
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def interrupted(): raise KeyboardInterrupt
def ended(): os._exit(3)
def crashed(): os.kill(os.getpid(), signal.SIGSEGV)
def left(): sys.exit(3)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_child.py").write_text(OWN)
    return Settings(home=tmp_path / "home")


def write(settings: Settings, function: str) -> str:
    content = run_in_child("arrays", settings, name=f"own_child:{function}", content=None)
    assert isinstance(content, str)
    return content


def test_child_answers_and_prints_on_standard_error(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    content = write(settings, "load")
    assert find_mapped("own_child:load", Path(), settings.home / "arrays", content) is not None
    assert capfd.readouterr() == ("", "reading\n")
    assert "own_child" not in sys.modules


def test_error_of_the_child_is_raised_here(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    message = r"own_child:broken raised ValueError at own_child\.py:10: no such file"
    with pytest.raises(OwnDataError, match=message) as raised:
        write(settings, "broken")
    assert isinstance(raised.value.__cause__, ChildTraceback)
    assert "in broken" in str(raised.value.__cause__)
    assert capfd.readouterr() == ("", "")


def test_exit_of_the_users_code_is_an_error_of_it(settings: Settings) -> None:
    with pytest.raises(OwnDataError, match=r"own_child:left raised SystemExit at own_child\.py:15: 3"):
        write(settings, "left")


def test_interrupt_of_the_child_is_one_here(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(settings, "interrupted")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "killed",
            "the reading of the data set was killed by SIGKILL, while it ran own_child:killed; "
            "is there enough memory?",
        ),
        (
            "ended",
            "own_child:ended ended the process with exit code 3, in the reading of the data set; "
            "it has to return or raise an error",
        ),
        (
            "crashed",
            "own_child:crashed ended the process with SIGSEGV, in the reading of the data set; "
            "it has to return or raise an error",
        ),
    ],
)
def test_user_code_that_ends_the_child_is_named(settings: Settings, function: str, message: str) -> None:
    with pytest.raises(HpoError) as raised:
        write(settings, function)
    assert str(raised.value) == message
    assert isinstance(raised.value, OwnDataError) == (function != "killed")


def test_unexpected_error_of_the_child_shows_its_traceback(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HpoError, match="data set ended with exit code 1; its output"):
        run_in_child("arrays", settings, unknown=1)
    assert "TypeError: write_arrays() got an unexpected keyword" in capfd.readouterr().err


class _SpecialError(SpecError):
    """An error of a kind that the other process does not know."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SpecError("a\nb"), SpecError),
        (AwayError("away"), AwayError),
        (SplitError("small"), SplitError),
        (ModelError("wrong"), ModelError),
        (_SpecialError("near"), SpecError),
    ],
)
def test_error_keeps_kind_and_message(error: Exception, kind: type[Exception]) -> None:
    decoded = decode_error(encode_error(error))
    assert type(decoded) is kind
    assert str(decoded) == str(error)


def test_kinds_keep_what_handlers_look_at() -> None:
    small = decode_error(encode_error(SplitError("small")))
    assert isinstance(small, DataInputError)
    assert small.key == "mini"
    spec = decode_error(encode_error(SpecError("wrong")))
    assert isinstance(spec, InputError)
    assert spec.exit_code == 2
