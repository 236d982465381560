"""When to prune, and who goes on: rules as pure functions of the curves seen so far. Lower is better.

A curve is a trial's validation loss by epoch. A rule answers for one trial at the epoch it has just
finished, against the curves of its peers, which hold whatever is known at that moment; it keeps no state,
so a trial that moved to another worker, or was seen twice, cannot confuse it.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median as middle
from typing import Literal

from pydantic import Field

from hpo.values.section import Section


class PrunerSection(Section):
    """The rule that ends or pauses search trials early."""

    name: Literal["none", "median", "asha", "hyperband", "pause"] = Field(
        default="pause",
        description="`none`: every trial trains to its last epoch. `median`: prune a trial whose best loss "
        "is above the median of completed trials at the same epoch. `asha`: at each rung only the best "
        "1/`reduction` go on. `hyperband`: `asha` in several brackets. `pause`: checkpoint a trial at its "
        "first rung and whenever its epochs have doubled, and set it aside. It resumes once its predicted "
        "final loss is in the best 1/`reduction` of all trials that reached that rung.",
    )
    startup_trials: int = Field(
        default=5, ge=1, description="`median`: completed trials before it prunes any trial."
    )
    warmup_epochs: int = Field(
        default=0, ge=0, description="`median`: first epochs of a trial in which it is never pruned."
    )
    min_epochs: int = Field(
        default=1, ge=1, description="`asha`, `hyperband`, `pause`: epoch of the first rung."
    )
    reduction: int = Field(
        default=3, ge=2, description="`asha`, `hyperband`, `pause`: one in `reduction` trials passes a rung."
    )


Curve = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another trial of the study: its number, its curve, and whether it ran to its last epoch.

    Rules look at the curve of a peer at the epoch alone at which they judge; others may be missing from it.
    """

    number: int
    curve: Curve
    complete: bool


Rule = Callable[[int, Curve, Iterable[Peer]], bool]
"""(number of the trial, its curve, its peers without it) -> prune it now?"""


def never(_number: int, _curve: Curve, _peers: Iterable[Peer]) -> bool:
    return False


def median(startup_trials: int, warmup_epochs: int) -> Rule:
    """Prune a trial whose best loss so far is above the median of completed trials at the same epoch.

    The rule of Vizier (Golovin et al. 2017, section 3.2.2, in the simplified form, as Optuna's
    `MedianPruner` has it). No trial is pruned before `startup_trials` are complete, nor in its first
    `warmup_epochs` epochs.
    """

    def rule(_number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        epoch = max(curve)
        done = [peer for peer in peers if peer.complete]
        if epoch <= warmup_epochs or len(done) < startup_trials:
            return False
        losses = [peer.curve[epoch] for peer in done if epoch in peer.curve]
        return bool(losses) and min(curve.values()) > middle(losses)

    return rule


def rung_epochs(min_epochs: int, reduction: int, epochs: int, stop_rate: int = 0) -> list[int]:
    """The epochs at which successive halving decides: min_epochs * reduction^(stop_rate + k) < epochs.

    Li et al. 2018 (arXiv 1810.05934), algorithm 2, with r = min_epochs, eta = reduction, s = stop_rate.
    """
    rungs, epoch = [], min_epochs * reduction**stop_rate
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs


def asha(min_epochs: int, reduction: int, epochs: int, stop_rate: int = 0) -> Rule:
    """Asynchronous successive halving, stopping type: at a rung, only the best 1/reduction go on.

    A trial is compared with all that reached the rung before it or with it; the best of them always goes
    on. Li et al. 2018 (arXiv 1810.05934), section 3.
    """
    rungs = set(rung_epochs(min_epochs, reduction, epochs, stop_rate))

    def rule(_number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        epoch = max(curve)
        if epoch not in rungs:
            return False
        losses = sorted([peer.curve[epoch] for peer in peers if epoch in peer.curve] + [curve[epoch]])
        return curve[epoch] > losses[max(1, len(losses) // reduction) - 1]

    return rule


def standing_out(
    reached: Sequence[int], ends: Sequence[float], rungs: Iterable[int], reduction: int
) -> Iterator[list[int]]:
    """The places of the trials that deserve to go beyond their rung, best first; the highest rung first.

    `reached`: epochs of each trial; `ends`: the losses that are expected of them. Of all n trials that came
    to a rung the best max(1, n // reduction) deserve it: the promotion of asynchronous successive halving
    (Li et al. 2018, arXiv 1810.05934, algorithm 2), by expected ends in place of losses so far.
    """
    above = math.inf
    for rung in sorted(rungs, reverse=True):
        there = sorted((k for k, epochs in enumerate(reached) if epochs >= rung), key=ends.__getitem__)
        yield [k for k in there[: max(1, len(there) // reduction)] if reached[k] < above]
        above = rung


def hyperband(min_epochs: int, reduction: int, epochs: int) -> Rule:
    """Successive halving in several brackets, from early to late first rungs.

    A trial's bracket follows from its number alone, in the shares that give each bracket about the same
    epochs (Li et al. 2017, arXiv 1603.06560, algorithm 1), and it is compared inside its bracket only.
    """
    brackets = max(1, math.floor(math.log(epochs / min_epochs, reduction) + 1e-9) + 1)
    shares = [math.ceil(brackets * reduction**s / (s + 1)) for s in reversed(range(brackets))]
    rules = [asha(min_epochs, reduction, epochs, s) for s in range(brackets)]

    def bracket(number: int) -> int:
        place = zlib.crc32(str(number).encode()) % sum(shares)
        for index, share in enumerate(shares):
            place -= share
            if place < 0:
                return index
        raise AssertionError("a remainder is below the sum of the shares")

    def rule(number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        mine = bracket(number)
        return rules[mine](number, curve, [peer for peer in peers if bracket(peer.number) == mine])

    return rule
