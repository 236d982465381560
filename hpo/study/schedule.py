"""Claim trials: the only place where a worker gets a trial.

A claim is one transaction under the lock of the study. For any number of workers, the budget is exact, no
cell of a finite space runs twice, and the sampler sees every open trial. A process that dies during a claim
leaves no trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from hpo.settings import LEASE_SECONDS
from hpo.store import leases, results, studies, trials, workers
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.trials import TrialRow
from hpo.study import lifecycle, pause
from hpo.study.adoption import adopt_foreign, fail_repeatedly_lost
from hpo.study.packs import SUSPECT_LOSSES, begun, fair_share, is_suspect, key_of, select_pack, with_key
from hpo.study.stored import refresh
from hpo.study.study import Study
from hpo.study.suggest import suggest
from hpo.values.refit import refit_key
from hpo.values.space import Point, SearchSpace
from hpo.values.stage import Stage
from hpo.values.vocabulary import PackKey

WIDTH = 16
"""Default limit of trials in a pack. On a CPU members take turns, so a wider pack trains hardly more images
per second (docs/benchmarks.md: LeNet by pack width)."""

MAX_SUGGESTIONS = 4
"""Default limit of new points in one claim. Fewer points: each uses more results. More points: the pack
is fuller."""


@dataclass(frozen=True, slots=True)
class LeasedTrial:
    """A trial and the right to run it.

    `seed` initialises the weights. Training continues from `checkpoint` if there is one. A trial that must
    run `alone` gets no pack mates, because the trial itself may kill its workers. `limits` are the epochs of
    each phase of a refit, None for any other trial.
    """

    number: int
    lease: Lease
    point: Point
    seed: int
    checkpoint: Checkpoint | None = None
    alone: bool = False
    limits: tuple[int, ...] | None = None

    def pack_key(self, space: SearchSpace) -> PackKey:
        """Return what the trial shares with its pack, see `key_of`."""
        key = space.pack_key(self.point)
        return key if self.limits is None else refit_key(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A worker's request for up to `width` trials of one pack key.

    A lease expires `lease_seconds` after the claim or its last renewal. `width_limits` maps a pack key to its
    largest width. `fleet` is the number of workers once all have started. If `key` is set, the trials join a
    pack already training, which has this key. `max_suggestions` limits new points from the sampler; None
    means `MAX_SUGGESTIONS`.
    """

    stage: Stage
    worker: str
    width: int
    lease_seconds: float = LEASE_SECONDS
    width_limits: Mapping[PackKey, int] | None = None
    fleet: int = 1
    key: PackKey | None = None
    max_suggestions: int | None = None


def claim(storage: Storage, study: Study, request: ClaimRequest) -> list[LeasedTrial]:
    """Lease trials to a worker; return an empty list if none can be handed out now.

    The order is: trials that lost their worker, paused trials that may resume, waiting trials, new points
    from the sampler. A stage hands out only trials that lost their worker if it is stopped, or if its running
    trials are expected to use up its epoch budget. A pack already training gets only trials that lost their
    worker and waiting trials. A trial of a training function comes alone. Raises `NotFoundError` if the study
    has been deleted.
    """
    request = replace(request, width=min(request.width, study.spec.max_width or request.width))
    stage, key, space = request.stage, request.key, study.spec.space
    study_id = study.study_id(stage)
    if stage == "search":
        study.spec.sampler.load()  # before the lock: imports may take a second
    with storage.transaction() as connection:
        if key is not None and not _may_join(connection, space, study_id, key):
            return []
        studies.lock(connection, study_id)
        study = refresh(connection, study)
        state = lifecycle.apply_rules(connection, study, stage)
        leases.reap(connection, study_id)
        rows = _claimable(connection, study, stage)
        losses = leases.losses(connection, [row.trial_id for row in rows])
        rows = fail_repeatedly_lost(connection, rows, losses)
        if not state.may_begin:
            rows = begun(rows, losses)
        elif stage == "search" and key is None and not begun(rows, losses):
            limit = min(request.width, request.max_suggestions or MAX_SUGGESTIONS)
            rows = _next_search_trials(connection, study, rows, limit)
        live, idle = workers.count(connection, study.name)
        share = fair_share(len(rows), live, idle, max(0, request.fleet - live))
        width = min(request.width, share)
        if key is not None:
            rows = with_key(space, rows, key, losses)
        pack = select_pack(space, rows, width, losses)
        if pack and request.width_limits is not None:
            pack = pack[: request.width_limits.get(key_of(space, pack[0]), width)]
        return _lease(connection, pack, request, losses)


