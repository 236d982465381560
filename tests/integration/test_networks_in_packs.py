"""Every built-in network trains in a pack as it does alone."""

from functools import partial

import pytest
import torch
from support.packs import (
    CANDIDATES,
    MAX_NORMS,
    adam,
    assert_same,
    batches,
    new_pack,
    seeded,
    sgd,
    torch_sgd,
    train_alone,
    train_pack,
    without_dropout,
)
from torch import nn

from hpo import models
from hpo.training.pack import Pack

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "vectorised"),
    [
        *((name, True) for name in ("lenet", "alexnet", "vggnet", "resnet", "spinalnet")),
        ("lenet", False),
        ("resnet", False),
    ],
)
def test_a_pack_equals_separate_sgd_runs(name: str, vectorised: bool) -> None:
    """Each member has its own learning rate, momentum, weight decay and clipping; statistics are compared
    too."""
    factory, data = partial(without_dropout, name), batches(8)
    pack = new_pack(factory, vectorised=vectorised)
    losses = train_pack(pack, sgd(CANDIDATES, pack.weights.parameters), data, MAX_NORMS)
    for index, candidate in enumerate(CANDIDATES):
        network = seeded(factory, candidate.seed)
        alone = train_alone(network, torch_sgd(candidate, network), data, MAX_NORMS[index])
        torch.testing.assert_close(losses[:, index], alone, rtol=0, atol=1e-9)
        assert_same(pack, index, network)


def test_a_pack_of_ensnets_equals_separate_runs() -> None:
    # Two steps of two images are enough, because a training image of EnsNet takes 19.5 GFLOP.
    factory, pair, data = partial(without_dropout, "ensnet"), CANDIDATES[:2], batches(2, size=2)
    pack = new_pack(factory, pair)
    train_pack(pack, sgd(pair, pack.weights.parameters), data, MAX_NORMS[:2])
    for index, candidate in enumerate(pair):
        network = seeded(factory, candidate.seed)
        train_alone(network, torch_sgd(candidate, network), data, MAX_NORMS[index])
        assert_same(pack, index, network)


def test_a_pack_of_resnets_equals_separate_adam_runs() -> None:
    factory, data = partial(without_dropout, "resnet"), batches(20)
    pack = new_pack(factory)
    train_pack(pack, adam(1e-3, pack.weights.parameters), data)
    for index, candidate in enumerate(CANDIDATES):
        network = seeded(factory, candidate.seed)
        train_alone(network, torch.optim.Adam(network.parameters()), data)
        assert_same(pack, index, network)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize(
    "name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet", "ensnet", "ensnet-vote"]
)
def test_networks_draw_from_the_dropout_streams_alone(name: str, vectorised: bool) -> None:
    pack = Pack(partial(models.build, name, 10), [1, 1], "cpu", vectorised=vectorised)
    before = torch.get_rng_state()
    ((images, labels),) = batches(1, size=2)
    pack.seed_dropout([1, 2])
    losses, _ = pack.gradients(images.float(), labels)
    assert torch.equal(torch.get_rng_state(), before)
    has_dropout = any(isinstance(module, nn.Dropout) for module in models.build(name, 10).modules())
    assert (losses[0] != losses[1]) == has_dropout
