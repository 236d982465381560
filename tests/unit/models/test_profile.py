import pytest

from hpo.models import ModelError
from hpo.models.profile import Profile, profile


@pytest.mark.parametrize(
    ("name", "parameters", "megaflops"),
    [
        ("lenet", 35_814, 0.55),
        ("alexnet", 1_849_070, 20.3),
        ("vggnet", 1_463_678, 146.5),
        ("spinalnet", 386_050, 22.0),
        ("resnet", 707_886, 15.5),
        ("ensnet", 25_939_701, 6_503),
        ("ensnet-vote", 101_695_386, 7_863),
    ],
)
def test_parameters_and_flops_at_62_classes(name: str, parameters: int, megaflops: float) -> None:
    model_profile = profile(name)
    assert (model_profile.name, model_profile.parameters) == (name, parameters)
    assert model_profile.forward_flops / 1e6 == pytest.approx(megaflops, rel=0.01)


def test_multiply_add_counts_as_two_flops() -> None:
    convolutions = 6 * 5**2 * 24**2 + 16 * 6 * 5**2 * 8**2
    linear = 144 * 120 + 120 * 84 + 84 * 10
    assert profile("lenet", classes=10) == Profile("lenet", 35_814 - 52 * 85, 2 * (convolutions + linear))


def test_profile_depends_on_the_channels() -> None:
    more = profile("lenet", in_channels=3)
    assert more.parameters - profile("lenet").parameters == 2 * 6 * 5**2


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown model 'nope'"):
        profile("nope")
