"""Masks follow from a member's seed and the shapes; layers multiply by the masks they are given."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hpo.training.dropout import BLOCK, Dropout, Layout, Masks, Streams, has_dropout_layers

CPU = torch.device("cpu")
seeds = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)


def layout(*masks: tuple[float, tuple[int, ...]]) -> Layout:
    return Layout.of([(p, torch.Size(shape)) for p, shape in masks], CPU)


def streams(seeds: Sequence[int], dtype: torch.dtype = torch.float32, block: int = BLOCK) -> Streams:
    return Streams(seeds, CPU, dtype, block)


def steps(streams: Streams, layouts: Sequence[Layout]) -> list[Tensor]:
    return [streams.next(layout).factors.clone() for layout in layouts]


@pytest.mark.parametrize("p", [0.1, 0.35, 0.5, 0.9])
def test_units_are_kept_with_their_probability_and_scaled_to_a_mean_of_one(p: float) -> None:
    (mask,) = streams([3]).next(layout((p, (400, 500)))).all()
    assert mask.shape == (1, 400, 500)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    assert (mask > 0).float().mean().item() == pytest.approx(1 - p, abs=6 * (p * (1 - p) / 200_000) ** 0.5)


@pytest.mark.parametrize(("p", "factor"), [(1.0, 0.0), (1e-9, 1.0)])
def test_a_tiny_probability_keeps_every_unit_and_one_drops_every_unit(p: float, factor: float) -> None:
    (mask,) = streams([3]).next(layout((p, (1000,)))).all()
    assert (mask == factor).all()


@given(seeds, st.data())
def test_draws_do_not_depend_on_other_members(seeds: list[int], data: st.DataObject) -> None:
    """The layout may change within a block of draws."""
    first, last = layout((0.5, (3, 7)), (0.2, (5,))), layout((0.5, (2, 7)), (0.2, (5,)))
    sequence = data.draw(st.lists(st.sampled_from([first, last]), min_size=1, max_size=12))
    together = steps(streams(seeds, block=80), sequence)
    for index, seed in enumerate(seeds):
        for factors, alone in zip(together, steps(streams([seed], block=80), sequence), strict=True):
            assert torch.equal(factors[index], alone[0])


def test_draws_depend_on_neither_dtype_nor_threads() -> None:
    big = layout((0.5, (300, 300)))
    single = steps(streams([1, 2]), [big] * 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        double = steps(streams([1, 2], torch.float64), [big] * 2)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a.double(), b) for a, b in zip(single, double, strict=True))
    assert not torch.equal(single[0], single[1])
    assert not torch.equal(*single[0])


class Net(nn.Module):
    """A layer that is called twice, one that never drops, and one that drops whole maps."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.maps = nn.Dropout(0.5), nn.Dropout(0), nn.Dropout2d(0.25)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(
            [self.twice(images[:, :1]), self.twice(self.never(images)), self.maps(images)], dim=1
        )


def run(network: nn.Module, dropout: Dropout, images: Tensor) -> tuple[Tensor, Masks]:
    masks = streams([1]).next(dropout.layout(images, lambda: network(images)))
    dropout.set_masks(masks.of(0))
    return network(images), masks


def test_every_call_of_a_layer_has_its_own_mask() -> None:
    network = Net()
    dropout = Dropout(network)
    output, masks = run(network, dropout, torch.ones(4, 3, 8, 8))
    first, second, maps = masks.of(0)
    assert [mask.shape for mask in (first, second, maps)] == [(4, 1, 8, 8), (4, 3, 8, 8), (4, 3, 1, 1)]
    assert torch.equal(output, torch.cat([first, second, maps.expand(4, 3, 8, 8)], dim=1))


def test_a_network_keeps_its_state_dict_and_drops_nothing_in_evaluation() -> None:
    network = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.BatchNorm1d(5))
    keys = network.state_dict().keys()
    dropout = Dropout(network)
    run(network, dropout, torch.ones(4, 5))
    assert network.state_dict().keys() == keys
    network.eval()
    assert torch.equal(network(torch.ones(4, 5)), network(torch.ones(4, 5)))


def test_a_network_without_dropout_is_not_run_for_its_layout() -> None:
    def run() -> None:
        raise AssertionError

    assert streams([1]).next(Dropout(nn.Linear(5, 5)).layout(torch.ones(4, 5), run)).of(0) == []


def test_each_member_drops_units_at_its_own_rate() -> None:
    parts = layout((0.5, (300, 400)), (0.0, (1000,)))
    rates = (0.2, None, 0.0, 0.8)
    together = streams([3, 4, 5, 6]).next(parts, rates)
    for member, rate in enumerate(rates):
        alone = streams([3 + member]).next(parts, (rate,)).factors[0]
        assert torch.equal(together.factors[member], alone)
    first, second = together.all()
    assert (first > 0).float().mean(dim=(1, 2)).tolist() == pytest.approx([0.8, 0.5, 1.0, 0.2], abs=0.01)
    assert (second > 0).float().mean(dim=1).tolist() == pytest.approx([0.8, 1.0, 1.0, 0.2], abs=0.05)
    assert first.mean(dim=(1, 2)).tolist() == pytest.approx([1.0] * 4, rel=0.02)


def test_a_rate_for_all_layers_has_the_masks_of_layers_of_that_rate() -> None:
    zero, own = layout((0.0, (30, 40))), layout((0.3, (30, 40)))
    assert torch.equal(streams([3]).next(zero, (0.3,)).factors, streams([3]).next(own).factors)


def test_layers_of_rate_zero_draw_masks_where_they_are_included() -> None:
    network = Net()
    dropout = Dropout(network)
    assert len(run(network, dropout, torch.ones(4, 3, 8, 8))[1].of(0)) == 3
    dropout.includes_zero = True
    assert len(run(network, dropout, torch.ones(4, 3, 8, 8))[1].of(0)) == 4


def test_dropout_layers_are_found() -> None:
    assert has_dropout_layers(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout2d(0))))
    assert not has_dropout_layers(nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout()))
