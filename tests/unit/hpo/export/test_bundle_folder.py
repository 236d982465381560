"""Folders that can hold a bundle are told from others before any training."""

import os
from pathlib import Path

import pytest

from hpo.errors import InputError
from hpo.export.bundle_folder import FILES, check_folder


def test_new_empty_and_replaced_folders_are_right(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deep")
    check_folder(tmp_path)
    for name in FILES:
        (tmp_path / name).touch()
    check_folder(tmp_path)
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    check_folder(link)


@pytest.mark.parametrize("foreign", ["notes.txt", ".hidden", "sub/"])
def test_folder_with_other_files_is_refused(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / foreign
    path.mkdir() if foreign.endswith("/") else path.touch()
    with pytest.raises(InputError, match="is not empty and not a bundle: choose a new folder"):
        check_folder(tmp_path)


def test_part_of_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.json").touch()
    with pytest.raises(InputError, match="is not empty and not a bundle"):
        check_folder(tmp_path)


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="a bundle is a folder, and this is not one"):
        check_folder(file)
    with pytest.raises(InputError, match=f"cannot be made, {file} is a file; choose another folder"):
        check_folder(file / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match=f"cannot write in {tmp_path}: Permission denied"):
            check_folder(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_folder_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(InputError, match=r"^/proc/new: cannot write in /proc: .*; choose another folder$"):
        check_folder(Path("/proc/new"))


def test_nothing_is_left_of_the_try(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "new")
    assert list(tmp_path.iterdir()) == []
