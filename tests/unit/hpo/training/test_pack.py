"""A pack is M ordinary trainings: the same losses, weights and statistics, whoever the mates are."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpo import models
from hpo.models.ensnet import DropConnect
from hpo.training.optimizers import Adam, Optimizer, Sgd, clip
from hpo.training.pack import Candidate, Factory, Pack, Weights

CANDIDATES = (
    Candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=1),
    Candidate(lr=0.1, momentum=0.0, weight_decay=0.0, seed=2),
    Candidate(lr=0.01, momentum=0.95, weight_decay=1e-2, seed=3),
)
CLIP = (0.5, 0.2, 1.0)
GENTLE = tuple(replace(candidate, lr=candidate.lr / 50) for candidate in CANDIDATES)
SMALL = ("lenet", "alexnet", "resnet", "spinalnet")


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All members at once, as on an accelerator, or where a test asks so in turn, as on a CPU."""
    chosen: str = getattr(request, "param", "vmap")
    if chosen == "vmap":
        monkeypatch.setattr(Pack, "_is_vectorised", property(lambda pack: len(pack) > 1))
    return chosen


BOTH_WAYS = pytest.mark.parametrize("way", ["vmap", "loop"], indirect=True)


def network(name: str) -> nn.Module:
    """Without dropout, which an ordinary network draws in another way."""
    built = models.build(name, 10)
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return built


def batches(steps: int, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 1, 28, 28, generator=generator, dtype=torch.float64),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(steps)
    ]


def train_pack(
    pack: Pack, optimizer: Optimizer, steps: int, largest: Sequence[float] | None = None, size: int = 4
) -> list[Tensor]:
    found = []
    for images, labels in batches(steps, size):
        losses, gradients = pack.gradients(images, labels)
        if largest is not None:
            clip(gradients, torch.tensor(largest, dtype=torch.float64).unsqueeze(1))
        optimizer.step(pack.weights.parameters, gradients)
        found.append(losses)
    return found


def train_alone(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    largest: float | None = None,
    size: int = 4,
) -> list[Tensor]:
    found = []
    model.train()
    for images, labels in batches(steps, size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if largest is not None:
            nn.utils.clip_grad_norm_(model.parameters(), largest)
        optimizer.step()
        found.append(loss.detach())
    return found


def seeded(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return network(name).double()


def sgd(candidate: Candidate, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(), candidate.lr, momentum=candidate.momentum, weight_decay=candidate.weight_decay
    )


def packed(name: str, candidates: tuple[Candidate, ...] = CANDIDATES) -> Pack:
    return Pack(lambda: network(name), [c.seed for c in candidates], "cpu", torch.float64)


def assert_same(pack: Pack, place: int, model: nn.Module) -> None:
    mine, alone = pack.state_dict(pack.weights, place), model.state_dict()
    assert mine.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=1e-9)
    copy.deepcopy(model).load_state_dict(mine, strict=True)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "vmap") for name in SMALL),
        pytest.param("vggnet", "vmap", marks=pytest.mark.slow),
        ("lenet", "loop"),
        ("resnet", "loop"),
    ],
    indirect=["way"],
)
def test_a_pack_equals_separate_sgd_runs(name: str) -> None:
    """Each with its own learning rate, momentum, weight decay and clipping, statistics included."""
    pack = packed(name)
    losses = train_pack(pack, Sgd(CANDIDATES, pack.weights.parameters), 20, CLIP)
    for place, candidate in enumerate(CANDIDATES):
        model = seeded(name, candidate.seed)
        alone = train_alone(model, sgd(candidate, model), 20, CLIP[place])
        torch.testing.assert_close(torch.stack(losses)[:, place], torch.stack(alone), rtol=0, atol=1e-9)
        assert_same(pack, place, model)


def test_a_pack_equals_separate_sgd_runs_that_are_not_clipped() -> None:
    # Small steps: a diverging run multiplies the last digit's error with each of them.
    pack = packed("lenet")
    train_pack(pack, Sgd(GENTLE, pack.weights.parameters), 20)
    for place, candidate in enumerate(GENTLE):
        model = seeded("lenet", candidate.seed)
        train_alone(model, sgd(candidate, model), 20)
        assert_same(pack, place, model)


@pytest.mark.slow
def test_a_pack_of_ensnets_equals_separate_runs() -> None:
    # Two steps of two images: a training image of EnsNet costs 19.5 GFLOP.
    pair = CANDIDATES[:2]
    pack = packed("ensnet", pair)
    train_pack(pack, Sgd(pair, pack.weights.parameters), 2, CLIP[:2], size=2)
    for place, candidate in enumerate(pair):
        model = seeded("ensnet", candidate.seed)
        train_alone(model, sgd(candidate, model), 2, CLIP[place], size=2)
        assert_same(pack, place, model)


