"""Member states as bytes: read back to the bit, or refused with one line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from support.member_states import SIZE, assert_same_weights, member_state, same, weights
from torch import Tensor

from hpo.training.member import MemberState, Progress
from hpo.training.weights import Weights
from hpo.worker.checkpoints import CheckpointError, decode_state, encode_state

LOSSES = st.floats(allow_nan=False)
COUNTS = st.integers(0, 10_000)


@given(
    progress=st.builds(Progress, COUNTS, COUNTS, COUNTS, LOSSES, COUNTS, LOSSES, COUNTS),
    best=st.booleans(),
    optimizer=st.booleans(),
)
def test_state_comes_back_to_the_bit(progress: Progress, best: bool, optimizer: bool) -> None:
    state = member_state(progress, best, optimizer)
    decoded = decode_state(encode_state(state), weights(2))
    assert decoded.progress == state.progress
    assert_same_weights(decoded.weights, state.weights)
    assert_same_weights(decoded.best, state.best)
    assert (decoded.optimizer is None) == (not optimizer)
    if decoded.optimizer is not None and state.optimizer is not None:
        assert decoded.optimizer.keys() == state.optimizer.keys()
        assert all(same(decoded.optimizer[key], state.optimizer[key]) for key in decoded.optimizer)


def test_infinite_best_loss_of_a_new_member_comes_back() -> None:
    assert decode_state(encode_state(member_state(Progress())), weights()).progress == Progress()


def test_tensors_that_are_not_contiguous_are_encoded_in_logical_order() -> None:
    across = torch.randn(SIZE, 2).T[:1]
    data = encode_state(MemberState(Progress(1), Weights(across, {}), None, None))
    assert same(decode_state(data, Weights(across, {})).weights.parameters, across.contiguous())


Damage = Callable[[bytes], bytes]


def rewrite(change: Callable[[dict[str, Tensor]], object], metadata: Mapping[str, str]) -> Damage:
    def damage(data: bytes) -> bytes:
        tensors = load(data)
        change(tensors)
        return save(tensors, dict(metadata))

    return damage


VALID = {"progress": json.dumps(asdict(Progress(3)))}


def with_progress(text: str) -> Damage:
    return rewrite(lambda _: None, {"progress": text})


def with_tensor(name: str, tensor: Tensor) -> Damage:
    return rewrite(lambda tensors: tensors.update({name: tensor}), VALID)


def without(name: str) -> Damage:
    return rewrite(lambda tensors: tensors.pop(name), VALID)


DAMAGES: dict[str, Damage] = {
    "empty": lambda _: b"",
    "cut in the header": lambda data: data[:20],
    "cut in the tensors": lambda data: data[:-1],
    "begun in the middle": lambda data: data[100:],
    "too long": lambda data: data + b"more",
    "something else": lambda _: b"Postgres is not\na checkpoint\n" * 100,
    "an endless header": lambda _: b"\xff" * 100,
    "without progress": rewrite(lambda _: None, {}),
    "without metadata": lambda data: save(load(data)),
    "progress that is no JSON": with_progress("three epochs"),
    "progress that is a list": with_progress("[3]"),
    "progress that is a number": with_progress("3"),
    "progress that lacks a field": with_progress('{"epochs": 3}'),
    "without weights": rewrite(lambda tensors: tensors.clear(), VALID),
    "without parameters": without("weights.parameters"),
    "parameters of another network": with_tensor("weights.parameters", torch.zeros(1, SIZE + 1)),
    "best parameters of another network": with_tensor("best.parameters", torch.zeros(1, SIZE + 1)),
    "a buffer of another network": with_tensor("weights.buffers.norm.mean", torch.zeros(1, 6)),
    "a buffer too many": with_tensor("weights.buffers.other", torch.zeros(1, 6)),
    "a buffer too few": without("best.buffers.norm.seen"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_data_are_refused_with_one_line(damage: Damage) -> None:
    data = damage(encode_state(member_state()))
    with pytest.raises(CheckpointError) as caught:
        decode_state(data, weights())
    message = str(caught.value)
    assert message
    assert "\n" not in message