def claim_lost(storage: Storage, study: Study, request: ClaimRequest) -> list[LeasedTrial]:
    """Lease trials whose worker was lost; they join a pack of `request.key` already training.

    Trials that no worker has begun are left to idle workers.
    """
    assert request.key is not None, "lost trials join a pack"
    study_id = study.study_id(request.stage)
    with storage.transaction() as connection:
        # Checked before the lock: workers ask often, and nearly always there is no lost trial.
        if not leases.any_lost(connection, study_id, SUSPECT_LOSSES):
            return []
        studies.lock(connection, study_id)
        leases.reap(connection, study_id)
        rows = trials.claimable(connection, study_id).ours
        losses = leases.losses(connection, [row.trial_id for row in rows])
        # A trial that others started through Optuna has no lease.
        lost = [row for row in rows if row.trial_id in losses]
        pack = with_key(study.spec.space, lost, request.key, losses)[: request.width]
        return _lease(connection, pack, request, losses)


def _claimable(connection: Connection, study: Study, stage: Stage) -> list[TrialRow]:
    """Return the trials that may be leased, after foreign ones were adopted or refused."""
    rows = trials.claimable(connection, study.study_id(stage))
    if rows.foreign:
        adopt_foreign(connection, study, stage, rows.foreign)
        rows = trials.claimable(connection, study.study_id(stage))
    return rows.ours


def _may_join(connection: Connection, space: SearchSpace, study_id: int, key: PackKey) -> bool:
    """Return whether a trial with that pack key waits or any trial lost its worker. Needs no lock."""
    waiting = trials.claimable(connection, study_id).ours
    return any(key_of(space, row) == key for row in waiting) or leases.any_lost(
        connection, study_id, SUSPECT_LOSSES
    )


def _lease(
    connection: Connection, pack: Sequence[TrialRow], request: ClaimRequest, losses: Mapping[int, int]
) -> list[LeasedTrial]:
    if not pack:
        return []
    granted = leases.grant(connection, [row.trial_id for row in pack], request.worker, request.lease_seconds)
    return [
        LeasedTrial(
            row.number,
            lease,
            row.point,
            row.record.seed,
            checkpoint,
            alone=is_suspect(row, losses),
            limits=row.record.limits,
        )
        for row in pack
        for lease, checkpoint in [granted[row.trial_id]]
    ]


def _next_search_trials(
    connection: Connection, study: Study, waiting: list[TrialRow], limit: int
) -> list[TrialRow]:
    """Return the trials to hand out in a search in which no trial has lost its worker.

    At most `limit` trials resume or are new.
    """
    if waiting and not study.spec.make_pruner().pause_epochs:
        return waiting
    rows = trials.read(connection, study.search_id)
    if (waiting or len(rows) >= study.trials) and not any(row.is_paused for row in rows.ours):
        return waiting
    curves = results.curves(connection, study.search_id, study.objective)
    if paused := pause.resumable(study, rows.ours, curves):
        return select_pack(study.spec.space, paused, limit, {})
    next_trials = waiting or suggest(connection, study, rows, curves, limit)
    if not next_trials and all(row.state.is_finished() or row.is_paused for row in rows.ours):
        # The search is over: no further result can change which paused trials may resume.
        last = pause.resumable_for_promotion(study, rows.ours, curves)
        next_trials = select_pack(study.spec.space, last, limit, {})
        if not next_trials:
            pause.prune_paused(connection, study)
    return next_trials
