"""Encode the states of training functions as arrays, and back. Nothing is pickled.

A state is nested dicts, lists and tuples of numpy arrays and scalars, torch tensors, numbers, text, booleans,
None and bytes. Each array has the path of the leaf as its name, such as `model.conv.weight`: of a state dict,
the names are those of the state dict. `STRUCTURE` holds everything else as JSON. The files of a trial are
arrays of bytes, named `FILES` and the path of the file.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from hpo.errors import one_line
from hpo.functions.leaves import from_leaf, to_leaf
from hpo.values.state import Arrays, StateError

STRUCTURE, FILES = "hpo.structure", "hpo.files/"
RESERVED = ("hpo.", "__metadata__")
"""How no name of a leaf begins. The second is a name that safetensors reserves."""

DEPTH = 100
"""The deepest nesting. A state that contains itself is deeper."""

MAX_JSON = 2**53
"""Every reader of JSON reads whole numbers below this one exactly."""

KEYS = (str, int, float, bool, type(None))
"""The types of the keys of a dict."""


class StateTypeError(TypeError):
    """A state with a part that cannot be saved. The message names the part, its type and the way out."""


def encode(state: object, files: Mapping[str, bytes] | None = None) -> dict[str, np.ndarray]:
    """Return a state, and files by path, as arrays. Arrays may share the memory of the state.

    Raises `StateTypeError` for a part that cannot be saved.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = _Encoder(arrays).node(state, ())
    arrays[STRUCTURE] = np.frombuffer(json.dumps(structure, allow_nan=False).encode(), np.uint8)
    return arrays | {FILES + path: np.frombuffer(data, np.uint8) for path, data in (files or {}).items()}


def has_state(arrays: Arrays) -> bool:
    """Return whether the arrays hold a state. Without one, they hold files at most."""
    return STRUCTURE in arrays


def decode(arrays: Arrays) -> object:
    """Return the state in the arrays, None if there is none. It may share the memory of the arrays.

    Tensors are on the CPU. Raises `StateError` if the arrays are damaged.
    """
    if not has_state(arrays):
        return None
    try:
        return _decode(json.loads(arrays[STRUCTURE].tobytes()), arrays)
    except (KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
        raise StateError(f"the state is damaged: {one_line(error)}") from error


def check_arrays(arrays: Arrays) -> None:
    """Raise `StateError` unless the arrays hold a state and files. torch is not imported."""
    decode_files(arrays)
    try:
        names = list(_names(json.loads(arrays[STRUCTURE].tobytes())))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StateError(f"the state is damaged: {one_line(error)}") from error
    if missing := [name for name in names if name not in arrays]:
        raise StateError(f"the state is damaged: the array {missing[0]!r} is missing")


def decode_files(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the content of each file, as bytes by path below the trial's directory.

    Raises `StateError` for a path that leads elsewhere.
    """
    files = {name.removeprefix(FILES): name for name in arrays if name.startswith(FILES)}
    for path in files:
        check_path(path)
    return {path: arrays[name] for path, name in files.items()}


def check_path(path: str) -> None:
    """Raise `StateError` unless `path` is that of a file below the trial's directory."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or str(PurePosixPath(path)) != path:
        raise StateError(f"{path!r} is no path of a file in a trial's directory")


class _Encoder:
    """Turns a state into JSON, and its leaves into named arrays."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def node(self, value: Any, path: tuple[object, ...]) -> Any:
        if len(path) > DEPTH:
            raise StateTypeError(f"{_show(path[:3])}...: a state may be nested {DEPTH} deep at most")
        if value is None or type(value) in (bool, str, int, float, complex):
            return _scalar(value)
        if type(value) is list:
            return [self.node(part, (*path, index)) for index, part in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.node(part, (*path, index)) for index, part in enumerate(value)]}
        if type(value) in (dict, OrderedDict):
            kind = "dict" if type(value) is dict else "ordered"
            return {
                kind: [[self._key(key, path), self.node(part, (*path, key))] for key, part in value.items()]
            }
        leaf = to_leaf(value)
        if leaf is None:
            raise StateTypeError(_refusal(value, path))
        array, description = leaf
        return {"leaf": {"name": self._add(array, path), **description}}

    def _key(self, key: object, path: tuple[object, ...]) -> Any:
        if type(key) not in KEYS:
            raise StateTypeError(
                f"{_show(path)}: a key of type {_type(key)} cannot be saved; use text or whole numbers"
            )
        return _scalar(key)

    def _add(self, array: np.ndarray, path: tuple[object, ...]) -> str:
        base = ".".join(map(str, path)) or "state"
        name = base = base.encode("utf-8", "replace").decode()  # safetensors takes valid Unicode alone
        count = 1
        while name in self._arrays or name.startswith(RESERVED):
            count += 1
            name = f"{count}:{base}"
        self._arrays[name] = array
        return name


def _scalar(value: Any) -> Any:
    if type(value) is complex:
        return {"complex": [_scalar(value.real), _scalar(value.imag)]}
    if type(value) is float and not math.isfinite(value):
        return {"float": str(value)}
    if type(value) is int and abs(value) >= MAX_JSON:
        return {"int": hex(value)}
    return value


def _decode(node: Any, arrays: Arrays) -> Any:
    if isinstance(node, list):
        return [_decode(part, arrays) for part in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    match kind:
        case "tuple":
            return tuple(_decode(part, arrays) for part in content)
        case "dict":
            return {_decode(key, arrays): _decode(part, arrays) for key, part in content}
        case "ordered":
            return OrderedDict((_decode(key, arrays), _decode(part, arrays)) for key, part in content)
        case "leaf":
            return from_leaf(arrays[content["name"]], content)
        case "float":
            return float(content)
        case "int":
            return int(content, 16)
        case "complex":
            return complex(*(_decode(part, arrays) for part in content))
    raise ValueError(f"{kind!r} is no part of a state")


def _names(node: Any) -> Iterator[str]:
    """Yield the names of the arrays of all leaves."""
    if isinstance(node, list):
        for part in node:
            yield from _names(part)
    elif isinstance(node, dict):
        for kind, content in node.items():
            if kind == "leaf":
                yield content["name"]
            else:
                yield from _names(content)


def _refusal(value: object, path: tuple[object, ...]) -> str:
    way_out = "save its arrays and numbers, or write it into a file in trial.directory"
    if isinstance(value, np.ndarray):
        way_out = "save np.asarray(...) of it" if not value.dtype.hasobject else "save a list of it"
    elif isinstance(value, dict | list | tuple | str | int | float):
        plain = next(kind for kind in (dict, list, tuple, str, int, float) if isinstance(value, kind))
        way_out = f"save {plain.__name__}(...) of it"
    return f"{_show(path)}: {_type(value)} cannot be saved without pickle; {way_out}"


def _show(path: tuple[object, ...]) -> str:
    return "state" + "".join(f"[{part!r}]" for part in path)


def _type(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
