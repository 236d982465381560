"""Statements that a server keeps."""

from collections.abc import Iterator

import pytest
from optuna.trial import TrialState
from sqlalchemy import ClauseElement, Integer, Text, bindparam, event, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from hpo.errors import StorageError
from hpo.store import schema
from hpo.store.connection import Storage, open_url
from hpo.store.statements import Prepared


@pytest.fixture
def opened(storage: Storage) -> Iterator[Storage]:
    """With connections that no other test has used."""
    opened = open_url(storage.url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def sent(opened: Storage) -> list[str]:
    """The first word of each statement."""
    sent: list[str] = []
    event.listen(
        opened.engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement.split()[0]),
    )
    return sent


@Prepared
def echo() -> ClauseElement:
    number, words = bindparam("number", type_=Integer), bindparam("words", type_=ARRAY(Text))
    return select(number + 1, words, literal("100% %s $1"), number)


def test_a_statement_is_prepared_once_for_each_connection(opened: Storage, sent: list[str]) -> None:
    for number in (1, 2):
        with opened.transaction() as connection:
            row = echo(connection, {"number": number, "words": ["it's", None]}).one()
            assert row == (number + 1, ["it's", None], "100% %s $1", number)
    assert sent == ["PREPARE", "EXECUTE", "EXECUTE"]
    with opened.transaction() as one, opened.transaction() as other:
        for connection in (one, other):
            assert echo(connection, {"number": None, "words": []}).one() == (None, [], "100% %s $1", None)
    assert sent[3:] == ["EXECUTE", "PREPARE", "EXECUTE"]


def test_a_transaction_that_failed_takes_it_not_away(opened: Storage, sent: list[str]) -> None:
    def fail() -> None:
        with opened.transaction() as connection:
            echo(connection, {"number": 1, "words": []})
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with opened.transaction() as connection:
        assert echo(connection, {"number": 1, "words": []}).scalar() == 2
    assert sent == ["PREPARE", "EXECUTE", "EXECUTE"]


def test_a_connection_that_takes_the_place_of_another_has_to_learn_it(
    opened: Storage, sent: list[str]
) -> None:
    for _ in range(2):
        with opened.transaction() as connection:
            echo(connection, {"number": 1, "words": []})
            connection.detach()  # as when it has died
    assert sent == ["PREPARE", "EXECUTE"] * 2


def test_what_the_server_refuses_is_told_as_with_any_statement(opened: Storage) -> None:
    with pytest.raises(StorageError, match="out of range"), opened.transaction() as connection:
        echo(connection, {"number": 2**31 - 1, "words": []})


def test_an_enumeration_goes_out_and_comes_back_by_its_name(opened: Storage) -> None:
    kind = schema.trials.c.state.type

    @Prepared
    def states() -> ClauseElement:
        return select(literal(TrialState.PRUNED, kind), bindparam("one", type_=kind))

    with opened.transaction() as connection:
        assert states(connection, {"one": TrialState.FAIL}).one() == ("PRUNED", "FAIL")
