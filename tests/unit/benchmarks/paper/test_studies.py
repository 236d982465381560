"""The studies of a network: the files in studies/, arms with a single cell, and parts of the epochs."""

import pytest

from benchmarks.paper.studies import NETWORKS, STUDIES, Plan
from benchmarks.paper.training import grown
from hpo.spec.study_spec import StudySpec

CELL = {"lr": 0.1, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}


@pytest.mark.parametrize("network", NETWORKS)
def test_study_is_that_of_the_study_file(network: str) -> None:
    file, spec = StudySpec.load(STUDIES / f"{network}.toml"), Plan(network).study()
    assert spec.name == network
    assert spec.model_copy(update={"promotion": file.promotion}).identity() == file.identity()
    assert (spec.promotion.top, spec.promotion.seeds) == (1, 3)


def test_arms_are_the_defaults_and_the_first_cells_of_random_search() -> None:
    arms = Plan("vggnet").arms()
    assert arms["default"] == {"lr": 0.01, "batch_size": 64, "momentum": 0.9, "weight_decay": 0.0}
    assert list(arms) == ["default", "random-1", "random-2", "random-3"]
    assert arms == Plan("vggnet", epochs=7).arms()
    cells = {tuple(sorted(point.items())) for point in arms.values()}
    assert len(cells) == 4


def test_arm_trains_one_cell_with_the_recipe_of_the_study() -> None:
    plan = Plan("alexnet", epochs=8)
    spec = plan.arm("random-1", CELL)
    assert spec.name == "alexnet-random-1"
    assert spec.space.cells == spec.search.trials == spec.search.epochs == 1
    assert spec.full == plan.study().full
    assert spec.full.pretrain.epochs == 8
    assert spec.stop.epochs is None
    assert spec.promotion.seeds == 1
    assert spec.seed == plan.study().seed


def test_arms_of_a_fast_network_have_more_seeds() -> None:
    assert Plan("lenet").arm("default", CELL).promotion.seeds == 3
    assert Plan("lenet", arm_seeds=2).arm("default", CELL).promotion.seeds == 2


def test_middle_fidelity_trains_for_a_quarter() -> None:
    plan = Plan("lenet", epochs=10)
    first, second = plan.middle([CELL, {**CELL, "lr": 0.01}])
    assert [first.name, second.name] == plan.middle_names()[:2]
    assert first.full.pretrain.epochs == 3
    assert first.promotion.seeds == 1
    assert second.space.point_at(0)["lr"] == 0.01


def test_numbers_of_a_stored_study_only_grow() -> None:
    small, large = Plan("lenet", seeds=2).study(), Plan("lenet", seeds=5).study()
    assert grown(small, large) == large
    assert grown(large, small) == large
