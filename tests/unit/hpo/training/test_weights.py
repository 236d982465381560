"""Weights of members are selected, replaced and concatenated by row."""

import torch

from hpo.training.weights import Weights


def weights(value: float, members: int = 3) -> Weights:
    return Weights(
        torch.full((members, 4), value) + torch.arange(members)[:, None],
        {"mean": torch.full((members, 2, 2), value), "count": torch.full((members,), value)},
    )


def test_rows_are_replaced_where_the_mask_is_true() -> None:
    original, other = weights(0.0), weights(7.0)
    before = original.copy()
    replaced = original.replace(other, torch.tensor([False, True, False]))
    assert torch.equal(replaced.parameters[1], other.parameters[1])
    assert all((buffer[1] == 7).all() for buffer in replaced.buffers.values())
    for index in (0, 2):
        assert torch.equal(replaced.parameters[index], before.parameters[index])
        assert all((buffer[index] == 0).all() for buffer in replaced.buffers.values())
    assert torch.equal(original.parameters, before.parameters)


def test_selected_members_are_concatenated_in_order() -> None:
    first, second = weights(0.0), weights(7.0)
    both = Weights.concatenate([first.select(torch.tensor([1])), second.select(torch.tensor([2, 0]))])
    expected = torch.stack([first.parameters[1], second.parameters[2], second.parameters[0]])
    assert torch.equal(both.parameters, expected)
    assert both.buffers["count"].tolist() == [0, 7, 7]


def test_copies_and_selections_share_no_memory() -> None:
    original = weights(0.0)
    for copied in (original.copy(), original.select(torch.tensor([0, 1, 2]))):
        copied.parameters.fill_(9)
        copied.buffers["mean"].fill_(9)
        assert torch.equal(original.parameters, weights(0.0).parameters)
        assert not original.buffers["mean"].any()


def test_weights_on_their_device_are_shared() -> None:
    original = weights(0.0)
    assert original.to(torch.device("cpu")).parameters is original.parameters
