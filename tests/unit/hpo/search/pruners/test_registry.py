import pytest
from pydantic import ValidationError
from support.pruning import flat, peers

from hpo.search.pruners.registry import PRUNERS, make_pruner
from hpo.search.pruners.section import PrunerSection


@pytest.mark.parametrize("name", PRUNERS)
def test_first_trial_and_clearly_best_trial_are_never_pruned(name: str) -> None:
    # Optuna's `bootstrap_count` prunes the first trials whatever their losses are.
    pruner = make_pruner(PrunerSection(name=name, startup_trials=1), 9)
    assert not any(pruner.should_prune(0, flat(9.0, epoch), []) for epoch in range(1, 10))
    others = peers(*[1.0] * 20, epochs=9)
    assert not any(pruner.should_prune(0, flat(0.001, epoch), others) for epoch in range(1, 10))


@pytest.mark.parametrize("name", PRUNERS)
def test_every_registered_name_makes_its_pruner(name: str) -> None:
    assert type(make_pruner(PrunerSection(name=name), 9)) is PRUNERS[name]


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="'none', 'median', 'asha', 'hyperband' or 'pause'"):
        PrunerSection(name="best")


@pytest.mark.parametrize("name", PRUNERS)
def test_first_epoch_key_is_a_key_of_the_section(name: str) -> None:
    assert PRUNERS[name].first_epoch_key in {None, *PrunerSection.model_fields}
