"""A folder that stores named files durably."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """Files under `root`, by name. A name may lead into a subfolder, as in `checkpoints/a`.

    A file is written whole or not at all, and survives a power cut. Every method raises OSError if the
    folder is away.
    """

    root: Path

    def path(self, name: str) -> Path:
        """Return the path of a file, which need not exist."""
        return self.root / name

    def put(self, name: str, data: bytes) -> None:
        """Write a file, in place of a file of the same name.

        A process that is killed while it writes leaves a file whose name begins with a dot.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                os.fchmod(file.fileno(), 0o644)  # another user's worker may take over the trial
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)

    def get(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def list(self, pattern: str) -> list[str]:
        """Return the names that match a glob pattern, also names that begin with a dot."""
        return [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]

    def rename(self, name: str, new_name: str) -> None:
        self.path(name).rename(self.path(new_name))

    def delete(self, name: str) -> None:
        self.path(name).unlink()

    def delete_empty(self, subfolder: str) -> None:
        """Delete a subfolder. Raises OSError if it holds files or does not exist."""
        self.path(subfolder).rmdir()


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file durable; fsync of the file covers its content alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
