"""Every architecture trains as a pack: M networks in one computation under torch.func."""

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F

from hpo import models

Tensors = dict[str, Tensor]
SMALL = ("lenet", "alexnet", "vggnet", "resnet", "spinalnet")
M, B = 2, 4


@pytest.fixture(autouse=True)
def _no_slow_fallback() -> Iterator[None]:
    """Raise torch's warning that an operation has no batching rule, so that vmap loops over the members."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def members(name: str, dtype: torch.dtype = torch.float32) -> list[nn.Module]:
    networks = []
    for seed in range(M):
        torch.manual_seed(seed)
        networks.append(models.build(name, 10).to(dtype))
    return networks


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(B, 1, 28, 28, generator=generator, dtype=dtype), torch.arange(B)


def pack(networks: list[nn.Module], training: bool) -> tuple[nn.Module, Tensors, Tensors]:
    """Return the base network on the meta device, and the parameters and buffers stacked to `(M, ...)`."""
    base = copy.deepcopy(networks[0]).to("meta").train(training)
    parameters, buffers = stack_module_state(networks)
    return base, parameters, buffers


def gradients(networks: list[nn.Module], images: Tensor, labels: Tensor) -> tuple[Tensors, Tensor, Tensors]:
    """Train one step. Return the gradients `(M, ...)`, losses `(M,)` and new buffers `(M, ...)`."""
    base, parameters, buffers = pack(networks, training=True)

    def loss(parameters: Tensors, buffers: Tensors) -> Tensor:
        logits: Tensor = functional_call(base, (parameters, buffers), images)
        heads = logits.unsqueeze(1) if logits.ndim == 2 else logits  # (B, heads, classes)
        count = heads.shape[1]
        return count * F.cross_entropy(heads.flatten(0, 1), labels.repeat_interleave(count))

    gradient, losses = vmap(grad_and_value(loss), randomness="different")(parameters, buffers)
    return gradient, losses, buffers


def assert_trains(networks: list[nn.Module]) -> None:
    before = stack_module_state(networks)[1]
    gradient, losses, buffers = gradients(networks, *batch())
    assert losses.shape == (M,)
    assert losses[0] != losses[1]
    for name, value in gradient.items():
        assert value.isfinite().all(), name
        assert value[0].any(), name
        assert not torch.equal(value[0], value[1]), name
    for name, value in buffers.items():
        if name.endswith("num_batches_tracked"):
            assert value.tolist() == [1] * M
        else:
            assert not any(torch.equal(*pair) for pair in zip(value, before[name], strict=True)), name


@pytest.mark.parametrize("name", SMALL)
def test_pack_trains(name: str) -> None:
    assert_trains(members(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ensnet", "ensnet-vote"])
def test_pack_of_ensnets_trains(name: str) -> None:
    assert_trains(members(name))


@pytest.mark.parametrize("name", SMALL)
def test_member_evaluates_as_it_does_alone(name: str) -> None:
    networks = members(name)
    images, _ = batch()
    base, parameters, buffers = pack(networks, training=False)
    with torch.no_grad():
        together = vmap(lambda p, b: functional_call(base, (p, b), images))(parameters, buffers)
        alone = torch.stack([network.eval()(images) for network in networks])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", SMALL)
def test_member_trains_as_it_does_alone(name: str) -> None:
    """Losses, gradients and batch statistics are equal without dropout, whose masks always differ."""
    networks = members(name, torch.float64)
    for layer in (layer for network in networks for layer in network.modules()):
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    images, labels = batch(torch.float64)
    gradient, losses, buffers = gradients(networks, images, labels)
    for index, network in enumerate(networks):
        alone = F.cross_entropy(network(images), labels)
        alone.backward()
        torch.testing.assert_close(losses[index], alone.detach())
        for key, parameter in network.named_parameters():
            torch.testing.assert_close(gradient[key][index], parameter.grad)
        for key, buffer in network.named_buffers():
            torch.testing.assert_close(buffers[key][index], buffer)
