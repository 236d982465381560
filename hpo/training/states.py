"""Member states as the opaque states of a session, and back. No tensor is copied on a CPU.

The names of the arrays and of the progress are those in checkpoint files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields

import numpy as np
import torch
from torch import Tensor

from hpo.errors import one_line
from hpo.training.member import MemberState, Progress
from hpo.training.weights import Tensors, Weights
from hpo.values.state import SessionState, StateError

PROGRESS = "progress"
BFLOAT16 = "bfloat16"
"""The key of the names of bfloat16 tensors, whose bits are stored as int16: numpy has no such type."""


def to_session_state(state: MemberState) -> SessionState:
    """Return a state on the CPU as arrays that share its memory."""
    tensors = {name: tensor.contiguous() for name, tensor in _flatten(state)}
    meta: dict[str, object] = {PROGRESS: asdict(state.progress)}
    if halves := [name for name, tensor in tensors.items() if tensor.dtype == torch.bfloat16]:
        meta[BFLOAT16] = halves
        tensors |= {name: tensors[name].view(torch.int16) for name in halves}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return SessionState(state.progress.epochs, arrays, meta)


def to_member_state(state: SessionState, like: Weights) -> MemberState:
    """Return the state whose arrays these are, on the CPU; the tensors share the memory of the arrays.

    `like`: weights of the network, which give the expected shapes and the order of the buffers. Raises
    `StateError` if the state is of another network, or of another kind of session.
    """
    try:
        tensors = {name: torch.from_numpy(array) for name, array in state.arrays.items()}
        for name in state.meta.get(BFLOAT16, ()):
            tensors[name] = tensors[name].view(torch.bfloat16)
        return _unflatten(_progress(state.meta[PROGRESS]), tensors, like)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise StateError(reason) from error


def to_arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return a state dict as arrays on the CPU. Tensors in bfloat16 become float32, without a loss."""
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
        for name, tensor in tensors.items()
    }


def _flatten(state: MemberState) -> Iterator[tuple[str, Tensor]]:
    parts = {"weights": state.weights, "best": state.best, "average": state.average}
    for part, weights in parts.items():
        if weights is not None:
            yield f"{part}.parameters", weights.parameters
            yield from ((f"{part}.buffers.{name}", tensor) for name, tensor in weights.buffers.items())
    for name, tensor in (state.optimizer or {}).items():
        yield f"optimizer.{name}", tensor


def _unflatten(progress: Progress, tensors: Tensors, like: Weights) -> MemberState:
    weights = _weights(tensors, "weights", like)
    if weights is None:
        raise ValueError("no weights in it")
    optimizer = _with_prefix(tensors, "optimizer.") or None
    best, average = (_weights(tensors, part, like) for part in ("best", "average"))
    return MemberState(progress, weights, best, optimizer, average)


def _weights(tensors: Tensors, part: str, like: Weights) -> Weights | None:
    """Return the weights stored under `part`, None if there are none."""
    stored = _with_prefix(tensors, f"{part}.")
    if not stored:
        return None
    if stored["parameters"].shape[1:] != like.parameters.shape[1:]:
        raise ValueError(f"{part}: not of this network")
    buffers = _with_prefix(stored, "buffers.")
    if _shapes(buffers) != _shapes(like.buffers):
        raise ValueError(f"{part}: its buffers are not of this network")
    # Files reorder arrays; the pack relies on the order of the network.
    return Weights(stored["parameters"], {name: buffers[name] for name in like.buffers})


def _shapes(buffers: Tensors) -> dict[str, tuple[int, ...]]:
    """Return the shapes without the member dimension."""
    return {name: tuple(buffer.shape[1:]) for name, buffer in buffers.items()}


def _with_prefix(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _progress(values: Mapping[str, object]) -> Progress:
    return Progress(**{field.name: values[field.name] for field in fields(Progress)})  # type: ignore[arg-type]
