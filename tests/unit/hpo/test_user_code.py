"""The user's own modules: which are imported, and what a line says of an error in them."""

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hpo.errors import message_of, one_line
from hpo.settings import PYTHON
from hpo.user_code import (
    Running,
    _announcer,
    describe,
    import_own,
    is_reference,
    near_reference,
    place_in_dump,
    user_code,
    where,
)

SHADOWS = ("data", "models", "queue", "hpo", "random", "logging", "lazy_loader", "json", "types")
"""Modules of Python, of hpo's checkout, of hpo itself and of packages that it imports."""


class Refusal(Exception):  # noqa: N818 - what a caller raises for a mistake of the user's
    """A refusal in one line."""


Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a module into the current folder, which is not on the path yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(name: str, source: str) -> Path:
        monkeypatch.delitem(sys.modules, name.partition(".")[0], raising=False)
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
        return file

    return write


def refusal(reference: str) -> str:
    with pytest.raises(Refusal) as raised:
        import_own(reference, Refusal)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_module_of_the_current_folder_is_imported(write: Write) -> None:
    write("own_things.shapes", "def load(): return 3")
    function = import_own("own_things.shapes:load", Refusal)
    assert callable(function)
    assert function() == 3


@pytest.mark.parametrize("name", ["data", "models"])
def test_module_with_the_name_of_a_folder_of_the_checkout_is_the_users(write: Write, name: str) -> None:
    write(name, "value = 7")
    assert import_own(f"{name}:value", Refusal) == 7
    sys.modules.pop(name)


@pytest.mark.parametrize("name", ["queue", "random", "types"])
def test_name_of_a_module_of_python_is_taken(write: Write, name: str) -> None:
    write(name, "value = 7")
    sys.modules.pop(name, None)
    taken = f"the name {name!r} is taken by Python's standard library; rename your module in "
    assert taken in refusal(f"{name}:value")


@pytest.mark.skipif(sys.platform == "win32", reason="a module of Windows")
@pytest.mark.parametrize("name", ["nt", "winreg"])
def test_name_of_a_module_of_another_system_is_free(write: Write, name: str) -> None:
    write(name, "value = 7")
    assert import_own(f"{name}:value", Refusal) == 7
    sys.modules.pop(name)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("shapes.py:easy", "shapes:easy"),
        ("./deep/shapes.py:easy", "deep.shapes:easy"),
        ("shapes.easy", "shapes:easy"),
        ("deep.shapes.easy", "deep.shapes:easy"),
        ("lenett", None),
        ("shapes:", None),
        ("shapes.py", "shapes:py"),
    ],
)
def test_reference_that_was_meant(text: str, near: str | None) -> None:
    assert not is_reference(text)
    assert near_reference(text) == near


@pytest.mark.parametrize("name", ["numpy", "hpo", "hpo.errors"])
def test_name_of_an_installed_module_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    file = tmp_path / f"{name.replace('.', '/')}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("value = 7")
    top = name.partition(".")[0]
    assert f"{name}:value: the name {top!r} is taken by " in refusal(f"{name}:value")
    assert f"{top}/__init__.py; rename your module in {tmp_path}" in refusal(f"{name}:value")


def test_installed_module_is_imported_where_no_file_has_its_name(write: Write) -> None:
    assert import_own("json:loads", Refusal) is __import__("json").loads


def test_missing_name_and_missing_module_are_told_apart(write: Write) -> None:
    write("own_needs", "import no_such_package")
    write("own_small", "")
    assert refusal("own_small:Net") == "own_small:Net: own_small has no Net"
    assert "No module named 'own_none'; own_none has to be installed or in /" in refusal("own_none:Net")
    assert refusal("own_needs:Net") == (
        "own_needs:Net: importing own_needs raised ModuleNotFoundError at own_needs.py:1: "
        "No module named 'no_such_package'"
    )


def test_place_is_the_last_line_of_the_users_code(write: Write) -> None:
    write("own_place", "import json\n\ndef read(text):\n    return json.loads(text)\n")
    read = import_own("own_place:read", Refusal)
    assert callable(read)
    message = r"^own raised JSONDecodeError at own_place\.py:4: Expecting value: .*$"
    with pytest.raises(Refusal, match=message), user_code("own", Refusal):
        read("nothing")


