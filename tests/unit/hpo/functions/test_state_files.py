"""States and copies of files, as the process of a function writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from hpo.functions.encoding import StateTypeError
from hpo.functions.state_files import DirectoryCopies, DirectoryError, StateFiles
from hpo.functions.trial import Trial


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_saved_state_is_a_copy(tmp_path: Path) -> None:
    states, array = StateFiles(tmp_path), np.zeros(2)
    states.stage({"array": array})
    array += 1
    name = states.commit()
    loaded: Any = states.load()
    assert name is not None
    assert loaded["array"].tolist() == [0, 0]
    assert StateFiles(tmp_path, name).load() is not None


def test_state_counts_once_it_is_committed(tmp_path: Path) -> None:
    states = StateFiles(tmp_path)
    assert (states.load(), states.commit()) == (None, None)
    states.stage(1)
    assert states.load() is None
    states.stage(2)
    first = states.commit()
    assert (states.load(), names(tmp_path)) == (2, {first})  # the state that was replaced is gone
    states.stage(3)
    assert states.load() == 2
    assert states.commit() != first


def test_refused_state_leaves_the_staged_state(tmp_path: Path) -> None:
    states = StateFiles(tmp_path)
    states.stage(1)
    with pytest.raises(StateTypeError):
        states.stage(object())
    states.commit()
    assert states.load() == 1


def test_state_that_cannot_be_written_leaves_the_staged_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = StateFiles(tmp_path)
    states.stage(1)

    def fails(_arrays: object, path: Path) -> None:
        path.touch()
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("hpo.functions.state_files.save_file", fails)
    with pytest.raises(OSError, match=r"^the state cannot be written into .*: I/O error: No space"):
        states.stage(2)
    assert names(tmp_path) == {states.commit()}
    assert states.load() == 1


@pytest.fixture
def copies(tmp_path: Path) -> DirectoryCopies:
    (tmp_path / "files" / "empty").mkdir(parents=True)
    (tmp_path / "copies").mkdir()
    return DirectoryCopies(tmp_path / "files", tmp_path / "copies")


def write(path: Path, text: str, age: float = 60.0) -> None:
    """Write a file that was changed `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


def test_files_are_copied_when_they_change(tmp_path: Path, copies: DirectoryCopies) -> None:
    files, folder = tmp_path / "files", tmp_path / "copies"
    assert copies.take() == {}
    write(files / "a.txt", "one")
    write(files / "deep" / "er" / "b.txt", "two")
    first = copies.take()
    assert {path: (folder / copy).read_text() for path, copy in first.items()} == {
        "a.txt": "one",
        "deep/er/b.txt": "two",
    }
    assert copies.take() == first
    write(files / "a.txt", "six", age=30)
    second = copies.take()
    assert (folder / second["a.txt"]).read_text() == "six"
    assert (folder / first["a.txt"]).read_text() == "one"
    assert second["deep/er/b.txt"] == first["deep/er/b.txt"]
    (files / "a.txt").unlink()
    assert copies.take().keys() == {"deep/er/b.txt"}


def test_file_that_has_just_changed_is_copied_again(tmp_path: Path, copies: DirectoryCopies) -> None:
    """A second change within the same tick of the clock has the same time stamp."""
    write(tmp_path / "files" / "a.txt", "one", age=0)
    first = copies.take()
    assert copies.take() != first


def test_what_is_no_file_is_refused(tmp_path: Path, copies: DirectoryCopies) -> None:
    os.mkfifo(tmp_path / "files" / "pipe")
    with pytest.raises(DirectoryError, match=r"^trial.directory: pipe is no file"):
        copies.take()


@pytest.mark.parametrize("target", ["empty", "missing"])
def test_links_to_no_file_are_refused(tmp_path: Path, copies: DirectoryCopies, target: str) -> None:
    (tmp_path / "files" / "link").symlink_to(target)
    with pytest.raises(DirectoryError, match=r"^trial.directory: link "):
        copies.take()


def test_name_that_is_no_unicode_is_refused(tmp_path: Path, copies: DirectoryCopies) -> None:
    """The names of files are names of arrays, which are Unicode."""
    (tmp_path / "files" / os.fsdecode(b"bad-\xff")).touch()
    with pytest.raises(
        DirectoryError, match=r"^trial.directory: the name 'bad-\\udcff' is no valid Unicode$"
    ):
        copies.take()


def test_link_in_place_of_the_directory_is_refused(tmp_path: Path, copies: DirectoryCopies) -> None:
    (tmp_path / "files" / "empty").rmdir()
    (tmp_path / "files").rmdir()
    (tmp_path / "files").symlink_to(tmp_path)
    with pytest.raises(DirectoryError, match=r"^trial.directory is no folder any more"):
        copies.take()


def test_link_to_a_file_is_its_content(tmp_path: Path, copies: DirectoryCopies) -> None:
    (tmp_path / "elsewhere").write_text("content")
    (tmp_path / "files" / "link").symlink_to(tmp_path / "elsewhere")
    (copy,) = copies.take().values()
    assert (tmp_path / "copies" / copy).read_text() == "content"


def test_trial_made_by_hand_works() -> None:
    trial = Trial({"lr": 0.1}, budget=2)
    assert (trial.stage, trial.seed, trial.device, list(trial.epochs)) == ("search", 0, "cpu", [1, 2])
    trial.save({"a": 1})
    assert trial.load() is None  # nothing is committed
    (trial.directory / "file").touch()
    with pytest.raises(StateTypeError):
        trial.save(object())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("suggest_float", "; parameters are in [space] of the study file, and their values in trial.params"),
        ("report", "; yield the metrics of an epoch instead"),
        ("should_prune", "; yield the metrics of an epoch instead"),
        ("colour", ""),
    ],
)
def test_trial_says_what_stands_in_place_of_optunas_methods(name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(Trial({}), name)
    assert str(caught.value) == f"a trial has no {name!r}{hint}"
