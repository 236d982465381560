"""The rungs of successive halving."""

from pydantic import Field

from hpo.search.pruners.base import PrunerSection


def rung_epochs(min_epochs: int, reduction: int, epochs: int, stop_rate: int = 0) -> list[int]:
    """Return the epochs of the rungs: all min_epochs * reduction^(stop_rate + k) below `epochs`.

    Li et al. 2018 (arXiv 1810.05934), algorithm 2, with r = min_epochs, eta = reduction, s = stop_rate.
    """
    rungs, epoch = [], min_epochs * reduction**stop_rate
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs


class RungSection(PrunerSection):
    """The keys of a pruner with rungs."""

    first_epoch_key = "min_epochs"

    min_epochs: int = Field(default=1, ge=1, description="Epoch of the first rung.")
    reduction: int = Field(default=3, ge=2, description="One in `reduction` trials passes a rung.")