def test_package_that_is_installed_counts_as_the_users_if_it_is_named() -> None:
    with pytest.raises(ValueError, match="Expecting value") as raised:
        __import__("json").loads("nothing")
    error = raised.value
    error.__traceback__ = (
        error.__traceback__.tb_next if error.__traceback__ else None
    )  # not the line of this test
    assert where(error) is None
    assert "/json/decoder.py:" in str(where(error, "json"))


def test_interrupt_and_what_hpo_raises_pass() -> None:
    class Stop(BaseException):
        """As what stops a worker."""

    Stop.__module__ = "hpo.worker.interruption"
    for error in (KeyboardInterrupt(), Stop()):
        with pytest.raises(type(error)), user_code("own", Refusal):
            raise error


def test_error_of_hpo_that_the_users_code_raises_has_its_line(write: Write) -> None:
    write("own_raises", "from hpo.errors import HpoError\n\ndef load():\n    raise HpoError('plain')\n")
    load = import_own("own_raises:load", Refusal)
    assert callable(load)
    message = r"^own raised HpoError at own_raises\.py:4: plain$"
    with pytest.raises(Refusal, match=message), user_code("own", Refusal):
        load()


def test_working_directory_stays(write: Write, tmp_path: Path) -> None:
    write("own_moves", "import os\n\ndef load(folder):\n    os.chdir(folder)\n    raise ValueError\n")
    load = import_own("own_moves:load", Refusal)
    assert callable(load)
    with pytest.raises(Refusal, match=r"raised ValueError at own_moves\.py:5$"), user_code("own", Refusal):
        load("/")
    assert Path.cwd() == tmp_path


def test_working_directory_may_be_gone(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("own_fails", "def load():\n    raise ValueError\n")
    load = import_own("own_fails:load", Refusal)
    assert callable(load)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(Refusal, match=r"raised ValueError at /.*own_fails\.py:2$"), user_code("own", Refusal):
        load()


def test_listener_hears_which_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Running | None] = []
    monkeypatch.setattr(_announcer, "listener", heard.append)
    outer, inner = Running("outer", Refusal), Running("inner", ValueError)
    with user_code("outer", Refusal), suppress(ValueError), user_code("inner", ValueError):
        raise KeyError
    assert heard == [outer, inner, outer, None]


class UnreadableError(Exception):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_message_that_cannot_be_read_is_left_out() -> None:
    assert describe(UnreadableError()) == "UnreadableError"
    assert (message_of(UnreadableError()), one_line(UnreadableError())) == ("", "UnreadableError")


def test_error_without_a_message_has_its_kind() -> None:
    assert describe(ValueError()) == "ValueError"
    assert len(describe(ValueError(10**6 * "x"))) == len("ValueError: ") + 1000
    assert describe(SyntaxError("bad", ("own.py", 3, 1, "x"))) == "SyntaxError at own.py:3: bad"


def test_files_of_the_working_directory_shadow_nothing(tmp_path: Path) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    for words in (("-m", "hpo.run.jobs"), ("-m", "hpo", "--version")):
        done = subprocess.run(
            [*PYTHON, *words], cwd=tmp_path, input="", text=True, capture_output=True, check=False
        )
        assert "shadowed" not in done.stderr
        assert "JSONDecodeError" in done.stderr or done.stdout.startswith("hpo, version")


def test_module_run_by_a_user_hides_nothing_but_what_python_has_loaded(tmp_path: Path) -> None:
    for name in ("data", "models", "queue", "random", "logging", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    words = (sys.executable, "-m", "hpo", "data", "list")
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, check=True)
    assert "digits" in done.stdout


DUMP = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "<frozen runpy>", line 88 in _run_code
  File "{library}/ctypes/__init__.py", line 519 in string_at
  File "{folder}/train.py", line 7 in fit
  File "{folder}/main.py", line 3 in main
"""


def test_place_in_a_dump_is_the_latest_line_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library = sysconfig.get_paths()["stdlib"]
    assert place_in_dump(DUMP.format(library=library, folder=tmp_path)) == "train.py:7"
    assert place_in_dump("") is None
