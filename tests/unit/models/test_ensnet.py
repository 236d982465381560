import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from hpo import models
from hpo.models.ensnet import DropConnect, vote

seeds = st.integers(0, 2**32 - 1)


def random_logits(seed: int, heads: int, classes: int, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, heads, classes, generator=generator, dtype=torch.float64)


@given(seeds, st.integers(1, 11), st.integers(2, 12), st.floats(0.01, 1000))
def test_vote_is_a_distribution(seed: int, heads: int, classes: int, scale: float) -> None:
    log_probabilities = vote(random_logits(seed, heads, classes, scale))
    assert log_probabilities.isfinite().all()
    assert torch.allclose(log_probabilities.exp().sum(-1), torch.ones(4, dtype=torch.float64))


@given(seeds, st.integers(1, 11), st.integers(2, 6), st.floats(0.01, 10))
def test_vote_breaks_ties_by_mean_probability(seed: int, heads: int, classes: int, scale: float) -> None:
    logits = random_logits(seed, heads, classes, scale)
    for sample, chosen in zip(logits, vote(logits).argmax(-1).tolist(), strict=True):
        votes = sample.argmax(-1).bincount(minlength=classes).tolist()
        mean = sample.softmax(-1).mean(0).tolist()
        assert chosen == max(range(classes), key=lambda label: (votes[label], mean[label]))


def test_vote_follows_its_formula() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 1.0]]])
    expected = (torch.tensor([[2.0, 1.0, 0.0]]) + logits.softmax(-1).mean(1)) / 4
    torch.testing.assert_close(vote(logits), expected.log())


def test_vote_stays_finite_where_a_probability_underflows() -> None:
    certain = torch.tensor([[[0.0, 500.0], [0.0, 500.0]]])
    assert F.cross_entropy(vote(certain), torch.tensor([0])).isfinite()


def test_dropconnect_keeps_the_mean_of_the_weights() -> None:
    torch.manual_seed(0)
    layer = DropConnect(400, 300)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    weights = layer(torch.eye(400)).T  # one input per weight column: (300, 400)
    assert weights.unique().tolist() == [0.0, 2.0]
    assert weights.mean().item() == pytest.approx(1, abs=0.02)  # six standard errors
    assert torch.equal(layer.eval()(torch.eye(400)), torch.ones(400, 300))


def test_dropconnect_draws_one_mask_per_member_of_a_pack() -> None:
    layer = DropConnect(30, 20)
    stacked = {name: torch.stack([value] * 2) for name, value in layer.named_parameters()}

    def apply(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = functional_call(layer, parameters, x)
        return output

    first, second = vmap(apply, (0, None), randomness="different")(stacked, torch.ones(4, 30))
    assert not torch.equal(first, second)
    assert (first == first[0]).all()  # and the same one for every image


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Return an EnsNetVote with its real heads on a cheap trunk of one convolution."""
    with torch.device("meta"):
        network = models.build("ensnet-vote", 10)
    network.set_submodule("features", nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Conv2d(1, 2000, 1)))
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.02, 0.02, generator=generator)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.reset_parameters()
    return network


def test_trunk_learns_from_the_base_head_only(network: nn.Module) -> None:
    images, labels = torch.randn(3, 1, 28, 28), torch.tensor([0, 4, 9])
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    trunk = {name: value for name, value in parameters.items() if name.startswith("features")}
    network.train()

    def losses(trunk: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(0)  # the same masks each time
        logits = functional_call(network, (trunk, buffers), images)  # (3, 11, 10)
        return torch.stack([F.cross_entropy(head, labels) for head in logits.unbind(1)])

    buffers = {name: value.clone() for name, value in network.named_buffers()}
    each = losses(trunk, buffers)
    everything = torch.autograd.grad(each.sum(), list(parameters.values()), retain_graph=True)
    assert all(gradient.any() for gradient in everything)
    joint = grad(lambda trunk, buffers: losses(trunk, buffers).sum())(trunk, buffers)
    base = torch.autograd.grad(each[0], list(trunk.values()), retain_graph=True)
    for name, alone in zip(trunk, base, strict=True):
        torch.testing.assert_close(joint[name], alone)
    assert not any(gradient.any() for gradient in torch.autograd.grad(each[1:].sum(), list(trunk.values())))


def test_subnetwork_sees_its_own_maps_and_base_head_sees_all(network: nn.Module) -> None:
    maps = torch.zeros(1, 2000, 6, 6)
    maps[:, 600:800] = 1  # the fourth subset
    network.eval()

    def heads(maps: Tensor) -> list[Tensor]:
        subsets = maps.flatten(1).chunk(10, dim=1)
        base, nets = network.get_submodule("base"), network.get_submodule("subnetworks").children()
        return [base(maps.flatten(1)), *(net(x) for net, x in zip(nets, subsets, strict=True))]

    trunk = network.get_submodule("features")
    network.set_submodule("features", nn.Identity())
    with torch.no_grad():
        try:
            torch.testing.assert_close(network(maps), vote(torch.stack(heads(maps), dim=1)))
        finally:
            network.set_submodule("features", trunk)
        changed = [
            not torch.equal(a, b) for a, b in zip(heads(maps), heads(torch.zeros_like(maps)), strict=True)
        ]
    assert changed == [True, *(index == 3 for index in range(10))]
