"""The rungs of successive halving."""


def rung_epochs(min_epochs: int, reduction: int, epochs: int, stop_rate: int = 0) -> list[int]:
    """Return the epochs of the rungs: all min_epochs * reduction^(stop_rate + k) below `epochs`.

    Li et al. 2018 (arXiv 1810.05934), algorithm 2, with r = min_epochs, eta = reduction, s = stop_rate.
    """
    rungs, epoch = [], min_epochs * reduction**stop_rate
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs
