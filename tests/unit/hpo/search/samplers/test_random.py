from support.spaces import PAPER

from hpo.search.samplers.points import plan
from hpo.search.samplers.random import RandomSampler


def test_random_search_is_planned_in_full() -> None:
    sampler = RandomSampler()
    assert sampler.plans_all
    assert sampler.initial(PAPER, 12, 3) == plan(PAPER, 12, 3)
    assert sampler.suggest(PAPER, [], 4, 0) == []
