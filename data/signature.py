"""The signature of files: whether they have changed since they were read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_signature(paths: Iterable[Path], *words: str) -> str | None:
    """Return a hex digest of the paths, sizes and modification times of files, and of `words`.

    Include the code that reads the files. None: a file is missing.
    """
    lines = list(words)
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            return None
        lines.append(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
