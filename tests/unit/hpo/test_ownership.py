"""What root makes in a folder of another user."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.users import NAMELESS, needs_root

from hpo.artifacts.folder import FolderStore
from hpo.data.arrays import ArrayStore
from hpo.data.dataset import Dataset, Labelled
from hpo.ownership import make_file, make_folder, open_new
from hpo.worker.rehearsal import write_note


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder of another user."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NAMELESS, NAMELESS)
    return home


def owners(folder: Path) -> set[tuple[int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in paths}


@needs_root
def test_everything_that_root_makes_belongs_to_the_owner_of_the_home(home: Path) -> None:
    part = Labelled(np.zeros((2, 3, 3), np.uint8), np.array([0, 1]))
    store = ArrayStore(home / "arrays")
    with store.lock("own:load"):
        content = store.write(Dataset("own:load", ("a", "b"), lambda: part, lambda: part))
        store.index("f" * 64, content)
    FolderStore(home / "artifacts" / "small-12345678").put("deep/weights", b"x")
    write_note(home / "rehearsals" / "note", None)
    assert len(list(home.rglob("*"))) == 16
    assert owners(home) == {(NAMELESS, NAMELESS)}


@needs_root
def test_link_of_the_other_user_is_not_followed(home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    for name in ("file", "lock"):
        (home / name).symlink_to(secret)
    with open_new(home / "file") as file:
        file.write(b"new")
    make_file(home / "lock")
    assert (home / "file").read_bytes() == b"new"
    assert (secret.read_text(), secret.stat().st_uid) == ("root's", 0)


def test_folder_that_is_there_stays(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "inside")
