import pytest

from hpo.search.pruners.median import MedianSection
from hpo.search.pruners.pause import PauseSection
from hpo.search.pruners.rungs import default_rung, rung_epochs
from hpo.values.space import Choices, SearchSpace

SPACE = SearchSpace({"lr": Choices((0.1, 0.01))})


def with_schedules(*names: str) -> SearchSpace:
    return SearchSpace({**SPACE.domains, "schedule": Choices(names)})


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


@pytest.mark.parametrize(
    ("epochs", "rung"), [(1, 1), (3, 1), (5, 1), (6, 2), (7, 2), (8, 3), (10, 3), (11, 4), (30, 10)]
)
def test_long_trials_have_their_first_rung_after_a_third(epochs: int, rung: int) -> None:
    assert default_rung(epochs, SPACE) == default_rung(epochs, with_schedules("constant")) == rung


@pytest.mark.parametrize(("epochs", "rung"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (8, 3)])
@pytest.mark.parametrize("schedules", [("cosine",), ("constant", "one-cycle")])
def test_annealed_trials_have_their_first_rung_after_a_third(
    epochs: int, rung: int, schedules: tuple[str, ...]
) -> None:
    assert default_rung(epochs, with_schedules(*schedules)) == rung


def test_section_is_resolved_unless_the_file_names_the_rung() -> None:
    assert PauseSection().resolved(12, SPACE).min_epochs == 4
    assert PauseSection(min_epochs=1).resolved(12, SPACE).min_epochs == 1
    assert MedianSection().resolved(12, SPACE) == MedianSection()


def test_resolved_section_keeps_what_is_stored() -> None:
    resolved, stored = PauseSection(reduction=4).resolved(12, SPACE), PauseSection(min_epochs=1)
    assert resolved.keeping(stored) == PauseSection(min_epochs=1, reduction=4)
    assert resolved.keeping(MedianSection()) == resolved
    assert PauseSection(min_epochs=4).keeping(stored).min_epochs == 4
