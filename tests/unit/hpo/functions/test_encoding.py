"""States of training functions as arrays."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from hpo.functions.encoding import (
    STRUCTURE,
    StateTypeError,
    check_arrays,
    decode,
    decode_files,
    encode,
)
from hpo.values.state import StateError

RECORDS = np.array([(1, (0.5, 1.5))], dtype=[("count", "<i4"), ("values", "<f8", (2,))])


class Pair(NamedTuple):
    """A tuple with a type of its own."""

    first: int


def stored(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays as a file gives them back."""
    return load(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def same(first: Any, second: Any) -> bool:
    """Return whether two states are equal, with the types of all parts."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        pairs = zip(first.items(), second.items(), strict=True)
        return all(same(one, other) for pair in pairs for one, other in zip(*pair, strict=True))
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, np.ndarray | np.generic):
        return bool(first.dtype == second.dtype and first.shape == second.shape and np.all(first == second))
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)
    return bool(first == second) or (first != first and second != second)


@pytest.mark.parametrize(
    "state",
    [
        None,
        True,
        -3,
        2**200,
        0.1,
        math.inf,
        math.nan,
        1 + 2j,
        "text with \N{BULLET} and \udc80",
        b"",
        b"bytes\0",
        [],
        (1, [2.5, (None,)], {}),
        {"a": 1, 0: "number", None: 2, 1.5: 3, True: 4},
        OrderedDict([("b", 1), ("a", 2)]),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(10)[::-2],
        np.array(7),
        np.zeros((0, 3), np.float16),
        np.array(["one", "three"]),
        np.array([""]),
        np.array([b"x"]),
        np.array(["2020-01-01"], "M8[D]"),
        np.arange(3, dtype=">i4"),
        np.zeros(1, dtype=[(("title", "name"), "<i4")]),
        np.ones(2, complex),
        np.ones(2, np.longdouble),
        RECORDS,
        np.float32(0.1),
        np.float64(0.1),
        np.int8(-1),
        np.bool_(True),
        np.str_("text"),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(0.5),
        torch.ones(2, 3, dtype=torch.bfloat16),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.empty(0, 2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex128),
        torch.ones(3).to(torch.float8_e4m3fn).view(torch.uint8),
        torch.tensor([True, False]),
        np.random.default_rng(3).bit_generator.state,
        torch.get_rng_state(),
    ],
)
def test_state_comes_back_with_its_types(state: object) -> None:
    for nested in (state, {"outer": [state]}):
        arrays = stored(encode(nested))
        check_arrays(arrays)
        assert same(decode(arrays), nested)


def test_optimizer_comes_back() -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
    decoded: Any = decode(stored(encode(state)))
    assert same(decoded, state)
    torch.nn.Linear(3, 2).load_state_dict(decoded["model"])
    torch.optim.AdamW(network.parameters()).load_state_dict(decoded["optimizer"])


def test_arrays_are_named_by_their_path() -> None:
    state = {"conv.weight": np.ones(2), "layers": [torch.ones(1)]}
    assert encode(state).keys() == {"conv.weight", "layers.0", STRUCTURE}
    assert encode(np.ones(2)).keys() == {"state", STRUCTURE}


def test_names_of_arrays_never_collide() -> None:
    ones = np.ones(2)
    state: dict[Any, Any] = {"a.b": ones, "a": {"b": 2 * ones}, STRUCTURE: 3 * ones, "__metadata__": 4 * ones}
    state |= {"hpo.files/x": 5 * ones, "\udc80": 6 * ones, "?": 7 * ones, 0: 8 * ones, "0": 9 * ones}
    arrays = stored(encode(state, {"x": b"file"}))
    assert same(decode(arrays), state)
    assert {path: data.tobytes() for path, data in decode_files(arrays).items()} == {"x": b"file"}


def test_parameter_comes_back_as_a_tensor() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    assert same(decode(encode(parameter)), torch.ones(2))


def test_decoded_arrays_may_be_changed() -> None:
    state: Any = decode(stored(encode([np.ones(2), torch.ones(2), RECORDS])))
    for part in state[:2]:
        part += 1
    state[2]["count"] = 5


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"model": [object()]},
            r"^state\['model'\]\[0\]: object cannot be saved without pickle; save its arrays",
        ),
        (np.array([None]), r"^state: numpy.ndarray .* save a list of it$"),
        ({"a": np.ma.array([1])}, r"numpy.ma.MaskedArray .* save np.asarray\(...\) of it$"),
        (torch.Size([1]), r"torch.Size .* save tuple\(...\) of it$"),
        (Pair(1), r"Pair .* save tuple\(...\) of it$"),
        ({1, 2}, r"^state: set cannot be saved"),
        ({(1,): 2}, r"^state: a key of type tuple cannot be saved; use text or whole numbers$"),
        (torch.ones(2).to_sparse(), r"torch.Tensor cannot be saved"),
        (torch.nested.nested_tensor([torch.ones(2)]), r"torch.Tensor cannot be saved"),
        (torch.ones(2, device="meta"), r"torch.Tensor cannot be saved"),
    ],
)
def test_what_cannot_be_saved_is_named(state: object, message: str) -> None:
    with pytest.raises(StateTypeError, match=message) as raised:
        encode(state)
    assert "\n" not in str(raised.value)


def test_state_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(StateTypeError, match="nested 100 deep at most"):
        encode(state)


def test_arrays_without_a_state_have_files_at_most() -> None:
    assert decode({}) is None
    assert decode({"hpo.files/a": np.zeros(1, np.uint8)}) is None


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", ".", "a//b", "a\0"])
def test_files_that_lead_out_of_the_directory_are_refused(path: str) -> None:
    with pytest.raises(StateError, match="is no path of a file"):
        decode_files({f"hpo.files/{path}": np.zeros(1, np.uint8)})


@pytest.mark.parametrize(
    "structure",
    [b"\xff", b"{", b'{"leaf": {"name": "gone", "kind": "array"}}', b'{"leaf": {}}', b'{"leaf": 3}'],
)
def test_damaged_structure_is_found_without_torch(structure: bytes) -> None:
    arrays = {STRUCTURE: np.frombuffer(structure, np.uint8)}
    with pytest.raises(StateError):
        check_arrays(arrays)
    with pytest.raises(StateError):
        decode(arrays)


@pytest.mark.parametrize(
    "leaf",
    [
        '"kind": "array", "type": "|O", "shape": [1]',
        '"kind": "array", "type": "<f8", "shape": [1000000]',
        '"kind": "other"',
        '"kind": "tensor", "type": "nn", "shape": [1]',
        '"kind": "tensor", "type": "missing", "shape": [1]',
    ],
)
def test_damaged_leaf_is_refused(leaf: str) -> None:
    structure = f'{{"leaf": {{"name": "a", {leaf}}}}}'.encode()
    with pytest.raises(StateError):
        decode({"a": np.zeros(8, np.uint8), STRUCTURE: np.frombuffer(structure, np.uint8)})
