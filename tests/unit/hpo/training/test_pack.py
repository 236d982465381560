"""A pack is M ordinary trainings: the same losses, weights and statistics, whatever the other members are."""

from collections.abc import Sequence
from dataclasses import replace
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
from torch import Tensor, nn
from torch.nn import functional as F

from hpo import models
from hpo.models.ensnet import DropConnect
from hpo.training.networks import Factory
from hpo.training.pack import Pack

GENTLE = tuple(
    replace(member, params={**member.params, "lr": member.params["lr"] / 50}) for member in CANDIDATES
)
LENET = partial(without_dropout, "lenet")
BOTH_MODES = pytest.mark.parametrize("vectorised", [True, False])


class Small(nn.Module):
    """A convolution, batch normalisation and dropout on small maps."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 3 * 3, 16),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(16, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images)
        return output


DROPPING = partial(Small, 0.5)


@BOTH_MODES
@pytest.mark.parametrize("factory", [Small, LENET])
def test_a_pack_equals_separate_sgd_runs(factory: Factory, vectorised: bool) -> None:
    """Each member has its own learning rate, momentum, weight decay and clipping; statistics are compared
    too."""
    data = batches(10)
    pack = new_pack(factory, vectorised=vectorised)
    losses = train_pack(pack, sgd(CANDIDATES, pack.weights.parameters), data, MAX_NORMS)
    for index, candidate in enumerate(CANDIDATES):
        network = seeded(factory, candidate.seed)
        alone = train_alone(network, torch_sgd(candidate, network), data, MAX_NORMS[index])
        torch.testing.assert_close(losses[:, index], alone, rtol=0, atol=1e-9)
        assert_same(pack, index, network)


def test_a_pack_equals_separate_sgd_runs_without_clipping() -> None:
    # Small steps: a diverging run multiplies the error of the last digit at each step.
    pack, data = new_pack(LENET), batches(10)
    train_pack(pack, sgd(GENTLE, pack.weights.parameters), data)
    for index, candidate in enumerate(GENTLE):
        network = seeded(LENET, candidate.seed)
        train_alone(network, torch_sgd(candidate, network), data)
        assert_same(pack, index, network)


def test_a_pack_equals_separate_adam_runs() -> None:
    pack, data = new_pack(Small), batches(20)
    train_pack(pack, adam(1e-3, pack.weights.parameters), data)
    for index, candidate in enumerate(CANDIDATES):
        network = seeded(Small, candidate.seed)
        train_alone(network, torch.optim.Adam(network.parameters()), data)
        assert_same(pack, index, network)


def test_a_pack_of_one_is_an_ordinary_run() -> None:
    candidate, data = GENTLE[0], batches(5)
    pack = new_pack(Small, [candidate])
    train_pack(pack, sgd([candidate], pack.weights.parameters), data)
    network = seeded(Small, candidate.seed)
    train_alone(network, torch_sgd(candidate, network), data)
    assert_same(pack, 0, network)


@BOTH_MODES
@pytest.mark.parametrize("factory", [Small, LENET])
def test_a_member_with_nan_leaves_the_others_untouched(factory: Factory, vectorised: bool) -> None:
    data = batches(3)
    ill, well = (new_pack(factory, vectorised=vectorised) for _ in range(2))
    ill.weights.parameters[1] = torch.nan
    losses = train_pack(ill, sgd(GENTLE, ill.weights.parameters), data)
    expected = train_pack(well, sgd(GENTLE, well.weights.parameters), data)
    assert losses[:, 1].isnan().all()
    for index in (0, 2):
        assert torch.equal(losses[:, index], expected[:, index])
        assert torch.equal(ill.weights.parameters[index], well.weights.parameters[index])


@BOTH_MODES
def test_scores_equal_those_of_the_networks_in_evaluation_mode(vectorised: bool) -> None:
    pack = new_pack(LENET, vectorised=vectorised)
    ((images, labels),) = batches(1, size=9)
    scores = pack.score(images, labels)
    for index, candidate in enumerate(CANDIDATES):
        output = seeded(LENET, candidate.seed).eval()(images)
        losses = F.cross_entropy(output, labels, reduction="none")
        assert scores.losses[index].item() == pytest.approx(losses.sum().item(), abs=1e-9)
        assert scores.squares[index].item() == pytest.approx(losses.square().sum().item(), abs=1e-9)
        assert torch.equal(scores.predictions[index], output.argmax(1))


class Heads(nn.Module):
    """Two heads in training mode, their mean in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Linear(28 * 28, 2 * 10)

    def forward(self, images: Tensor) -> Tensor:
        heads: Tensor = self.heads(images.flatten(1)).view(-1, 2, 10)
        return heads if self.training else heads.mean(1)


