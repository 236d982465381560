"""Opaque states of members, and the check of a session that takes some of them."""

from __future__ import annotations

import numpy as np

from hpo.values.state import SessionState, StateError

SIZE = 11
"""The size of an array that fits."""


def state(epochs: int = 3, size: int = SIZE) -> SessionState:
    row = np.random.default_rng(epochs).standard_normal(size)
    return SessionState(epochs, {"row": row, "count": np.array(epochs)}, {"best": 0.5})


def check(state: SessionState) -> None:
    """Raise `StateError` for a state of another size."""
    if len(state.arrays["row"]) != SIZE:
        raise StateError("row: not of this network")


def assert_same_state(first: SessionState, second: SessionState) -> None:
    assert (first.epochs, first.meta) == (second.epochs, second.meta)
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        other = second.arrays[name]
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes())
