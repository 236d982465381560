"""The states of members as bytes: read back to the bit, or refused with one line."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load, save

from hpo.values.state import SessionState
from hpo.worker.checkpoints import CheckpointError, decode_state, encode_arrays, encode_state

DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_])
NAMES = st.text("abc.", min_size=1)
ARRAYS = st.dictionaries(NAMES, arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=5,
)


@given(arrays=ARRAYS, meta=st.dictionaries(NAMES, JSON), epochs=st.integers(0, 100))
def test_state_comes_back_to_the_bit(
    arrays: dict[str, np.ndarray], meta: dict[str, object], epochs: int
) -> None:
    decoded = decode_state(encode_state(SessionState(epochs, arrays, meta)), epochs)
    assert decoded.epochs == epochs
    assert decoded.meta == meta
    assert decoded.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        other = decoded.arrays[name]
        assert (other.dtype, other.shape, other.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_arrays_that_are_not_contiguous_are_encoded_in_logical_order() -> None:
    across = np.arange(6.0).reshape(3, 2).T
    assert np.array_equal(load(encode_arrays({"across": across}))["across"], across)


def test_decoded_arrays_can_be_shared_with_torch() -> None:
    """Torch shares the memory of writable arrays only. Others would be copied, or warned of."""
    (array,) = decode_state(encode_state(STATE), 3).arrays.values()
    assert array.flags.writeable


STATE = SessionState(3, {"weights.parameters": np.zeros((1, 11), np.float32)}, {"best": math.inf})

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "empty": lambda _: b"",
    "cut in the header": lambda data: data[:20],
    "cut in the arrays": lambda data: data[:-1],
    "begun in the middle": lambda data: data[50:],
    "too long": lambda data: data + b"more",
    "something else": lambda _: b"Postgres is not\na checkpoint\n" * 100,
    "an endless header": lambda _: b"\xff" * 100,
    "metadata that are no JSON": lambda data: save(load(data), {"best": "three epochs"}),
    "a type that numpy lacks": lambda data: data.replace(b"F32", b"I32").replace(b"I32", b"E32"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_data_are_refused_with_one_line(damage: Damage) -> None:
    with pytest.raises(CheckpointError) as caught:
        decode_state(damage(encode_state(STATE)), 3)
    message = str(caught.value)
    assert message
    assert "\n" not in message
