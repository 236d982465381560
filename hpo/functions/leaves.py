"""Leaves of a state that are stored as arrays: numpy arrays and scalars, torch tensors, bytes.

A leaf is an array of a type that safetensors stores, and a *description* of plain values from which the leaf
can be made again.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

NATIVE = frozenset(
    [
        "bool",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
    ]
)
"""The names of the types that safetensors stores from numpy."""

Leaf = tuple[np.ndarray, dict[str, Any]]


def to_leaf(value: object) -> Leaf | None:
    """Return the array of a leaf and its description; None if the value is no such leaf.

    The array may share the memory of the value. torch is not imported: without it, there are no tensors.
    """
    if type(value) is bytes:
        return np.frombuffer(value, np.uint8), {"kind": "bytes"}
    if isinstance(value, np.generic):
        return _describe(np.asarray(value), "scalar")
    if type(value) in (np.ndarray, np.memmap):
        return _describe(np.asarray(value), "array")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(value)
    return None


def from_leaf(array: np.ndarray, description: Mapping[str, Any]) -> object:
    """Return the leaf that `to_leaf` described. It may share the memory of the array.

    Raises `KeyError`, `TypeError` or `ValueError` for a description that fits no leaf.
    """
    kind = description["kind"]
    if kind == "bytes":
        return array.tobytes()
    if kind == "tensor":
        return _to_tensor(array, description)
    if "type" in description:
        array = np.ndarray(
            tuple(description["shape"]), _to_dtype(description["type"]), array.tobytes()
        ).copy()
    if kind == "scalar":
        return array[()]
    if kind != "array":
        raise ValueError(f"{kind!r} is no kind of leaf")
    return array


def _describe(array: np.ndarray, kind: str) -> Leaf | None:
    if array.dtype.hasobject:
        return None
    if array.dtype.name in NATIVE and array.dtype.isnative:
        return array, {"kind": kind}
    raw = np.frombuffer(array.tobytes(), np.uint8)
    descr = np.lib.format.dtype_to_descr(array.dtype)
    return raw, {"kind": kind, "type": descr, "shape": list(array.shape)}


def _to_dtype(descr: Any) -> np.dtype[Any]:
    """Return the type with this description, in which JSON has turned tuples into lists."""
    dtype = np.lib.format.descr_to_dtype(_tuples(descr))
    if dtype.hasobject:
        raise ValueError("a type with Python objects is no type of a leaf")
    return dtype


def _tuples(descr: Any) -> Any:
    if isinstance(descr, str):
        return descr
    # A field may have a title beside its name.
    return [(_plain(name), _tuples(inner), *map(_plain, shape)) for name, inner, *shape in descr]


def _plain(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def _of_tensor(tensor: "Tensor") -> Leaf | None:
    import torch

    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta:
        return None
    tensor = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if name in NATIVE:
        return tensor.numpy(), {"kind": "tensor"}
    raw = tensor.reshape(-1).view(torch.uint8).numpy()
    return raw, {"kind": "tensor", "type": name, "shape": list(tensor.shape)}


def _to_tensor(array: np.ndarray, description: Mapping[str, Any]) -> "Tensor":
    import torch

    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    if "type" not in description:
        return tensor
    dtype = getattr(torch, description["type"], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{description['type']!r} is no type of a tensor")
    if not tensor.numel():
        return torch.empty(description["shape"], dtype=dtype)
    return tensor.view(dtype).reshape(description["shape"])
