"""The rehearsal of a network: what is refused before a study is stored, and what trains."""

import random
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as hooked_weight_norm

from hpo.data.device import DeviceImages
from hpo.errors import InputError
from hpo.training.check import Rehearsal, undisturbed
from hpo.training.classification import Classification
from hpo.training.engines.eager import EagerEngine
from hpo.training.loss import training_loss
from hpo.training.networks import Factory, initialised
from hpo.training.pack import Pack
from hpo.training.task import Task

CLASSES = 3
SIDE = 6

Forward = Callable[[Any, Tensor], Any]


def linear(inputs: int = SIDE * SIDE) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, CLASSES))


class Own(nn.Module):
    """A linear network with another forward, and what `prepare` adds to it."""

    def __init__(self, forward: Forward, prepare: Callable[[Any], None] = lambda _: None) -> None:
        super().__init__()
        self.layers, self._forward = linear(), forward
        prepare(self)

    def forward(self, images: Tensor) -> Any:
        return self._forward(self, images)


def own(forward: Forward, prepare: Callable[[Any], None] = lambda _: None) -> Factory:
    return lambda: Own(forward, prepare)


def images(count: int) -> DeviceImages:
    pixels = torch.arange(count * SIDE * SIDE, dtype=torch.uint8).view(count, 1, SIDE, SIDE)
    moments = torch.tensor([0.5]).view(1, 1, 1)
    return DeviceImages(pixels, torch.arange(count) % CLASSES, moments, moments)


def rehearsal(factory: Factory, batch: int = 4) -> Rehearsal:
    task = Task(factory, images(batch), images(batch + 1), Classification(CLASSES))
    return Rehearsal("nets:Own", task, EagerEngine())


def register(name: str, value: Tensor) -> Callable[[Any], None]:
    return lambda network: network.register_buffer(name, value.clone())


def keep(name: str, value: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda network: setattr(network, name, value(network))


def count_in_place(network: Any, images: Tensor) -> Tensor:
    network.count.add_(1)
    output: Tensor = network.layers(images)
    return output


def count_anew(network: Any, images: Tensor) -> Tensor:
    network.count = network.count + 1
    output: Tensor = network.layers(images)
    return output


def remember(network: Any, images: Tensor) -> Tensor:
    state = network.layers(images) + getattr(network, "state", 0)
    network.state = state
    return state  # type: ignore[no-any-return]


def raise_in_training(network: Any, images: Tensor) -> Tensor:
    if network.training:
        raise SystemExit("not today")
    return network.layers(images)  # type: ignore[no-any-return]


REFUSED: dict[str, tuple[Factory, str]] = {
    "a tuple while training": (
        own(lambda net, x: (net.layers(x),) * 2 if net.training else net.layers(x)),
        "gives a tuple for 4 images in training mode; it must give (4, 3), or (4, heads, 3)",
    ),
    "other classes": (lambda: linear()[:1], "has no parameters to train"),
    "other logits": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 5)),
        "gives (4, 5) for 4 images; it must give (4, 3)",
    ),
    "nothing": (own(lambda _net, _x: None), "gives a NoneType for 4 images; it must give (4, 3)"),
    "heads in evaluation": (
        own(lambda net, x: net.layers(x)[:, None]),
        "gives (4, 1, 3) for 4 images; it must give (4, 3)",
    ),
    "wrong size": (lambda: linear(10), "on 4 images of shape (1, 6, 6) raised RuntimeError: "),
    "exit while training": (
        own(raise_in_training),
        r"on 4 images of shape (1, 6, 6) raised SystemExit at tests/unit/hpo/training/test_check.py:",
    ),
    "frozen": (lambda: linear().requires_grad_(False), "has no parameters to train"),
    "a loss that is not finite": (
        own(lambda net, x: net.layers(x) * float("nan")),
        "has a loss of nan before it is trained",
    ),
    "a buffer that is replaced": (
        own(count_anew, register("count", torch.zeros(1))),
        "replaces its buffer 'count' in a forward pass; it must update the buffer in place",
    ),
    "a graph that is kept": (own(remember), "in training raised RuntimeError"),
    "a random constant": (
        own(lambda net, x: net.layers(x * net.noise), keep("noise", lambda _: torch.randn(SIDE))),
        "keeps the tensor 'noise' outside of its parameters and buffers; use self.register_buffer",
    ),
    "a constant with a graph": (
        own(lambda net, x: net.layers(x * net.scale), keep("scale", lambda net: net.layers[1].weight.sum())),
        "keeps the tensor 'scale' outside of its parameters and buffers",
    ),
    "a lock": (
        own(lambda net, x: net.layers(x), keep("lock", lambda _: threading.Lock())),
        "in training raised TypeError: cannot pickle '_thread.lock' object",
    ),
    "a fixed batch": (
        own(lambda net, x: net.layers(x).view(4, CLASSES)),
        "in training raised RuntimeError at tests/unit/hpo/training/test_check.py:",
    ),
    "detached": (own(lambda net, x: net.layers(x).detach()), "in training raised RuntimeError"),
}


