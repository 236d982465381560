import pytest

from hpo.store import statements
from hpo.store.statements import Statement, columns


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "registered", {})


def test_name_and_types_come_from_the_text() -> None:
    statement = Statement("\nPREPARE both (integer,\n  double precision[]) AS\n-- Why.\nSELECT $1, $2\n")
    assert (statement.name, statement.types) == ("both", ("integer", "double precision[]"))
    assert statement.text.startswith("PREPARE both")
    assert statement.text.endswith("$2")
    assert statements.registered == {"both": statement}


@pytest.mark.parametrize(
    "text", ["SELECT 1", "PREPARE one AS SELECT 1", "-- Why.\nPREPARE one (text) AS SELECT"]
)
def test_a_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must begin with 'PREPARE name"):
        Statement(text)


def test_two_statements_of_one_name_are_refused() -> None:
    Statement("PREPARE one (integer) AS SELECT $1")
    with pytest.raises(ValueError, match="there are two statements 'one'"):
        Statement("PREPARE one (text) AS SELECT $1")


def test_rows_become_one_list_per_column() -> None:
    assert columns([(1, "a"), (2, "b")], 2) == [[1, 2], ["a", "b"]]
    assert columns(iter(()), 3) == [[], [], []]
