"""The registry: an optimizer takes the settings that it declares from each member."""

import pytest
import torch

from hpo.training.optimizers.registry import OPTIMIZERS, create_optimizer
from hpo.values.parameters import default_of

PARAMETERS_OF_TWO = torch.zeros(2, 3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_has_a_column_for_each_setting_and_no_other(name: str) -> None:
    members = [{"lr": 0.5, "momentum": 0.1, "batch_size": 16}, {"lr": 0.25, "momentum": 0.2}]
    optimizer = create_optimizer(name, members, PARAMETERS_OF_TWO)
    assert optimizer.name == name
    assert (*optimizer.settings,) == OPTIMIZERS[name].setting_names
    assert optimizer.settings["lr"].tolist() == [[0.5], [0.25]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optional_setting_has_a_column_where_it_is_in_use(name: str) -> None:
    optional = OPTIMIZERS[name].optional_names
    used = optional[-1]
    optimizer = create_optimizer(name, [{used: 0.5}, {}], PARAMETERS_OF_TWO, ["schedule", used])
    assert optimizer.settings.keys() == {*OPTIMIZERS[name].setting_names, used}
    expected = [0.5, float(default_of(used))]
    assert optimizer.settings[used].flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_setting_that_a_member_lacks_has_the_default_of_the_parameter(name: str) -> None:
    optimizer = create_optimizer(name, [{}, {"lr": 0.5}], PARAMETERS_OF_TWO)
    assert optimizer.settings["lr"].flatten().tolist() == pytest.approx([default_of("lr"), 0.5])


def test_settings_of_adam_are_exact() -> None:
    """Rounded to float32, a learning rate would change the curves."""
    optimizer = create_optimizer("adam", [{"lr": 1e-3}] * 2, PARAMETERS_OF_TWO)
    assert optimizer.settings["lr"].tolist() == [[1e-3], [1e-3]]
