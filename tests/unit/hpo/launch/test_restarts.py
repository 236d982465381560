import pytest

from hpo.launch.restarts import LONG_LIFE, MOST_FAILURES, MOST_KILLS, Restarts


def test_a_mistake_of_the_user_comes_back() -> None:
    assert Restarts().after(2, lived=1000.0) is None


@pytest.mark.parametrize(
    ("code", "most"),
    [(1, MOST_FAILURES), (139, MOST_FAILURES), (-9, MOST_KILLS), (-15, MOST_KILLS), (0, MOST_KILLS)],
)
def test_so_often_in_a_row_and_no_more(code: int, most: int) -> None:
    restarts = Restarts()
    given = [restarts.after(code, lived=LONG_LIFE - 1) for _ in range(most)]
    assert given == [f"{n} of {most}" for n in range(1, most + 1)]
    assert restarts.after(code, lived=LONG_LIFE - 1) is None


@pytest.mark.parametrize("code", [1, -9])
def test_a_long_life_begins_the_count_anew(code: int) -> None:
    restarts = Restarts()
    for _ in range(3 * MOST_KILLS):
        assert (restarts.after(code, lived=LONG_LIFE) or "").startswith("1 of ")


def test_neither_kind_of_end_forgets_the_other() -> None:
    restarts = Restarts()
    for _ in range(MOST_FAILURES):
        assert restarts.after(1, lived=1.0) is not None
        assert restarts.after(-9, lived=1.0) is not None
    assert restarts.after(1, lived=1.0) is None
