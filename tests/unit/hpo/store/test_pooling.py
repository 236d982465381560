"""Poolers that give each transaction another session are refused, whichever session comes next."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from sqlalchemy import URL, Connection

from hpo.errors import StorageError
from hpo.store.pooling import check_pooling

Order = Literal["last used", "longest unused", "own"]


ENGINE = SimpleNamespace(url=URL.create("postgresql", "hpo", "secret", "pooler"))


@dataclass
class Pooler:
    """Sessions, each with its settings. The next transaction gets the first of `free`."""

    order: Order
    free: list[dict[str, str | None]]


@dataclass
class Client:
    """A connection to a pooler."""

    pooler: Pooler
    session: dict[str, str | None] | None = None
    own: dict[str, str | None] = field(default_factory=dict)
    engine: Any = field(default_factory=lambda: ENGINE)

    def execute(self, _statement: object, values: dict[str, str] | None = None) -> SimpleNamespace:
        if self.session is None:
            self.session = self.own if self.pooler.order == "own" else self.pooler.free.pop(0)
        if values is not None:
            self.session["token"] = values["token"]
        current = self.session.get("token")
        return SimpleNamespace(scalar=lambda: current)

    def commit(self) -> None:
        session, self.session = self.session, None
        if self.pooler.order == "own" or session is None:
            return
        self.pooler.free.insert(0 if self.pooler.order == "last used" else len(self.pooler.free), session)


def check(order: Order, sessions: int) -> None:
    pooler = Pooler(order, [{} for _ in range(sessions)])
    check_pooling(cast(Connection, Client(pooler)), cast(Connection, Client(pooler)))


@pytest.mark.parametrize("sessions", [1, 2, 3, 20])
@pytest.mark.parametrize("order", ["last used", "longest unused"])
def test_transactions_that_share_sessions_are_refused_in_one_line(order: Order, sessions: int) -> None:
    with pytest.raises(StorageError, match="session mode") as caught:
        check(order, sessions)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_connections_with_sessions_of_their_own_are_accepted() -> None:
    check("own", 0)
