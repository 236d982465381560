"""Handing out trials: the one place where a trial gets a worker.

All of a claim happens in one transaction under the study's lock, so that the budget is exact, no cell of a
finite space runs twice and the sampler sees every trial that is under way, for any number of workers. A
process that dies inside it leaves nothing behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.samplers.base import make_sampler
from hpo.settings import LEASE_SECONDS
from hpo.store import checkpoints, leases, results, studies, trials, workers
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study import lifecycle, pause
from hpo.study.study import Study, current, search_seed
from hpo.study.suggest import suggest
from hpo.values.space import Point, Value
from hpo.values.stage import STAGES, Stage

MOST_LOSSES = 8
"""A trial that lost its worker so often in a row, without a new checkpoint in between, is failed: it may be
what kills them."""

SUSPECT = 2
"""From so many losses on a trial runs alone, so that it takes no pack mates with it."""

WIDTH = 16
"""The most trials in a pack, unless the user says otherwise: beyond it the five small networks gain little on
a CPU."""

PROPOSALS = 4
"""New points in one claim, where members of a pack take turns: fewer know more of what came before, more fill
a pack better."""

SMALL_PACK = 4
"""Below this width a pack is not split further for the sake of workers that are busy."""


@dataclass(frozen=True, slots=True)
class LeasedTrial:
    """A trial with the right to run it. `seed` initialises its weights; it goes on from `checkpoint`.

    `alone`: it is to have no pack mates, for it may be what kills its workers.
    """

    number: int
    lease: Lease
    point: Point
    seed: int
    checkpoint: Checkpoint | None = None
    alone: bool = False


def claim(
    storage: Storage,
    study: Study,
    stage: Stage,
    worker: str,
    width: int,
    seconds: float = LEASE_SECONDS,
    limits: Mapping[int, int] | None = None,
    fleet: int = 1,
    batch_size: int | None = None,
    proposals: int | None = None,
) -> list[LeasedTrial]:
    """Leases up to `width` trials of one batch size to `worker`; none if nothing can be handed out now.

    `batch_size`: of that one alone, to one that trains others of it. `limits`: lower widths, by batch size.
    `seconds`: how long the leases last unless they are renewed. `fleet`: how many workers there will be at
    least, once all have started. `proposals`: the most new ones from the sampler, `PROPOSALS`
    unless it is said.

    In this order: trials that were begun and lost, paused ones that are to go on, waiting trials, new ones
    from the sampler; of a stage that is stopped, or holds back for its budget, only the first, and to fill a
    pack the first and the third. Raises `NotFoundError` if the study has been deleted.
    """
    study_id = study.study_id(stage)
    if stage == "search":
        make_sampler(study.spec.sampler.name).load()  # before the lock: imports may take a second
    with storage.transaction() as connection:
        if batch_size is not None and not _is_anything_of(connection, study_id, batch_size):
            return []
        studies.lock(connection, study_id)
        study = current(connection, study)
        course = lifecycle.decide(connection, study, stage)
        leases.reap(connection, study_id)
        rows = trials.claimable(connection, study_id)
        if _adopt(connection, study, stage, rows):
            rows = trials.claimable(connection, study_id)
        losses = leases.losses(connection, [row.trial_id for row in rows])
        rows = _without_worn_out(connection, rows, losses)
        if course.stopped is not None or course.holds_back:
            rows = _begun(rows, losses)
        elif stage == "search" and batch_size is None and not _begun(rows, losses):
            rows = _next_ones(connection, study, rows, min(width, proposals or PROPOSALS))
        width = min(width, _fair_share(connection, study, len(rows), fleet))
        if batch_size is not None:
            rows = _fitting(rows, batch_size, losses)
        pack = pack_of(rows, width, losses)
        if pack and limits is not None:
            pack = pack[: limits.get(int(pack[0].point["batch_size"]), width)]
        return _lease(connection, pack, worker, seconds, losses)


def claim_lost(
    storage: Storage,
    study: Study,
    stage: Stage,
    worker: str,
    width: int,
    batch_size: int,
    seconds: float = LEASE_SECONDS,
) -> list[LeasedTrial]:
    """Leases trials that lost their worker, up to `width`, to one that trains others of their batch size.

    Nothing else: what nobody has begun is better left to whoever comes free.
    """
    study_id = study.study_id(stage)
    with storage.transaction() as connection:
        # Asked often, and nearly always for nothing: so before the lock.
        if not leases.any_lost(connection, study_id, SUSPECT):
            return []
        studies.lock(connection, study_id)
        leases.reap(connection, study_id)
        rows = trials.claimable(connection, study_id)
        losses = leases.losses(connection, [row.trial_id for row in rows])
        # What others started through Optuna has never been leased, and may lack what ours have.
        begun = [row for row in rows if row.trial_id in losses]
        return _lease(connection, _fitting(begun, batch_size, losses)[:width], worker, seconds, losses)


def pack_of(rows: Sequence[TrialRow], width: int, losses: Mapping[int, int]) -> list[TrialRow]:
    """The first trial and the next ones of its batch size: what can train as one computation.

    One that has lost its worker again and again (`losses`, by trial id) comes alone.
    """
    if not rows:
        return []
    if losses.get(rows[0].trial_id, 0) >= SUSPECT:
        return [rows[0]]
    return _fitting(rows, rows[0].point["batch_size"], losses)[:width]


def _fitting(rows: Sequence[TrialRow], batch_size: Value, losses: Mapping[int, int]) -> list[TrialRow]:
    """Those of that batch size that may have pack mates."""
    return [r for r in rows if r.point["batch_size"] == batch_size and losses.get(r.trial_id, 0) < SUSPECT]


def _is_anything_of(connection: Connection, study_id: int, batch_size: int) -> bool:
    """Whether a trial of that batch size waits, or any is lost: asked without the study's lock."""
    waiting = trials.claimable(connection, study_id)
    return any(row.point.get("batch_size") == batch_size for row in waiting) or leases.any_lost(
        connection, study_id, SUSPECT
    )


