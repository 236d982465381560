"""New files and folders of root in a folder of another user.

Root may run hpo in the HPO_HOME of another user. What root makes there goes to the owner of the folder that
holds it, who otherwise could not change or delete it. Owners change through descriptors of what was made, so
that the other user cannot put a file of root in its place.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and the missing folders above it, like `Path.mkdir` with `parents` and `exist_ok`."""
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    try:
        folder.mkdir(mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return  # another process has made it
    give_folder(folder)


def open_new(file: Path) -> BinaryIO:
    """Open a new file for writing. A file or a link that is there already is replaced, not written to."""
    file.unlink(missing_ok=True)
    opened = file.open("xb")
    give(opened.fileno(), file.parent)
    return opened


def give_folder(folder: Path) -> None:
    """Give a new folder to the owner of the folder that holds it. Only root does this."""
    if os.geteuid() != 0:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        give(descriptor, folder.parent)
    finally:
        os.close(descriptor)


def make_file(file: Path) -> None:
    """Make an empty file if there is none, such as one to be locked."""
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            give(descriptor, file.parent)
        finally:
            os.close(descriptor)


def give(descriptor: int, folder: Path) -> None:
    """Give a new file or folder to the owner of `folder`, which holds it. Only root does this."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    if owner.st_uid != 0:
        with suppress(OSError):  # some file systems refuse it even to root
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
