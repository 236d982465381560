"""Encode member states and state dicts as safetensors.

A checkpoint holds a member state with tensors `(1, ...)`, and the progress as JSON in the metadata.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hpo.training.member import MemberState, Progress
from hpo.training.weights import Tensors, Weights

PROGRESS = "progress"
"""The key of the progress in a checkpoint's metadata."""


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or of another network."""


def encode_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    return save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata)


def encode_state(state: MemberState) -> bytes:
    return encode_tensors(dict(_flatten(state)), {PROGRESS: json.dumps(asdict(state.progress))})


def decode_state(data: bytes, like: Weights) -> MemberState:
    """Return the state that `encode_state` encoded.

    `like`: weights of the network, which give the expected shapes and the order of the buffers. Raises
    `CheckpointError` if the data are damaged or belong to another network.
    """
    try:
        tensors = load(data)
        return _unflatten(_progress(_metadata(data)[PROGRESS]), tensors, like)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(one_line(error)) from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _flatten(state: MemberState) -> Iterator[tuple[str, Tensor]]:
    for part, weights in (("weights", state.weights), ("best", state.best)):
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
    return MemberState(progress, weights, _weights(tensors, "best", like), optimizer)


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
    # safetensors reorders tensors; the pack relies on the order of the network.
    return Weights(stored["parameters"], {name: buffers[name] for name in like.buffers})


def _shapes(buffers: Tensors) -> dict[str, tuple[int, ...]]:
    """Return the shapes without the member dimension."""
    return {name: tuple(buffer.shape[1:]) for name, buffer in buffers.items()}


def _with_prefix(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of valid safetensors data, whose reader drops them.

    The format is the length of the header as 8 bytes, little-endian, then the header as JSON.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8:end]).get("__metadata__", {})
    return metadata


def _progress(text: str) -> Progress:
    values = json.loads(text)
    return Progress(**{field.name: values[field.name] for field in fields(Progress)})
