"""Artifact stores for tests: the folder of one, and one in memory that fails on demand."""

from collections.abc import Callable, Iterable
from pathlib import Path

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.folder import FolderStore
from hpo.errors import AwayError


def folder_of(store: ArtifactStore) -> Path:
    assert isinstance(store, FolderStore)
    return store.root


class MemoryStore(ArtifactStore):
    """Artifacts in `files`. Every call first calls `before` with the operation and the name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.before: Callable[[str, str], object] = lambda _operation, _name: None

    def _put(self, name: str, data: bytes) -> None:
        self.before("put", name)
        self.files[name] = data

    def _get(self, name: str) -> bytes:
        self.before("get", name)
        if name not in self.files:
            raise AwayError(f"{name}: no such file")
        return self.files[name]

    def _list(self, prefix: str) -> Iterable[str]:
        self.before("list", prefix)
        return [name for name in self.files if name.startswith(prefix)]

    def _delete(self, name: str) -> None:
        self.before("delete", name)
        self.files.pop(name, None)


def away(*_call: object) -> None:
    """Raise the error of a store that is away."""
    raise AwayError("the store: No space left on device")