def _begun(rows: Sequence[TrialRow], losses: Mapping[int, int]) -> list[TrialRow]:
    return [row for row in rows if row.state == TrialState.RUNNING or row.trial_id in losses]


def _lease(
    connection: Connection,
    chosen: Sequence[TrialRow],
    worker: str,
    seconds: float,
    losses: Mapping[int, int],
) -> list[LeasedTrial]:
    if not chosen:
        return []
    held = leases.grant(connection, [row.trial_id for row in chosen], worker, seconds)
    return [
        LeasedTrial(
            row.number,
            lease,
            row.point,
            row.attributes["seed"],
            saved,
            alone=losses.get(row.trial_id, 0) >= SUSPECT,
        )
        for row in chosen
        for lease, saved in [held[row.trial_id]]
    ]


def is_finished(storage: Storage, study: Study, stage: Stage) -> bool:
    """Whether no trial is open and, in the search, none is still to be proposed.

    A stage that is stopped is finished once none is open that somebody has begun; paused ones count as begun
    if it was a rule that stopped it, which ends them.
    """
    study_id = study.study_id(stage)
    with storage.transaction() as connection:
        study = current(connection, study)
        if (stopped := lifecycle.read(connection, study, stage)) is not None:
            # In this order: what is under way may pause at any moment. The next claim ends what has paused.
            quiet = trials.count_begun(connection, study_id) == 0
            return quiet and not (stopped.by == "rule" and trials.paused(connection, study_id))
        # In this order: once all are there, none is added between the two looks.
        if stage == "search" and trials.count(connection, study_id) < study.trials:
            return False
        return trials.count(connection, study_id, trials.OPEN) == 0


def files_at_rest(storage: Storage, study: Study) -> set[str] | None:
    """The files that are still needed, weights of fully trained models and what paused trials go on from;
    None while a trial is begun that writes."""
    with storage.transaction() as connection:
        for stage in STAGES:
            studies.lock(connection, study.study_id(stage))
            if trials.count_begun(connection, study.study_id(stage)):
                return None
        rows = trials.read(connection, study.full_id)
        paused = checkpoints.read(connection, trials.paused(connection, study.search_id))
    weights = {row.attributes["weights"] for row in rows if "weights" in row.attributes}
    return weights | {saved.file for saved in paused.values()}


def _adopt(connection: Connection, study: Study, stage: Stage, rows: Sequence[TrialRow]) -> bool:
    """Takes on trials that others added through Optuna (`enqueue_trial`, the dashboard); gives whether there
    were any.

    In the search, one that gives every parameter a value of the space is a trial like ours. All others fail.
    """
    foreign = [row for row in rows if "seed" not in row.attributes]
    asked = trials.fixed_params(connection, [row.trial_id for row in foreign])
    for row in foreign:
        point = {**asked.get(row.trial_id, {}), **row.point}
        if stage == "search" and point in study.spec.space:
            trials.set_points(connection, study.spec.space, {row.trial_id: point})
            seed = search_seed(study.spec, row.number)
            trials.set_attributes(connection, {row.trial_id: {"seed": seed}})
        else:
            reason = "was not added by this service and gives no point of the search space"
            if stage == "full":
                reason = "was not added by promotion, as every full training is"
            results.finish(
                connection, {row.trial_id: TrialOutcome(TrialState.FAIL, None, {"reason": reason})}
            )
    return bool(foreign)


def _without_worn_out(
    connection: Connection, rows: Sequence[TrialRow], losses: Mapping[int, int]
) -> list[TrialRow]:
    """Fails the trials that lost their worker too often; gives the others."""
    worn_out = [row for row in rows if losses.get(row.trial_id, 0) >= MOST_LOSSES]
    for row in worn_out:
        reason = f"its worker was lost {losses[row.trial_id]} times in a row"
        results.finish(connection, {row.trial_id: TrialOutcome(TrialState.FAIL, None, {"reason": reason})})
    return [row for row in rows if row not in worn_out]


def _next_ones(connection: Connection, study: Study, waiting: list[TrialRow], few: int) -> list[TrialRow]:
    """Of a search in which nothing is lost; of new ones and paused ones `few` at once."""
    if waiting and not pause.rungs_of(study.spec):
        return waiting
    rows = trials.read(connection, study.search_id)
    if (waiting or len(rows) >= study.trials) and not any(map(pause.is_paused, rows)):
        return waiting
    curves = results.curves(connection, study.search_id)
    if paused := pause.going_on(study, rows, curves):
        return pack_of(paused, few, {})
    found = waiting or suggest(connection, study, rows, curves, few)
    if not found and all(row.state.is_finished() or pause.is_paused(row) for row in rows):
        # Nothing will come that could make them better than they are.
        found = pack_of(pause.still_wanted(study, rows, curves), few, {})
        if not found:
            pause.end(connection, study)
    return found


def _fair_share(connection: Connection, study: Study, waiting: int, fleet: int) -> int:
    """How many of the waiting trials one worker may take, so that none takes all and the rest idle.

    An equal part for each worker of the study. A part that has become small is made up to `SMALL_PACK`
    from what only busy workers would wait for: a small pack pays a step's fixed cost for few trials.
    """
    live, idle = workers.count(connection, study.name)
    starting = max(0, fleet - live)
    return max(ceil(waiting / (live + starting)), min(SMALL_PACK, ceil(waiting / max(1, idle + starting))))