@BOTH_MODES
def test_each_head_has_its_own_loss_and_they_are_summed(vectorised: bool) -> None:
    pack = new_pack(Heads, vectorised=vectorised)
    ((images, labels),) = batches(1)
    losses, _ = pack.gradients(images, labels)
    for index, candidate in enumerate(CANDIDATES):
        output = seeded(Heads, candidate.seed)(images)
        expected = sum(F.cross_entropy(output[:, head], labels).item() for head in range(2))
        assert losses[index].item() == pytest.approx(expected, abs=1e-9)


class Odd(nn.Module):
    """A frozen layer, layers that share a weight, a non-persistent buffer, and a parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(28 * 28, 10).requires_grad_(False)
        self.first, self.second = nn.Linear(10, 10), nn.Linear(10, 10)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("shift", torch.rand(10), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(self.frozen(images.flatten(1)) + self.shift).relu()
        output: Tensor = self.scale * self.second(hidden)
        return output


@BOTH_MODES
def test_frozen_shared_and_unsaved_tensors_are_as_in_an_ordinary_run(vectorised: bool) -> None:
    pack, data = new_pack(Odd, GENTLE, vectorised), batches(5)
    train_pack(pack, sgd(GENTLE, pack.weights.parameters), data)
    for index, candidate in enumerate(GENTLE):
        network = seeded(Odd, candidate.seed)
        train_alone(network, torch_sgd(candidate, network), data)
        assert_same(pack, index, network)


def data_with_smaller_last_batch(size: int = 4) -> list[tuple[Tensor, Tensor]]:
    return [*batches(3, size), *batches(1, size - 1)]


def learn(pack: Pack, data: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Take plain gradient steps and return losses `(steps, M)`."""
    losses = []
    for images, labels in data:
        step_losses, gradients = pack.gradients(images.to(pack.weights.parameters.dtype), labels)
        pack.weights.parameters.sub_(gradients, alpha=1e-3)
        losses.append(step_losses)
    return torch.stack(losses)


def dropout_pack(seeds: Sequence[int], vectorised: bool = True, name: str | None = None) -> Pack:
    factory = DROPPING if name is None else partial(models.build, name, 10)
    return Pack(factory, seeds, "cpu", torch.float64, vectorised)


