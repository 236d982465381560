"""What an artifact store is: named files of one study, with four operations."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable

from hpo.errors import ArtifactNameError

_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")


class ArtifactStore(ABC):
    """Named files of one study. A name has parts, as in `checkpoints/search-0003-1-0002.safetensors`.

    Every method raises `AwayError` when the store cannot be reached or refuses, and `ArtifactNameError` for a
    name that breaks the rule of `check_name`. A store implements the four methods with an underscore, which
    get checked names only and raise `AwayError`.
    """

    def put(self, name: str, data: bytes) -> None:
        """Write a file durably, in place of a file of the same name. A reader sees the old or the new file.

        A writer that is killed may leave a file whose last part begins with a dot.
        """
        self._put(check_name(name), data)

    def get(self, name: str) -> bytes:
        """Return the content of a file. Raises `AwayError` also if there is no such file.

        The database names files that were written, so a missing file and a missing disk look the same.
        """
        return self._get(check_name(name))

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that begin with `prefix`, and none where nothing was written yet."""
        if prefix:
            check_name(prefix.removesuffix("/"))
        return sorted(self._list(prefix))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        self._delete(check_name(name))

    @abstractmethod
    def _put(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def _get(self, name: str) -> bytes: ...

    @abstractmethod
    def _list(self, prefix: str) -> Iterable[str]:
        """Return names in any order; leave out files whose name breaks the rule."""

    @abstractmethod
    def _delete(self, name: str) -> None: ...


def is_name(name: str) -> bool:
    """Return whether `name` may be the name of an artifact."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return `name` if it may be the name of an artifact. Raises `ArtifactNameError`.

    Names come from the database, which others may write. Letters, digits, `.`, `_` and `-` make up the parts,
    `/` stands between them, and no part is `.` or `..`: no name leads out of the store.
    """
    if not is_name(name):
        raise ArtifactNameError(
            f"artifact name {name!r}: must be parts of A-Z, a-z, 0-9, '.', '_', '-' with '/' between them, "
            "and no part may be '.' or '..'"
        )
    return name
