"""Check that a network can be trained: a rehearsal of a few steps on real images."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from hpo.errors import InputError
from hpo.training.engines.base import Engine
from hpo.training.memory import is_broken, is_out_of_memory
from hpo.training.networks import Factory, in_mode, initialised, plain_tensors
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.task import Task
from hpo.user_code import describe, user_code
from hpo.values.wording import counted

SEEDS = (0, 1)
"""The seeds of the weights of the pack that rehearses."""

STEPS = 2
"""The second step fails if the first step leaves state behind."""

LONGEST = 200
"""Longest reason why members cannot be fused, in characters: messages of vmap are long."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A few images to try a network on, and the engine that computes the steps.

    `name`: the network. `task`: training and validation images of one batch each. `steps`: a CUDA graph is
    captured only after several steps.
    """

    name: str
    task: Task
    engine: Engine
    steps: int = STEPS

    def check(self) -> None:
        """Raise InputError if a pack of two fails in the steps or the evaluation, member by member."""
        with undisturbed(self.task.device):
            images = self.task.train.batch(_indices(self.task.train.labels))[0]
            check_outputs(self.name, self.task.factory, images.cpu(), self.task.classes)
            with self._user_code():
                losses, replaced = self._run(vectorised=False)
        if not losses.isfinite().all():
            loss = losses[~losses.isfinite()][0]
            raise InputError(f"model {self.name!r} has a loss of {loss:g} before it is trained")
        if replaced:
            raise InputError(
                f"model {self.name!r} replaces its buffer {replaced[0]!r} in a forward pass; "
                f"it must update the buffer in place, as in self.{replaced[0]}.copy_(...)"
            )

    def why_not_fused(self) -> str | None:
        """Return why `vmap` cannot compute a pack of two, None if it can.

        Raises errors of the device: broken, or out of memory.
        """
        with undisturbed(self.task.device):
            try:
                self._run(vectorised=True)
            except Exception as error:
                if _is_of_device(error):
                    raise
                reason = describe(error, _module(self.name))
                return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
        return None

    def _run(self, vectorised: bool) -> tuple[Tensor, list[str]]:
        """Return the losses `(M,)` of the first step, and the names of buffers that the network replaced."""
        task = replace(self.task, vectorised=vectorised)
        pack = task.new_pack(SEEDS)
        optimizer = create_optimizer("sgd", [{} for _ in SEEDS], pack.weights.parameters)
        images, labels = task.train.batch(_indices(task.train.labels))
        losses = [self.engine.step(pack, optimizer, None, images, labels) for _ in range(self.steps)]
        if vectorised:  # members at different epochs have different batches, which vmap maps over
            batches = (torch.stack([part] * len(SEEDS)) for part in (images, labels))
            self.engine.step(pack, optimizer, None, *batches)
        self.engine.score(pack, *task.validation.batch(_indices(task.validation.labels)))
        return losses[0].cpu(), pack.replaced_buffers()

    @contextmanager
    def _user_code(self) -> Iterator[None]:
        """Raise InputError for errors of the network. Errors of a GPU pass unchanged."""
        try:
            with user_code(f"model {self.name!r} in training", InputError, _module(self.name)):
                yield
        except InputError as error:
            cause = error.__cause__
            if self.task.device.type != "cpu" and isinstance(cause, Exception) and _is_of_device(cause):
                raise cause from None
            raise


def check_outputs(name: str, factory: Factory, images: Tensor, classes: int) -> None:
    """Check that the network `name` maps `images` `(B, C, H, W)`, on the CPU, to logits `(B, classes)`.

    In training mode, logits `(B, heads, classes)` are valid, too. Raises InputError for other outputs and for
    tensors that training would lose, and ModelError if the network cannot be built.
    """
    networks = [initialised(factory, seed) for seed in SEEDS]
    network = networks[0]
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"model {name!r} has no parameters to train")
    before = _tensors_by_place(network)
    shape, count = tuple(images.shape[1:]), len(images)
    title = f"model {name!r} on {counted(count, 'image')} of shape {shape}"
    with user_code(title, InputError, _module(name)), torch.no_grad():
        evaluated = in_mode(network, training=False)(images)
        trained = in_mode(network, training=True)(images)
    given, expected = f"for {counted(count, 'image')}", f"it must give ({count}, {classes})"
    if _shape(evaluated) != (count, classes):
        raise InputError(f"model {name!r} gives {_title(evaluated)} {given}; {expected}")
    if _shape(trained) not in ((count, classes), (count, *_shape(trained)[1:2], classes)):
        raise InputError(
            f"model {name!r} gives {_title(trained)} {given} in training mode; {expected}, "
            f"or ({count}, heads, {classes})"
        )
    _check_plain_tensors(name, before, networks)


def _is_of_device(error: Exception) -> bool:
    return is_out_of_memory(error) or is_broken(error)


def _check_plain_tensors(name: str, before: dict[str, Tensor], networks: list[nn.Module]) -> None:
    """Refuse plain tensors that differ between members and that no forward pass recomputes.

    Such tensors are not part of the saved weights.
    """
    after, others = _tensors_by_place(networks[0]), _tensors_by_place(networks[1])
    for place, tensor in before.items():
        other = others.get(place)
        is_shared = other is not None and not tensor.requires_grad and torch.equal(tensor.cpu(), other.cpu())
        if after.get(place) is tensor and not is_shared:
            raise InputError(
                f"model {name!r} keeps the tensor {place!r} outside of its parameters and buffers; "
                "use self.register_buffer for it, or compute it in forward"
            )


def _tensors_by_place(network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{name}".lstrip("."): tensor
        for path, module in network.named_modules()
        for name, tensor in plain_tensors(module)
    }


def _shape(output: object) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _title(output: object) -> str:
    return str(_shape(output)) if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _module(name: str) -> str:
    return name.partition(":")[0] if ":" in name else ""


def _indices(labels: Tensor) -> Tensor:
    return torch.arange(len(labels), device=labels.device)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Restore the global random states of torch, numpy and Python after the block."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