@BOTH_MODES
@pytest.mark.parametrize("name", [None, "spinalnet"])
def test_a_member_drops_the_same_units_in_every_pack(name: str | None, vectorised: bool) -> None:
    together, data = dropout_pack([1, 2, 3], vectorised, name), data_with_smaller_last_batch()
    losses = learn(together, data)
    for index, seed in enumerate((1, 2, 3)):
        alone = dropout_pack([seed], vectorised, name)
        torch.testing.assert_close(losses[:, index], learn(alone, data)[:, 0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            together.weights.parameters[index], alone.weights.parameters[0], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_on_a_cpu_a_member_is_the_same_to_the_bit_in_every_pack(name: str) -> None:
    """In float32, on a shared batch and on a batch per member."""
    factory, data = partial(models.build, name, 10), data_with_smaller_last_batch()
    shared, own = (Pack(factory, [1, 2, 3], "cpu") for _ in range(2))
    losses = learn(shared, data)
    copies = [(torch.stack([images] * 3), torch.stack([labels] * 3)) for images, labels in data]
    assert torch.equal(learn(own, copies), losses)
    alone = Pack(factory, [3], "cpu")
    assert torch.equal(learn(alone, data)[:, 0], losses[:, 2])
    assert torch.equal(alone.weights.parameters[0], shared.weights.parameters[2])
    assert torch.equal(own.weights.parameters, shared.weights.parameters)


@BOTH_MODES
def test_a_batch_per_member_gives_each_member_what_it_would_have_alone(vectorised: bool) -> None:
    first, second, third = batches(3)
    data = [
        (torch.stack([a[0], b[0]]), torch.stack([a[1], b[1]])) for a, b in ((first, second), (third, first))
    ]
    together = dropout_pack([1, 2], vectorised)
    losses = learn(together, data)
    for index, seed in enumerate((1, 2)):
        alone = dropout_pack([seed], vectorised)
        expected = learn(alone, [(images[index], labels[index]) for images, labels in data])
        torch.testing.assert_close(losses[:, index], expected[:, 0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            together.weights.parameters[index], alone.weights.parameters[0], rtol=0, atol=1e-9
        )


@BOTH_MODES
def test_dropout_restarts_from_its_seeds(vectorised: bool) -> None:
    pack = dropout_pack([1, 1], vectorised)
    ((images, labels),) = batches(1)

    def losses(*seeds: int) -> list[float]:
        pack.seed_dropout(seeds)
        return [loss for _ in range(2) for loss in pack.gradients(images, labels)[0].tolist()]

    first, second, *later = losses(5, 6)
    assert first != second
    assert later != [first, second]
    assert losses(5, 6) == pytest.approx([first, second, *later], abs=1e-9)
    assert losses(6, 5)[:2] == pytest.approx([second, first], abs=1e-9)
    with pytest.raises(ValueError, match="3 seeds of dropout: a pack of 2 must have one for each"):
        pack.seed_dropout([1, 2, 3])


def test_weights_of_more_members_than_streams_ask_for_seeds() -> None:
    pack = dropout_pack([1])
    pack.weights = dropout_pack([1, 2]).weights
    with pytest.raises(ValueError, match="1 streams of dropout for 2 members"):
        learn(pack, batches(1))
    pack.seed_dropout([1, 2])
    learn(pack, batches(1))


class DropConnected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), DropConnect(28 * 28, 10, p=0.3))

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images)
        return output


@BOTH_MODES
@pytest.mark.parametrize(
    ("factory", "has_dropout"), [(Small, False), (DROPPING, True), (DropConnected, True)]
)
def test_dropout_draws_from_the_streams_alone(factory: Factory, has_dropout: bool, vectorised: bool) -> None:
    pack = Pack(factory, [1, 1], "cpu", vectorised=vectorised)
    before = torch.get_rng_state()
    ((images, labels),) = batches(1)
    pack.seed_dropout([1, 2])
    losses, _ = pack.gradients(images.float(), labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert bool(losses[0] != losses[1]) == has_dropout


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(F.dropout(images.flatten(1), 0.5, self.training))
        return logits


@BOTH_MODES
def test_networks_may_draw_by_themselves(vectorised: bool) -> None:
    pack = Pack(FunctionalDropout, [1, 1], "cpu", torch.float64, vectorised)
    ((images, labels),) = batches(1)
    losses, _ = pack.gradients(images, labels)
    assert losses[0] != losses[1]
    summed = pack.score(images, labels).losses
    assert summed[0] == summed[1]


def test_creating_a_pack_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    new_pack(LENET)
    assert torch.equal(torch.get_rng_state(), before)


@BOTH_MODES
def test_a_pack_continues_with_weights_it_is_given(vectorised: bool) -> None:
    pack = new_pack(Small, vectorised=vectorised)
    other = new_pack(Small, CANDIDATES[:2], vectorised)
    learn(other, batches(2))
    pack.score(*batches(1)[0])
    pack.weights = other.weights.select(torch.tensor([1, 0]))
    expected = learn(other, batches(2))
    torch.testing.assert_close(learn(pack, batches(2)), expected[:, [1, 0]], rtol=0, atol=1e-9)
    torch.testing.assert_close(pack.weights.parameters, other.weights.parameters[[1, 0]], rtol=0, atol=1e-9)
