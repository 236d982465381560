"""Create and extend studies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection

from hpo.errors import ConflictError
from hpo.spec.fingerprint import EXTENDABLE
from hpo.spec.identity import CODE_KEYS, UNKNOWN, Identity
from hpo.spec.study_spec import StudySpec
from hpo.store import notes, results, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.study import lifecycle, remains
from hpo.study.note import note_of
from hpo.study.stored import FINGERPRINT, INHERITED, KEY, SPEC, find, insert_stage, refresh
from hpo.study.study import Study, search_seed
from hpo.values.seeds import Purpose
from hpo.values.space import Cell, Point, cell
from hpo.values.stage import STAGES


@dataclass(frozen=True, slots=True)
class Creation:
    """The outcome of `create`; `added` is the number of search trials that the stored study gained."""

    study: Study
    did: Literal["created", "extended", "updated", "unchanged"]
    added: int = 0


def create(storage: Storage, spec: StudySpec, source: str, identity: Identity = UNKNOWN) -> Creation:
    """Store a study with its random plan, or update the stored study of that name to the spec.

    Runs in one transaction and is idempotent, also when several processes call it at once. `source` names the
    study file in messages. A new study keeps `identity`, see `Workload.identity`. Raises `ConflictError` if
    the stored trials would not be comparable with trials of the spec and the identity, or if the spec asks
    for fewer trials than the stored study.
    """
    spec.sampler.load_plan()  # before the transaction: imports may take a second
    with storage.transaction() as connection:
        stored = find(connection, spec.name)
        if stored is not None:
            return update(connection, stored, spec, source, identity)
        study = insert(connection, spec, source, identity)
        return Creation(study, "created", queue_plan(connection, study))


def update(
    connection: Connection, stored: Study, spec: StudySpec, source: str, identity: Identity = UNKNOWN
) -> Creation:
    """Give a stored study a new spec; `stored` must have been found in this transaction.

    If the stop rules change, a search that the old rules stopped resumes until the new rules are evaluated.
    """
    spec = spec.keeping(stored.spec)
    _check_compatible(stored.spec, spec, source)
    _check_identity(connection, stored, identity, source)
    if stored.spec == spec:
        return Creation(stored, "unchanged")
    studies.lock(connection, stored.search_id)
    # Trials may have been retried since the study was found, and count apart from its plan.
    stored = replace(stored, retried=refresh(connection, stored).retried)
    study = replace(stored, spec=spec)
    for study_id in (study.search_id, study.full_id):
        studies.set_attributes(connection, study_id, {SPEC: spec.to_stored()})
    if stored.spec.stop != spec.stop:
        lifecycle.forget_rule(connection, study)
    queue_plan(connection, study)
    extended = any(_value(spec, key) > _value(stored.spec, key) for key in EXTENDABLE)
    return Creation(study, "extended" if extended else "updated", study.trials - stored.trials)


def insert(
    connection: Connection,
    spec: StudySpec,
    source: str,
    identity: Identity = UNKNOWN,
    search_attributes: Mapping[str, Any] | None = None,
) -> Study:
    """Insert a study without trials; the caller must have looked up its name in this transaction.

    The full training of a deleted study of that name is removed. Raises `ConflictError` if an Optuna study
    that hpo did not create has one of the two names.
    """
    remains.clear(connection, spec.name)
    for name in (spec.name, spec.full_name):
        if studies.read_attributes(connection, name) is not None:
            raise ConflictError(
                f"{source}: name = {spec.name!r}: the storage has a study {name!r} that hpo did not create; "
                "give the file another name"
            )
    search_attributes = search_attributes or {}
    key = uuid4().hex[:8]
    fingerprint = spec.fingerprint
    attributes = {
        SPEC: spec.to_stored(),
        FINGERPRINT: fingerprint,
        KEY: key,
        **identity.to_attributes(),
    }
    search_id = insert_stage(connection, spec, "search", {**attributes, **search_attributes})
    full_id = insert_stage(connection, spec, "full", attributes)
    inherited = search_attributes.get(INHERITED, 0)
    study = Study(spec, search_id, full_id, key, fingerprint, inherited, identity)
    for stage in STAGES:
        notes.name_objective(connection, study.study_id(stage), study.objective.title)
        notes.write(connection, study.study_id(stage), note_of(study, stage))
    return study


def queue_plan(connection: Connection, study: Study) -> int:
    """Queue the points of the plan that have no trial yet; return their number."""
    spec = study.spec
    present = trials.count(connection, study.search_id)
    points = _plan(connection, study)[present - study.inherited - study.retried :]
    planned = [(point, TrialRecord(search_seed(spec, present + i))) for i, point in enumerate(points)]
    trials.enqueue(connection, study.search_id, spec.space, planned)
    return len(planned)


def _plan(connection: Connection, study: Study) -> list[Point]:
    """Return the initial points of the search: the baseline, then those of the sampler.

    A fork has the seed of its origin. It draws other points, or continues the sequence of points. It may
    have inherited the baseline.
    """
    spec, inherited, seed = study.spec, study.inherited, study.spec.seed
    taken: set[Cell] = set()
    if inherited:
        rows = trials.read(connection, study.search_id).ours
        taken = {cell(row.point) for row in rows if row.number < inherited}
        if not spec.sampler.is_sequence:
            seed = Purpose.FORK_PLAN.derive(seed, inherited)
    count = study.planned - inherited
    # The new trials begin with the baseline, even if a fork has inherited more trials than the plan has.
    first = [] if spec.baseline is None or cell(spec.baseline) in taken else [spec.baseline]
    taken |= {cell(point) for point in first}
    return [*first, *spec.sampler.initial(spec.space, count - len(first), seed, taken)]


def _check_identity(connection: Connection, stored: Study, present: Identity, source: str) -> None:
    """Raise `ConflictError` if `present` is not the study's identity, with the way out."""
    difference = stored.identity.difference(present)
    if difference is not None and difference.key in CODE_KEYS:
        ids, name = (stored.search_id, stored.full_id), stored.spec.identity()[difference.key]
        if not any(results.any_epoch(connection, study_id) for study_id in ids):
            raise ConflictError(
                f"{source}: {difference.key} = {json.dumps(name)}: "
                f"{difference.describe(stored.name)}; no trial has trained an epoch yet, so the study can "
                f"take the new code: hpo study retry {stored.name}"
            )
    stored.check(present, source, in_file=True)


def _check_compatible(stored: StudySpec, spec: StudySpec, source: str) -> None:
    old, new = stored.identity(), spec.identity()
    # Names first: the keys of a section depend on its name.
    for key in sorted(old.keys() | new.keys(), key=lambda key: (not key.endswith(".name"), key)):
        if old.get(key) != new.get(key):
            raise ConflictError(
                f"{source}: {key} = {json.dumps(new.get(key))}: the stored study {spec.name!r} has "
                f"{json.dumps(old.get(key))}, and trials of both would not be comparable; "
                f"give the file another name, or delete the stored one: hpo study delete {spec.name}"
            )
    for key in sorted(EXTENDABLE):
        before, now = _value(stored, key), _value(spec, key)
        if now < before:
            raise ConflictError(
                f"{source}: {key} = {now}: the stored study {spec.name!r} has {before}, and may only grow"
            )


def _value(spec: StudySpec, key: str) -> int:
    section, field = key.split(".")
    value: int = spec.to_json()[section][field]
    return value
