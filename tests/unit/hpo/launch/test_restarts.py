import pytest

from hpo.launch.restarts import LONG_LIFE, MAX_FAILURES, MAX_KILLS, Restarts


def test_user_mistake_is_not_restarted() -> None:
    assert Restarts().after(2, seconds=1000.0) is None


@pytest.mark.parametrize(
    ("code", "limit"),
    [(1, MAX_FAILURES), (3, MAX_KILLS), (139, MAX_KILLS), (-9, MAX_KILLS), (-15, MAX_KILLS), (0, MAX_KILLS)],
)
def test_restarts_in_a_row_are_limited(code: int, limit: int) -> None:
    restarts = Restarts()
    labels = [restarts.after(code, seconds=LONG_LIFE - 1) for _ in range(limit)]
    assert labels == [f"{n} of {limit}" for n in range(1, limit + 1)]
    assert restarts.after(code, seconds=LONG_LIFE - 1) is None


@pytest.mark.parametrize("code", [1, -9])
def test_long_life_resets_the_restart_count(code: int) -> None:
    restarts = Restarts()
    for _ in range(3 * MAX_KILLS):
        assert (restarts.after(code, seconds=LONG_LIFE) or "").startswith("1 of ")


def test_failures_and_kills_are_counted_apart() -> None:
    restarts = Restarts()
    for _ in range(MAX_FAILURES):
        assert restarts.after(1, seconds=1.0) is not None
        assert restarts.after(-9, seconds=1.0) is not None
    assert restarts.after(1, seconds=1.0) is None
