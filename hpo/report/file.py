"""The file of a report."""

import os
from pathlib import Path

from hpo.errors import InputError


def write(path: Path, page: str) -> None:
    """Write a page to a file, which holds the old page or the whole new one at any time.

    Raises `InputError` if the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            unfinished.write_text(page, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
