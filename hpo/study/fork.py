"""Fork a study: start a new study with the finished trials of another study."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from json import dumps

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError
from hpo.spec.identity import UNKNOWN, Difference, Identity
from hpo.spec.study_spec import StudySpec
from hpo.store import copies, studies, trials
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.create import Creation, insert, queue_plan, update
from hpo.study.stored import INHERITED, find
from hpo.study.study import Study
from hpo.values.objective import Objective
from hpo.values.space import Cell, Domain, Point, Range, SearchSpace, Value, cell

ORIGIN = "hpo:origin"
"""The study attribute with name and key of the origin. The key is needed because a name may be reused."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The outcome of `fork`.

    `left_out` counts the finished trials of the origin that do not fit the new study: those outside of its
    space, and those of a version that did not measure its objective. The study's `inherited`
    counts the trials that do. `other_code`: how the code of the user's network or function differs from that
    of the origin, None if it does not.
    """

    creation: Creation
    left_out: int = 0
    other_code: Difference | None = None


def fork(storage: Storage, old: Study, spec: StudySpec, source: str, identity: Identity = UNKNOWN) -> Fork:
    """Create a study whose first search trials are the finished trials of `old` that lie in its space.

    Runs in one transaction and is idempotent. `old` may still be running: the trials that have ended are
    copied. If the objective is another one, their values are taken from the metrics of their epochs.
    `source` names the study file in messages, `identity` is that of the new study. Raises `ConflictError` if
    the trials of the two studies would not be comparable, or if the stored study of that name is not this
    fork.
    """
    _check_comparable(old, spec, source)
    _check_same_data(old, identity, source)
    origin = {"study": old.name, "key": old.key}
    spec.sampler.load_plan()  # before the transaction: imports may take a second
    other_code = old.identity.difference(replace(identity, data=None))
    with storage.transaction() as connection:
        stored = find(connection, spec.name)
        if stored is not None:
            if studies.read_attribute(connection, stored.search_id, ORIGIN) != origin:
                raise ConflictError(
                    f"{source}: name = {spec.name!r}: the stored study of that name is not a fork of "
                    f"{old.name!r}; give the file another name, or delete it: hpo study delete {spec.name}"
                )
            return Fork(update(connection, stored, spec, source, identity), other_code=other_code)
        # The lock keeps the origin from being removed between the reads below. It is taken only while no
        # study of the new name exists, so two forks in opposite directions cannot deadlock.
        studies.lock(connection, old.search_id)
        ended, objective = _ended_trials(connection, old), spec.make_objective()
        comparable = ended if objective == old.objective else _measured(connection, ended, objective)
        inherited = [
            (row, point)
            for row, point in trials_in_space(comparable, spec.space)
            # The new study trains a baseline to its end that the origin has pruned.
            if row.state == TrialState.COMPLETE or not spec.is_baseline(point)
        ]
        attributes = {ORIGIN: origin, INHERITED: len(inherited)}
        study = insert(connection, spec, source, identity, attributes)
        copies.copy_ended(connection, study.search_id, spec.space, inherited)
        if objective != old.objective:
            copies.take_values(connection, study.search_id, objective)
        creation = Creation(study, "created", queue_plan(connection, study))
        return Fork(creation, len(ended) - len(inherited), other_code)


def origin_of(storage: Storage, study: Study) -> str | None:
    """Return the name of the study that `study` was forked from, None if it is no fork."""
    with storage.transaction() as connection:
        return read_origin(connection, study)


def read_origin(connection: Connection, study: Study) -> str | None:
    """Return the name of the study that `study` was forked from, as part of the caller's transaction."""
    origin = studies.read_attribute(connection, study.search_id, ORIGIN)
    return str(origin["study"]) if isinstance(origin, dict) and "study" in origin else None


def trials_in_space(rows: Iterable[TrialRow], space: SearchSpace) -> list[tuple[TrialRow, Point]]:
    """Return the trials that lie in the space, with their points; only the first trial of each cell."""
    first: dict[Cell, tuple[TrialRow, Point]] = {}
    for row in rows:
        if (point := _in_space(row.point, space)) is not None:
            first.setdefault(cell(point), (row, point))
    return list(first.values())


def _in_space(point: Point, space: SearchSpace) -> Point | None:
    """Return the point of the space with the same parameters, None if there is none.

    A parameter that the point or the space leaves out has its default.
    """
    params = space.with_defaults(point)
    inside = space.applicable(
        {name: _on_grid(params[name], domain) for name, domain in space.domains.items() if name in params}
    )
    kept = space.with_defaults({name: params[name] for name in inside})
    return inside if inside in space and cell(kept) == cell(params) else None


def _on_grid(value: Value, domain: Domain) -> Value:
    """Return the value in the domain's own floats: the choice 0.3 may be 0.1 + 2 * 0.1 in a stepped range."""
    if isinstance(domain, Range) and domain.size is not None and value in domain:
        assert isinstance(value, int | float), "a range is one of numbers"
        return domain.nearest(value)
    return value


def _ended_trials(connection: Connection, old: Study) -> list[TrialRow]:
    ended = trials.read(connection, old.search_id, (TrialState.COMPLETE, TrialState.PRUNED))
    return [row for row in ended.ours if row.record.is_trained]


def _measured(connection: Connection, rows: Sequence[TrialRow], objective: Objective) -> list[TrialRow]:
    """Return the trials whose every epoch has the metric of the objective."""
    ids = copies.measured(connection, [row.trial_id for row in rows], objective)
    return [row for row in rows if row.trial_id in ids]


def _check_comparable(old: Study, spec: StudySpec, source: str) -> None:
    if old.name == spec.name:
        raise ConflictError(
            f"{source}: name = {spec.name!r}: is the study to fork; give the file another name"
        )
    before, now = old.spec.identity(), spec.identity()
    for key in sorted(before.keys() | now.keys()):
        is_decisive = key.startswith(("model.", "data.", "train.")) or key in ("seed", "search.epochs")
        if is_decisive and before.get(key) != now.get(key):
            raise ConflictError(
                f"{source}: {key} = {dumps(now.get(key))}: the study {old.name!r} has "
                f"{dumps(before.get(key))}, and the values of their trials would not be comparable; "
                "give the file that value, or create a study of its own: hpo study create"
            )


def _check_same_data(old: Study, identity: Identity, source: str) -> None:
    """Refuse other data. Other code of a network may compute the same, so its author decides."""
    difference = Identity(old.identity.data).difference(Identity(identity.data))
    if difference is not None:
        raise ConflictError(
            f"{source}: {difference.key} = {dumps(old.spec.data.name)}: {difference.describe(old.name)}, "
            f"and the values of their trials would not be comparable; {difference.way_back}, "
            "or create a study of its own: hpo study create"
        )
