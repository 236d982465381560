"""Check that a network can be trained: a rehearsal of a few steps on real images."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from hpo.errors import InputError
from hpo.training.criterion import Criterion, describe, shape_of
from hpo.training.engines.base import Engine
from hpo.training.memory import is_broken, is_out_of_memory
from hpo.training.networks import Factory, in_mode, initialised, plain_tensors
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.task import Task
from hpo.user_code import describe as describe_error
from hpo.user_code import user_code
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
            images, labels = (part.cpu() for part in self.task.train.batch(_indices(self.task.train.labels)))
            outputs = check_outputs(self.name, self.task.factory, (images, labels), self.task.criterion)
            check_loss(self.task.criterion, outputs, labels)
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
                reason = describe_error(error, _module(self.name))
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


def check_outputs(name: str, factory: Factory, batch: tuple[Tensor, Tensor], criterion: Criterion) -> Tensor:
    """Return the outputs of the network `name` in evaluation mode, once they fit the criterion.

    `batch`: inputs and targets on the CPU. Raises InputError for outputs of another shape and for tensors
    that training would lose, and ModelError if the network cannot be built.
    """
    networks = [initialised(factory, seed) for seed in SEEDS]
    network, (images, targets) = networks[0], batch
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"model {name!r} has no parameters to train")
    before = _tensors_by_place(network)
    shape = tuple(images.shape[1:])
    inputs = counted(len(images), "image" if len(shape) == 3 else "input")
    with (
        user_code(f"model {name!r} on {inputs} of shape {shape}", InputError, _module(name)),
        torch.no_grad(),
    ):
        evaluated = in_mode(network, training=False)(images)
        trained = in_mode(network, training=True)(images)
    criterion.check_outputs(f"model {name!r} gives {{}} for {inputs}", (evaluated, trained), targets)
    _check_plain_tensors(name, before, networks)
    outputs: Tensor = evaluated
    return outputs


def check_loss(criterion: Criterion, outputs: Tensor, targets: Tensor) -> None:
    """Raise KeyInputError for a user's loss that fails, or gives anything but a loss for each example.

    `outputs` and `targets`: those of a few examples, on the CPU.
    """
    own, count = criterion.own_loss, len(targets)
    if own is None:
        return
    with torch.enable_grad():
        followed = criterion.as_given(outputs.detach().requires_grad_(), targets)
        losses = own.tried(followed, targets)
    if shape_of(losses) != (count,):
        rule = f"it must give ({count},), the loss of each example, and not their mean"
        raise own.mistake(f"gives {describe(losses)} for {counted(count, 'example')}; {rule}")
    if not losses.is_floating_point():
        raise own.mistake(f"gives {str(losses.dtype).removeprefix('torch.')}; it must give floats")
    if not losses.requires_grad:
        raise own.mistake("has no gradient; it must be computed from the outputs, and without detach")


def check_metrics(factory: Factory, criterion: Criterion, batch: tuple[Tensor, Tensor]) -> None:
    """Raise KeyInputError for a user's metric that fails, or gives anything but one number.

    `batch`: examples of the validation part, on the device of the training. Some metrics are undefined for a
    few examples, such as the area under a ROC curve, so the batch has to be large.
    """
    inputs, targets = batch
    if not criterion.own_metrics:
        return
    with undisturbed(inputs.device), torch.no_grad():
        network = in_mode(initialised(factory, SEEDS[0]).to(inputs.device), training=False)
        outputs = criterion.as_given(network(inputs), targets)
        for metric in criterion.own_metrics.values():
            value = metric.tried(outputs, targets)
            try:
                torch.as_tensor(value, dtype=torch.float64).reshape(())
            except (TypeError, ValueError, RuntimeError) as error:
                examples = counted(len(targets), "example")
                rule = f"gives {describe(value)} for {examples}; it must give one number"
                raise metric.mistake(rule) from error


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
