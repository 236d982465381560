import pytest

from hpo.search.pruners.rungs import rung_epochs


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [
        ((1, 3, 9), [1, 3]),
        ((1, 3, 10), [1, 3, 9]),
        ((2, 2, 8), [2, 4]),
        ((1, 3, 1), []),
        ((5, 3, 5), []),
        ((1, 2, 17, 2), [4, 8, 16]),
        ((1, 3, 27, 3), []),
    ],
)
def test_rung_epochs(arguments: tuple[int, ...], epochs: list[int]) -> None:
    assert rung_epochs(*arguments) == epochs
