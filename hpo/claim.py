"""Handing out trials: the one place where a trial gets a worker.

All of a claim happens in one transaction under the study's lock, so that the budget is exact, no cell of a
finite space runs twice and the sampler sees every trial that is under way, for any number of workers. A
process that dies inside it leaves nothing behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from optuna.trial import TrialState
from sqlalchemy import Connection, exists, func, select, text

from hpo import catalog, ledger, schema
from hpo.catalog import TrialRow
from hpo.ledger import Lease
from hpo.sampler import Observation, propose
from hpo.seeds import mixed
from hpo.space import Point
from hpo.storage import Storage
from hpo.study import Stage, Study, search_seed

LEASE_SECONDS = 30.0
RENEW_SECONDS = 8.0
"""How often a worker renews: three renewals may fail before a lease ends."""

MOST_ATTEMPTS = 4
"""A trial that lost its worker this often is failed: it may be what kills them."""

SMALL_PACK = 4
"""Below this width a pack is not split further for the sake of workers that are busy."""

PROPOSALS = 4
"""TPE's points in one claim: more fill a pack better, fewer know more of what came before."""


@dataclass(frozen=True, slots=True)
class LeasedTrial:
    """A trial with the right to run it. `seed` initialises its weights."""

    number: int
    lease: Lease
    point: Point
    seed: int


def claim(storage: Storage, study: Study, stage: Stage, worker: str, width: int) -> list[LeasedTrial]:
    """Leases up to `width` trials of one batch size to `worker`; none if nothing can be handed out now.

    In this order: trials whose lease is overdue, waiting trials, new ones from the sampler. Raises
    `NotFoundError` if the study has been deleted.
    """
    study_id = study.study_id(stage)
    with storage.transaction() as connection:
        catalog.lock_study(connection, study_id)
        overdue = ledger.overdue(connection, study_id)
        rows = catalog.claimable(connection, study_id, overdue)
        if _adopt(connection, study, stage, rows):
            rows = catalog.claimable(connection, study_id, overdue)
        rows = _without_worn_out(connection, rows)
        if not rows and stage == "search" and _propose(connection, study, width):
            rows = catalog.claimable(connection, study_id, overdue)
        width = min(width, _fair_share(connection, study, len(rows)))
        chosen = pack_of(rows, width)
        if not chosen:
            return []
        held = ledger.lease(connection, [row.trial_id for row in chosen], worker, LEASE_SECONDS)
        return [
            LeasedTrial(row.number, held[row.trial_id], row.point, row.attributes["seed"]) for row in chosen
        ]


def pack_of(rows: Sequence[TrialRow], width: int) -> list[TrialRow]:
    """The first trial and the next ones of its batch size: what can train as one computation."""
    if not rows:
        return []
    size = rows[0].point["batch_size"]
    return [row for row in rows if row.point["batch_size"] == size][:width]


def is_finished(storage: Storage, study: Study, stage: Stage) -> bool:
    """Whether no trial is open and, in the search, none is still to be proposed."""
    study_id = study.study_id(stage)
    with storage.transaction() as connection:
        # In this order: once all are there, none is added between the two looks.
        if stage == "search" and catalog.count(connection, study_id) < study.spec.trials:
            return False
        return catalog.count(connection, study_id, catalog.OPEN) == 0


def _adopt(connection: Connection, study: Study, stage: Stage, rows: Sequence[TrialRow]) -> bool:
    """Takes on trials that others added through Optuna (`enqueue_trial`, the dashboard); gives whether there
    were any.

    In the search, one that gives every parameter a value of the space is a trial like ours. All others fail.
    """
    foreign = [row for row in rows if "seed" not in row.attributes]
    asked = catalog.fixed_params(connection, [row.trial_id for row in foreign])
    for row in foreign:
        point = {**asked.get(row.trial_id, {}), **row.point}
        if stage == "search" and point in study.spec.space:
            catalog.set_points(connection, study.spec.space, {row.trial_id: point})
            seed = search_seed(study.spec, row.number)
            catalog.set_attributes(connection, row.trial_id, {"seed": seed})
        else:
            reason = "was not added by this service and gives no point of the search space"
            if stage == "full":
                reason = "was not added by promotion, as every full training is"
            ledger.finish(connection, row.trial_id, TrialState.FAIL, None, {"reason": reason})
    return bool(foreign)


def _without_worn_out(connection: Connection, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Fails the trials that were handed out too often; gives the others."""
    lost = ledger.attempts(connection, [row.trial_id for row in rows if row.state == TrialState.RUNNING])
    for trial_id, attempt in lost.items():
        if attempt >= MOST_ATTEMPTS:
            reason = f"its worker was lost {attempt} times"
            ledger.finish(connection, trial_id, TrialState.FAIL, None, {"reason": reason})
    return [row for row in rows if lost.get(row.trial_id, 0) < MOST_ATTEMPTS]


def _propose(connection: Connection, study: Study, width: int) -> int:
    """Queues TPE's next points, at most as many as the budget leaves; gives their number."""
    spec = study.spec
    rows = catalog.trials(connection, study.search_id)
    count = min(width, PROPOSALS, spec.trials - len(rows))
    if count <= 0 or spec.sampler.name == "random":
        return 0
    curves = catalog.curves(connection, study.search_id)
    # What others added through Optuna may lie outside of the space.
    history = [_observed(row, curves.get(row.trial_id)) for row in rows if row.point in spec.space]
    # Seeded by the number of the trial: no two proposals share a seed, whichever workers ask.
    seed = mixed(spec.seed, 2, len(rows))
    points = propose(spec.space, history, count, seed, spec.sampler.startup)
    trials: list[tuple[Point, Mapping[str, int]]] = [
        (point, {"seed": search_seed(spec, len(rows) + place)}) for place, point in enumerate(points)
    ]
    catalog.enqueue(connection, study.search_id, spec.space, trials)
    return len(trials)


def _observed(row: TrialRow, curve: Mapping[int, float] | None) -> Observation:
    # The same goes for a result that is infinite: it only tells that this point is taken.
    infinite = row.state == TrialState.COMPLETE and row.value is None
    return Observation(row.point, TrialState.FAIL if infinite else row.state, row.value, curve)


def _fair_share(connection: Connection, study: Study, waiting: int) -> int:
    """How many of the waiting trials one worker may take, so that none takes all and the rest idle.

    An equal part for each worker of the study. A part that has become small is made up to `SMALL_PACK`
    from what only busy workers would wait for: a small pack pays a step's fixed cost for few trials.
    """
    table, lease = schema.workers, schema.leases
    alive = table.c.seen > func.now() - text("make_interval(secs => :s)").bindparams(s=LEASE_SECONDS)
    busy = exists().where(lease.c.worker == table.c.name)
    query = select(func.count(), func.count().filter(~busy)).where(table.c.study == study.name, alive)
    workers, idle = connection.execute(query).one()
    return max(ceil(waiting / max(1, workers)), min(SMALL_PACK, ceil(waiting / max(1, idle))))
