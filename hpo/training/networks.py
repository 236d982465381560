"""Networks as functions of their tensors: building and calling one network of a pack."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.training.weights import Tensors

Factory = Callable[[], nn.Module]


def initialised(factory: Factory, seed: int) -> nn.Module:
    """Build a network whose weights are drawn under `seed`. The global random state is left unchanged."""
    with torch.random.fork_rng(devices=()):
        # torch.manual_seed would also seed the accelerators, which nothing restores afterwards.
        torch.default_generator.manual_seed(seed)
        return factory()


class PlainTensors:
    """The tensors that the modules of a network hold as plain attributes, beside parameters and buffers.

    Hook-based weight normalisation (`torch.nn.utils.weight_norm`) holds the computed weight like that, and
    computes it anew in each forward pass.
    """

    def __init__(self, network: nn.Module, device: torch.device | str) -> None:
        """Keep the present tensors, moved to `device` and cut off from what they were computed from."""
        self._held = [
            (module, {name: tensor.detach().to(device) for name, tensor in plain_tensors(module)})
            for module in network.modules()
        ]
        self.restore()

    def restore(self) -> None:
        """Give the modules the kept tensors back: a copy must have none that a forward pass computed."""
        for module, tensors in self._held:
            for name, _ in plain_tensors(module):
                del vars(module)[name]
            vars(module).update(tensors)


def plain_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the tensors among the plain attributes of a module, by name."""
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Tensor)]


def in_mode(network: nn.Module, training: bool) -> nn.Module:
    """Switch `network` to training or evaluation mode and return it."""
    return network if network.training == training else network.train(training)


def call(network: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
    """Return the output of `network` with these tensors in place of its own."""
    output: Tensor = functional_call(network, {**parameters, **buffers}, (images,))
    return output


def normalise_in_float32(network: nn.Module) -> None:
    """Make the batch normalisation layers of `network` convert bfloat16 inputs to float32."""
    # Under vmap, cuDNN would get bfloat16 batches with float32 statistics, which it rejects.
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.register_forward_pre_hook(_inputs_in_float32)


def _inputs_in_float32(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(input.float() if input.dtype == torch.bfloat16 else input for input in inputs)
