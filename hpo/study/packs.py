"""Select the trials of a pack from the claimable trials."""

from collections.abc import Mapping, Sequence
from math import ceil

from optuna.trial import TrialState

from hpo.store.trials import TrialRow
from hpo.values.refit import refit_key
from hpo.values.space import SearchSpace
from hpo.values.vocabulary import PackKey

SUSPECT_LOSSES = 2
"""Consecutive worker losses after which a trial runs alone: the trial itself may kill its workers."""

SMALL_PACK = 4
"""Width below which packs are not split further for the sake of busy workers."""


def select_pack(
    space: SearchSpace, rows: Sequence[TrialRow], width: int, losses: Mapping[int, int]
) -> list[TrialRow]:
    """Return the first trial and the next trials with its pack key, up to `width`.

    `space` says what a pack shares. `losses` counts consecutive worker losses by trial id. A suspect trial
    comes alone.
    """
    if not rows:
        return []
    if is_suspect(rows[0], losses):
        return [rows[0]]
    return with_key(space, rows, key_of(space, rows[0]), losses)[:width]


def key_of(space: SearchSpace, row: TrialRow) -> PackKey:
    """Return what a trial shares with its pack. Refits have other images than the trainings they repeat."""
    key = space.pack_key(row.point)
    return key if row.record.refit_of is None else refit_key(key)


def with_key(
    space: SearchSpace, rows: Sequence[TrialRow], key: PackKey, losses: Mapping[int, int]
) -> list[TrialRow]:
    """Return the trials with that pack key, without suspect trials."""
    return [row for row in rows if key_of(space, row) == key and not is_suspect(row, losses)]


def is_suspect(row: TrialRow, losses: Mapping[int, int]) -> bool:
    """Return whether the trial runs alone: it has lost too many workers, or was in a pack that failed."""
    return row.record.alone or losses.get(row.trial_id, 0) >= SUSPECT_LOSSES


def begun(rows: Sequence[TrialRow], losses: Mapping[int, int]) -> list[TrialRow]:
    """Return the trials that a worker has begun; `losses` has an entry for every trial ever leased."""
    return [row for row in rows if row.state == TrialState.RUNNING or row.trial_id in losses]


def fair_share(waiting: int, live: int, idle: int, starting: int) -> int:
    """Return how many of the `waiting` trials one worker may take, so that no worker idles.

    Each of the `live` and `starting` workers gets an equal share. A small share is filled up to `SMALL_PACK`
    with trials that only busy workers would take: a small pack pays the fixed cost of a step for few trials.
    """
    return max(ceil(waiting / (live + starting)), min(SMALL_PACK, ceil(waiting / max(1, idle + starting))))
