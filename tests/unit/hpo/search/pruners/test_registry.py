import pytest
from support.pruning import flat, peers

from hpo.search.pruners.registry import DEFAULT, PRUNERS


@pytest.mark.parametrize("name", PRUNERS)
def test_first_trial_and_clearly_best_trial_are_never_pruned(name: str) -> None:
    # Optuna's `bootstrap_count` prunes the first trials whatever their losses are.
    section = PRUNERS[name]
    first = {"startup_trials": 1} if "startup_trials" in section.model_fields else {}
    pruner = section.model_validate(first).make(9)
    assert not any(pruner.should_prune(0, flat(9.0, epoch), []) for epoch in range(1, 10))
    others = peers(*[1.0] * 20, epochs=9)
    assert not any(pruner.should_prune(0, flat(0.001, epoch), others) for epoch in range(1, 10))


@pytest.mark.parametrize("name", PRUNERS)
def test_every_section_has_its_registered_name(name: str) -> None:
    assert PRUNERS[name]().name == name
    assert DEFAULT in PRUNERS


@pytest.mark.parametrize("name", PRUNERS)
def test_first_epoch_key_is_a_key_of_the_section(name: str) -> None:
    assert PRUNERS[name].first_epoch_key in {None, *PRUNERS[name].model_fields}