@pytest.mark.parametrize(("factory", "message"), REFUSED.values(), ids=REFUSED)
def test_network_that_cannot_be_trained_is_refused_in_one_line(factory: Factory, message: str) -> None:
    with pytest.raises(InputError, match=f"^model 'nets:Own' .*{re.escape(message)}") as error:
        rehearsal(factory).check()
    assert "\n" not in str(error.value)


def tied() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, CLASSES))
    network[2].weight = network[1].weight
    return network


def orthogonal() -> nn.Module:
    return nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(36, CLASSES)))


TRAINED: dict[str, Factory] = {
    "linear": linear,
    "normalised": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3)
    ),
    "weight norm by hooks": lambda: nn.Sequential(
        nn.Flatten(),
        hooked_weight_norm(nn.Linear(36, CLASSES)),
    ),
    "weight norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(36, CLASSES))),
    "spectral norm by hooks": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.spectral_norm(nn.Linear(36, CLASSES))
    ),
    "spectral norm": lambda: nn.Sequential(
        nn.Flatten(), parametrizations.spectral_norm(nn.Linear(36, CLASSES))
    ),
    "orthogonal": orthogonal,
    "tied": tied,
    "heads": own(lambda net, x: net.layers(x)[:, None].expand(-1, 2, -1) if net.training else net.layers(x)),
    "unused parameter": own(
        lambda net, x: net.layers(x), keep("unused", lambda _: nn.Parameter(torch.ones(3)))
    ),
    "a part is frozen": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 5).requires_grad_(False), nn.Linear(5, CLASSES)
    ),
    "counts in place": own(count_in_place, register("count", torch.zeros(1))),
    "Python's random numbers": own(lambda net, x: net.layers(x * (1 + random.random()))),
    "dropout by function": own(lambda net, x: nn.functional.dropout(net.layers(x), training=net.training)),
    "a shared constant": own(
        lambda net, x: net.layers(x * net.scale), keep("scale", lambda _: torch.ones(SIDE))
    ),
    "control flow by values": own(lambda net, x: net.layers(x if x.sum() > 0 else -x)),
}

NOT_FUSED = {"spectral norm by hooks", "spectral norm", "control flow by values"}


@pytest.mark.parametrize("name", TRAINED)
def test_network_trains_in_turn_as_it_does_alone(name: str) -> None:
    """Two steps of each member of a pack equal those of an ordinary training."""
    factory = TRAINED[name]
    tried = rehearsal(factory)
    tried.check()
    if name in ("Python's random numbers", "dropout by function"):
        return
    batch, labels = tried.task.train.batch(torch.arange(4))
    pack = Pack(factory, [0, 1], "cpu")
    for _ in range(2):
        _, gradients = pack.gradients(batch, labels)
        pack.weights.parameters.sub_(gradients, alpha=0.1)
    for index in range(2):
        trained, alone = pack.state_dict(pack.weights, index), train_alone(factory, index, batch, labels)
        for key, tensor in alone.items():
            torch.testing.assert_close(trained[key], tensor, rtol=1e-5, atol=1e-6)


def train_alone(factory: Factory, seed: int, batch: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the state of a network after two steps of plain SGD."""
    network = initialised(factory, seed)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        training_loss(network(batch), labels, {}).backward()
        optimizer.step()
    return network.state_dict()


@pytest.mark.parametrize("name", TRAINED)
def test_rehearsal_says_whether_vmap_can_fuse_the_network(name: str) -> None:
    reason = rehearsal(TRAINED[name]).why_not_fused()
    assert (reason is not None) == (name in NOT_FUSED)
    assert reason is None or ("\n" not in reason and len(reason) < 300)


def test_network_that_cannot_be_fused_trains_in_turn_on_any_device() -> None:
    task = replace(rehearsal(TRAINED["control flow by values"]).task, vectorised=False)
    pack, batch = task.new_pack([0, 1]), task.train.batch(torch.arange(4))
    losses, _ = pack.gradients(*batch)
    assert losses.isfinite().all()


def test_batch_of_one_image_is_tried_where_a_study_has_it() -> None:
    with pytest.raises(
        InputError, match=r"on 1 image of shape \(1, 6, 6\) raised ValueError: Expected more than 1"
    ):
        rehearsal(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3)), batch=1).check()
    rehearsal(linear, batch=1).check()


def test_rehearsal_moves_no_random_state() -> None:
    def draw_everywhere(network: Any, images: Tensor) -> Tensor:
        share = random.random() + np.random.random() + torch.rand(1)
        return network.layers(images * share)  # type: ignore[no-any-return]

    def draws() -> list[float]:
        return [random.random(), np.random.random(), torch.rand(1).item()]

    with undisturbed(torch.device("cpu")):
        expected = draws()
    tried = rehearsal(own(draw_everywhere))
    tried.check()
    tried.why_not_fused()
    assert draws() == expected


def test_error_leaves_the_random_states_alone() -> None:
    before = random.getstate()

    def fail() -> None:
        with undisturbed(torch.device("cpu")):
            raise ValueError(random.random())

    with pytest.raises(ValueError, match=r"0\.\d+"):
        fail()
    assert random.getstate() == before