def test_a_pack_equals_separate_adam_runs() -> None:
    pack = packed("resnet")
    train_pack(pack, Adam(1e-3, pack.weights.parameters), 20)
    for place, candidate in enumerate(CANDIDATES):
        model = seeded("resnet", candidate.seed)
        train_alone(model, torch.optim.Adam(model.parameters()), 20)
        assert_same(pack, place, model)


def test_a_pack_of_one_is_an_ordinary_run() -> None:
    one = GENTLE[:1]
    pack = packed("resnet", one)
    train_pack(pack, Sgd(one, pack.weights.parameters), 5)
    model = seeded("resnet", one[0].seed)
    train_alone(model, sgd(one[0], model), 5)
    assert_same(pack, 0, model)


@BOTH_WAYS
@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_a_member_that_goes_to_nan_leaves_the_others_untouched(name: str) -> None:
    ill = packed(name)
    ill.weights.parameters[1] = torch.nan
    losses = train_pack(ill, Sgd(GENTLE, ill.weights.parameters), 5)
    well = packed(name)
    expected = train_pack(well, Sgd(GENTLE, well.weights.parameters), 5)
    assert torch.stack(losses)[:, 1].isnan().all()
    for place in (0, 2):
        torch.testing.assert_close(
            torch.stack(losses)[:, place], torch.stack(expected)[:, place], rtol=0, atol=0
        )
        torch.testing.assert_close(
            ill.weights.parameters[place], well.weights.parameters[place], rtol=0, atol=0
        )


@BOTH_WAYS
def test_scores_are_those_of_the_networks_in_evaluation_mode() -> None:
    pack = packed("lenet")
    ((images, labels),) = batches(1, size=9)
    losses, right = pack.score(images, labels)
    for place, candidate in enumerate(CANDIDATES):
        output = seeded("lenet", candidate.seed).eval()(images)
        expected = F.cross_entropy(output, labels, reduction="sum")
        assert losses[place].item() == pytest.approx(expected.item(), abs=1e-9)
        assert right[place].item() == (output.argmax(1) == labels).sum().item()


class Heads(nn.Module):
    """Two heads while it trains, their mean afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Linear(28 * 28, 2 * 10)

    def forward(self, images: Tensor) -> Tensor:
        heads: Tensor = self.heads(images.flatten(1)).view(-1, 2, 10)
        return heads if self.training else heads.mean(1)


@BOTH_WAYS
def test_each_head_has_its_own_loss_and_they_are_summed() -> None:
    pack = Pack(Heads, [1, 2], "cpu", torch.float64)
    ((images, labels),) = batches(1)
    losses, _ = pack.gradients(images, labels)
    for place, seed in enumerate((1, 2)):
        torch.manual_seed(seed)
        output = Heads().double()(images)
        expected = sum(F.cross_entropy(output[:, head], labels).item() for head in range(2))
        assert losses[place].item() == pytest.approx(expected, abs=1e-9)


class Odd(nn.Module):
    """A frozen layer, layers that share a weight, a buffer that is not saved, a parameter without axes."""

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


@BOTH_WAYS
def test_frozen_shared_and_unsaved_tensors_are_as_in_an_ordinary_run() -> None:
    pack = Pack(Odd, [c.seed for c in GENTLE], "cpu", torch.float64)
    train_pack(pack, Sgd(GENTLE, pack.weights.parameters), 5)
    for place, candidate in enumerate(GENTLE):
        torch.manual_seed(candidate.seed)
        model = Odd().double()
        train_alone(model, sgd(candidate, model), 5)
        assert_same(pack, place, model)


def dropping(name: str, seeds: Sequence[int], dtype: torch.dtype = torch.float64) -> Pack:
    """With dropout as the network has it."""
    return Pack(lambda: models.build(name, 10), seeds, "cpu", dtype)


def with_last(size: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Three batches and a smaller one."""
    return [*batches(3, size), *batches(1, size - 1)]


