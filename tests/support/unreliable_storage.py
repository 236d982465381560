"""A storage whose connection a test cuts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from sqlalchemy import Connection

from hpo.errors import UnavailableError
from hpo.store.connection import Storage


@dataclass
class Link:
    """The connection to the storage.

    `refused` is set when a transaction was refused. The answers to the next `lost_commits` commits are lost.
    """

    refused: threading.Event = field(default_factory=threading.Event)
    lost_commits: int = 0
    _cut: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        self.refused.clear()
        self._cut.set()

    def restore(self) -> None:
        self._cut.clear()

    def check(self) -> None:
        if self._cut.is_set():
            self.refused.set()
            raise UnavailableError("it is away")


@dataclass(frozen=True)
class UnreliableStorage(Storage):
    """The same storage over a link that may fail."""

    link: Link = field(default_factory=Link)

    @classmethod
    def over(cls, storage: Storage, link: Link) -> UnreliableStorage:
        return cls(**{item.name: getattr(storage, item.name) for item in fields(storage)}, link=link)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.link.check()
        with super().transaction() as connection:
            yield connection
        if self.link.lost_commits:
            self.link.lost_commits -= 1
            raise UnavailableError("the connection died after the commit")
