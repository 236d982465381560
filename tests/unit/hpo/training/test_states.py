"""Member states as arrays: they come back to the bit, in the names of checkpoint files, or are refused."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.member_states import SIZE, assert_same_weights, member_state, same, weights
from support.training import GOOD, SEARCH, SLOW, normalised, small_trainer

from hpo.training.member import MemberState, Progress
from hpo.training.states import to_arrays, to_member_state, to_session_state
from hpo.training.weights import Weights
from hpo.values.state import SessionState, StateError

LOSSES = st.floats(allow_nan=False)
COUNTS = st.integers(0, 10_000)


@given(
    progress=st.builds(Progress, COUNTS, COUNTS, COUNTS, LOSSES, COUNTS, LOSSES, COUNTS),
    best=st.booleans(),
    optimizer=st.booleans(),
    average=st.booleans(),
)
def test_state_comes_back_to_the_bit(progress: Progress, best: bool, optimizer: bool, average: bool) -> None:
    state = member_state(progress, best, optimizer, average)
    stored = to_session_state(state)
    assert stored.epochs == progress.epochs
    resumed = to_member_state(through_json(stored), weights(2))
    assert resumed.progress == state.progress
    assert_same_weights(resumed.weights, state.weights)
    assert_same_weights(resumed.best, state.best)
    assert_same_weights(resumed.average, state.average)
    assert (resumed.optimizer is None) == (not optimizer)
    if resumed.optimizer is not None and state.optimizer is not None:
        assert resumed.optimizer.keys() == state.optimizer.keys()
        assert all(same(resumed.optimizer[key], state.optimizer[key]) for key in resumed.optimizer)


def through_json(state: SessionState) -> SessionState:
    """Return the state as a checkpoint file holds it: in another order, with `meta` as JSON."""
    return SessionState(
        state.epochs, dict(reversed(list(state.arrays.items()))), json.loads(json.dumps(state.meta))
    )


def test_names_are_those_in_the_checkpoints_of_stored_studies() -> None:
    state = to_session_state(member_state(Progress(3)))
    assert {*state.arrays} == {
        "weights.parameters",
        "weights.buffers.norm.mean",
        "weights.buffers.norm.seen",
        "best.parameters",
        "best.buffers.norm.mean",
        "best.buffers.norm.seen",
        "optimizer.mean",
        "optimizer.power",
    }
    assert state.meta == {"progress": asdict(Progress(3))}


def test_bfloat16_comes_back_although_numpy_has_no_such_type() -> None:
    row = torch.randn(1, 3).bfloat16()
    buffers = {"scale": torch.randn(1).bfloat16(), "count": torch.tensor([2], dtype=torch.int16)}
    stored = to_session_state(MemberState(Progress(), Weights(row, buffers), None, None))
    resumed = to_member_state(through_json(stored), Weights(row, buffers))
    assert resumed.weights.parameters.dtype == torch.bfloat16
    assert torch.equal(resumed.weights.parameters, row)
    assert torch.equal(resumed.weights.buffers["scale"], buffers["scale"])
    assert torch.equal(resumed.weights.buffers["count"], buffers["count"])
    assert np.array_equal(to_arrays({"row": row})["row"], row.float().numpy())


def test_large_arrays_are_shared_rather_than_copied() -> None:
    state = member_state()
    stored = to_session_state(state)
    resumed = to_member_state(stored, weights())
    assert resumed.weights.parameters.data_ptr() == state.weights.parameters.data_ptr()


def test_tensors_that_are_not_contiguous_are_stored_in_logical_order() -> None:
    across = torch.randn(SIZE, 2).T[:1]
    stored = to_session_state(MemberState(Progress(1), Weights(across, {}), None, None))
    assert same(to_member_state(stored, Weights(across, {})).weights.parameters, across.contiguous())


Change = Callable[[SessionState], SessionState]


def with_progress(progress: object) -> Change:
    return lambda state: replace(state, meta={"progress": progress})


def with_array(name: str, array: np.ndarray) -> Change:
    return lambda state: replace(state, arrays={**state.arrays, name: array})


def without(name: str) -> Change:
    def change(state: SessionState) -> SessionState:
        arrays: Mapping[str, np.ndarray] = {key: array for key, array in state.arrays.items() if key != name}
        return replace(state, arrays=arrays)

    return change


MISFITS: dict[str, Change] = {
    "without progress": lambda state: replace(state, meta={}),
    "progress that is a list": with_progress([3]),
    "progress that is a number": with_progress(3),
    "progress that lacks a field": with_progress({"epochs": 3}),
    "without weights": lambda state: replace(state, arrays={}),
    "without parameters": without("weights.parameters"),
    "parameters of another network": with_array("weights.parameters", np.zeros((1, SIZE + 1))),
    "best parameters of another network": with_array("best.parameters", np.zeros((1, SIZE + 1))),
    "a buffer of another network": with_array("weights.buffers.norm.mean", np.zeros((1, 6))),
    "a buffer too many": with_array("weights.buffers.other", np.zeros((1, 6))),
    "a buffer too few": without("best.buffers.norm.seen"),
    "an array of text": with_array("weights.parameters", np.array([["text"] * SIZE])),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS.keys())
def test_state_that_does_not_fit_is_refused_with_one_line(change: Change) -> None:
    with pytest.raises(StateError) as caught:
        to_member_state(change(to_session_state(member_state())), weights())
    message = str(caught.value)
    assert message
    assert "\n" not in message


def test_a_session_refuses_the_state_of_another_network_and_keeps_its_members() -> None:
    session, other = (
        small_trainer(SEARCH).start({0: GOOD}),
        small_trainer(SEARCH, normalised).start({1: SLOW}),
    )
    (state,) = other.states().values()
    with pytest.raises(StateError, match="not of this network"):
        session.check(state)
    with pytest.raises(StateError):
        session.join({1: SLOW, 2: SLOW}, {1: state})
    assert session.members == [0]


def test_a_session_takes_the_states_of_its_own_members() -> None:
    session = small_trainer(SEARCH, normalised).start({0: GOOD})
    session.epoch()
    (state,) = session.states().values()
    session.check(state)
    assert (session.epoch()[0].epoch, state.epochs) == (2, 1)
