"""The names of test results."""

from hpo.artifacts.base import is_name
from hpo.artifacts.names import results_name, weights_name


def test_each_model_has_a_name_of_its_own() -> None:
    one, two = weights_name(0, 7), weights_name(1, 8)
    assert results_name([one], 0) == "test/trial-0000-7.safetensors"
    assert results_name([one], 1) == "test/trial-0000-7-shifts-1.safetensors"
    names = [results_name(members, shifts) for members in ([one], [two], [one, two]) for shifts in (0, 1, 2)]
    assert len(set(names)) == 9
    assert all(map(is_name, names))


def test_order_of_the_members_does_not_matter() -> None:
    members = [weights_name(number, number) for number in range(3)]
    assert results_name(members, 0) == results_name(members[::-1], 0)
    assert results_name(members, 0) != results_name(members[:2], 0)