def learn(pack: Pack, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Losses `(steps, M)`."""
    found = []
    for images, labels in batches:
        losses, gradients = pack.gradients(images.to(pack.weights.parameters.dtype), labels)
        pack.weights.parameters.sub_(gradients, alpha=1e-3)
        found.append(losses)
    return torch.stack(found)


@BOTH_WAYS
@pytest.mark.parametrize("name", ["lenet", "spinalnet"])
def test_a_member_drops_the_same_in_every_pack(name: str) -> None:
    together = dropping(name, [1, 2, 3])
    losses = learn(together, with_last())
    for place, seed in enumerate((1, 2, 3)):
        alone = dropping(name, [seed])
        torch.testing.assert_close(losses[:, place], learn(alone, with_last())[:, 0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            together.weights.parameters[place], alone.weights.parameters[0], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("way", ["loop"], indirect=True)
@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_on_a_cpu_a_member_is_the_same_to_the_bit_in_every_pack(name: str) -> None:
    """In float32, with batches of its own too."""
    together, given = (dropping(name, [1, 2, 3], torch.float32) for _ in range(2))
    losses = learn(together, with_last())
    copies = [(torch.stack([images] * 3), torch.stack([labels] * 3)) for images, labels in with_last()]
    assert torch.equal(learn(given, copies), losses)
    alone = dropping(name, [3], torch.float32)
    assert torch.equal(learn(alone, with_last())[:, 0], losses[:, 2])
    assert torch.equal(alone.weights.parameters[0], together.weights.parameters[2])
    assert torch.equal(given.weights.parameters, together.weights.parameters)


@BOTH_WAYS
def test_a_batch_of_its_own_for_each_member_is_what_it_would_have_alone(way: str) -> None:
    first, second, third = batches(3)
    own = [
        (torch.stack([a[0], b[0]]), torch.stack([a[1], b[1]])) for a, b in ((first, second), (third, first))
    ]
    together = dropping("lenet", [1, 2])
    losses = learn(together, own)
    for place, seed in enumerate((1, 2)):
        alone = dropping("lenet", [seed])
        mine = learn(alone, [(images[place], labels[place]) for images, labels in own])
        torch.testing.assert_close(losses[:, place], mine[:, 0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            together.weights.parameters[place], alone.weights.parameters[0], rtol=0, atol=1e-9
        )


@BOTH_WAYS
def test_dropout_starts_anew_from_its_seeds() -> None:
    pack = dropping("lenet", [1, 1])
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


def test_weights_of_more_members_than_there_are_streams_ask_for_seeds() -> None:
    pack = dropping("lenet", [1])
    pack.weights = dropping("lenet", [1, 2]).weights
    with pytest.raises(ValueError, match="1 streams of dropout for 2 members"):
        learn(pack, batches(1))
    pack.seed_dropout([1, 2])
    learn(pack, batches(1))


class Dropconnected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), DropConnect(28 * 28, 10, p=0.3))

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images)
        return output


@BOTH_WAYS
@pytest.mark.parametrize(
    "factory",
    [
        *(pytest.param(partial(models.build, name, 10), id=name) for name in (*SMALL, "vggnet")),
        *(
            pytest.param(partial(models.build, name, 10), id=name, marks=pytest.mark.slow)
            for name in ("ensnet", "ensnet-vote")
        ),
        Dropconnected,
    ],
)
def test_networks_draw_from_the_streams_alone(factory: Factory) -> None:
    pack = Pack(factory, [1, 1], "cpu")
    before = torch.get_rng_state()
    ((images, labels),) = batches(1, size=2)
    pack.seed_dropout([1, 2])
    losses, _ = pack.gradients(images.float(), labels)
    assert torch.equal(torch.get_rng_state(), before)
    has_dropout = any(isinstance(module, nn.Dropout) for module in factory().modules())
    assert (losses[0] != losses[1]) == has_dropout


@BOTH_WAYS
def test_networks_may_draw_by_themselves() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(28 * 28, 10)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.layer(F.dropout(images.flatten(1), 0.5, self.training))
            return logits

    pack = Pack(Functional, [1, 1], "cpu", torch.float64)
    ((images, labels),) = batches(1)
    losses, _ = pack.gradients(images, labels)
    assert losses[0] != losses[1]
    summed, _ = pack.score(images, labels)
    assert summed[0] == summed[1]


def test_making_a_pack_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    packed("lenet")
    assert torch.equal(torch.get_rng_state(), before)


@BOTH_WAYS
def test_a_pack_goes_on_with_weights_that_it_is_given() -> None:
    pack, other = packed("resnet"), packed("resnet", CANDIDATES[:2])
    learn(other, batches(2))
    pack.score(*batches(1)[0])
    pack.weights = other.weights.of(torch.tensor([1, 0]))
    expected = learn(other, batches(2))
    torch.testing.assert_close(learn(pack, batches(2)), expected[:, [1, 0]], rtol=0, atol=1e-9)
    torch.testing.assert_close(pack.weights.parameters, other.weights.parameters[[1, 0]], rtol=0, atol=1e-9)


def test_weights_are_taken_over_where_they_should_be() -> None:
    first, second = packed("resnet").weights, packed("resnet").weights
    second.parameters.fill_(7)
    for buffer in second.buffers.values():
        buffer.fill_(7)
    before = first.copy()
    first = first.replaced(second, torch.tensor([False, True, False]))
    assert (first.parameters[1] == 7).all()
    assert all((buffer[1] == 7).all() for buffer in first.buffers.values())
    for place in (0, 2):
        assert torch.equal(first.parameters[place], before.parameters[place])
    both = Weights.joined([first.of(torch.tensor([1])), before.of(torch.tensor([0]))])
    assert torch.equal(both.parameters, torch.stack([first.parameters[1], before.parameters[0]]))
