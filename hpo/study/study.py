"""A study as this service knows it: a spec with a name, and the two Optuna studies that hold its trials."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, delete, func, select

from hpo.errors import ConflictError, NotFoundError
from hpo.search.samplers.base import make_sampler
from hpo.spec.study_spec import EXTENDABLE, FULL_SUFFIX, StudySpec
from hpo.store import leases, schema, studies, trials
from hpo.store.connection import Storage
from hpo.values.seeds import derive_seed
from hpo.values.space import Point, cell
from hpo.values.stage import Stage

SPEC, FINGERPRINT, STAGE, KEY = "hpo:spec", "hpo:fingerprint", "hpo:stage", "hpo:key"
INHERITED, STOPPED = "hpo:inherited", "hpo:stopped"


@dataclass(frozen=True, slots=True)
class Study:
    """A stored study. `key` is unlike that of any other study, also of a later one with the same name.

    `inherited`: how many of its search trials, the first ones, come from the study it was forked from.
    """

    spec: StudySpec
    search_id: int
    full_id: int
    key: str
    inherited: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def trials(self) -> int:
        """How many search trials there will be: the inherited, and new ones as far as budget and space go."""
        count, cells = self.inherited + self.spec.search.trials, self.spec.space.cells
        return count if cells is None else min(count, cells)

    @property
    def planned(self) -> int:
        """How many of them no model proposes: the inherited, and those drawn at random in advance."""
        if make_sampler(self.spec.sampler.name).plans_all:
            return self.trials
        return min(self.trials, max(self.inherited, self.spec.sampler.startup))

    def study_id(self, stage: Stage) -> int:
        return self.search_id if stage == "search" else self.full_id

    def artifacts(self, root: Path) -> Path:
        """Where the weights of this study's fully trained models are, under the artifact folder `root`."""
        return root / f"{self.name}-{self.key}"


@dataclass(frozen=True, slots=True)
class Creation:
    """What `create` did; `added` is the number of search trials that the stored study gained."""

    study: Study
    did: Literal["created", "extended", "updated", "unchanged"]
    added: int = 0


def create(storage: Storage, spec: StudySpec, source: str) -> Creation:
    """Stores a study with its random plan, or brings the one of that name up to the spec.

    One transaction: whole or not at all, and however often and from however many processes it is called.
    `source` names the study file in messages. Raises `ConflictError` if the stored trials would not be
    comparable with those of the spec, or if the spec asks for fewer than there are.
    """
    with storage.transaction() as connection:
        stored = find(connection, spec.name)
        if stored is not None:
            return bring_up(connection, stored, spec, source)
        study = insert(connection, spec, source)
        return Creation(study, "created", fill_plan(connection, study))


def bring_up(connection: Connection, stored: Study, spec: StudySpec, source: str) -> Creation:
    """Gives a stored study, found in this transaction, the spec that it has come to have.

    Other rules for its end decide anew: a search that the former ones had ended goes on.
    """
    _check_compatible(stored.spec, spec, source)
    if stored.spec == spec:
        return Creation(stored, "unchanged")
    study = replace(stored, spec=spec)
    studies.lock(connection, study.search_id)
    for study_id in (study.search_id, study.full_id):
        studies.set_attributes(connection, study_id, {SPEC: spec.to_json()})
    if stored.spec.stop != spec.stop:
        mark = studies.read_attribute(connection, study.search_id, STOPPED)
        if mark is not None and mark["by"] == "rule":
            studies.unset_attribute(connection, study.search_id, STOPPED)
    fill_plan(connection, study)
    grown = any(_at(spec.to_json(), key) > _at(stored.spec.to_json(), key) for key in EXTENDABLE)
    return Creation(study, "extended" if grown else "updated", study.trials - stored.trials)


def load(storage: Storage, name: str) -> Study:
    """The study of that name. Raises `NotFoundError`."""
    name = name.removesuffix(FULL_SUFFIX)
    with storage.transaction() as connection:
        study = find(connection, name)
    if study is None:
        known = names(storage)
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"stored: {', '.join(known) or 'none'}"
        raise NotFoundError(f"no study {name!r} in this storage; {hint}")
    return study


def current(connection: Connection, study: Study) -> Study:
    """The study with the spec that is stored by now: since a worker loaded it, it may have been extended."""
    stored = studies.read_attribute(connection, study.search_id, SPEC)
    if stored is None or stored == study.spec.to_json():
        return study
    return replace(study, spec=StudySpec.parse(stored, source=f"stored study {study.name!r}"))


def names(storage: Storage) -> list[str]:
    """The names of all stored studies, sorted."""
    study, attribute = schema.studies, schema.study_attributes
    query = (
        select(study.c.study_name)
        .join(attribute)
        .where(attribute.c.key == STAGE, attribute.c.value_json == json.dumps("search"))
        .order_by(study.c.study_name)
    )
    with storage.transaction() as connection:
        return list(connection.execute(query).scalars())


def remove(storage: Storage, study: Study, artifacts: Path) -> None:
    """Deletes both studies with all their trials, and the weights that belong to them.

    Workers that serve it lose their leases first, or what they write meanwhile would stand in the way. Raises
    `NotFoundError` if it has been deleted already.
    """
    with storage.transaction() as connection:
        _lock_name(connection, study.name)
        for study_id in (study.search_id, study.full_id):
            studies.lock(connection, study_id)
            leases.revoke(connection, study_id)
            studies.delete(connection, study_id)
        connection.execute(delete(schema.workers).where(schema.workers.c.study == study.name))
    shutil.rmtree(study.artifacts(artifacts), ignore_errors=True)


def _lock_name(connection: Connection, name: str) -> None:
    """Waits for the right to make or delete the study of that name: there may be no row yet to lock."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"hpo:{name}"))))


def find(connection: Connection, name: str) -> Study | None:
    """The stored study of that name, None if there is none; holds the name until the transaction ends."""
    _lock_name(connection, name)
    search = studies.read_attributes(connection, name)
    if search is None or SPEC not in search[1]:
        return None
    search_id, attributes = search
    full = studies.read_attributes(connection, name + FULL_SUFFIX)
    if full is None:
        # The dashboard can delete one of the two; the search is worth keeping without its full training.
        kept = {key: attributes[key] for key in (SPEC, FINGERPRINT, KEY)}
        full_id = _insert_stage(connection, name + FULL_SUFFIX, "full", kept)
    else:
        full_id = full[0]
    spec = StudySpec.parse(attributes[SPEC], source=f"stored study {name!r}")
    return Study(spec, search_id, full_id, attributes[KEY], attributes.get(INHERITED, 0))


def insert(
    connection: Connection, spec: StudySpec, source: str, search_attributes: Mapping[str, Any] | None = None
) -> Study:
    """A new study without trials; its name must have been looked for. Raises `ConflictError` if a study that
    others made has one of its names."""
    for name in (spec.name, spec.full_name):
        if studies.read_attributes(connection, name) is not None:
            raise ConflictError(
                f"{source}: name = {spec.name!r}: the storage has a study {name!r} that this service did not "
                "make; give the file another name"
            )
    search_attributes = search_attributes or {}
    key = uuid4().hex[:8]
    attributes = {SPEC: spec.to_json(), FINGERPRINT: spec.fingerprint, KEY: key}
    search_id = _insert_stage(connection, spec.name, "search", {**attributes, **search_attributes})
    full_id = _insert_stage(connection, spec.full_name, "full", attributes)
    return Study(spec, search_id, full_id, key, search_attributes.get(INHERITED, 0))


def _insert_stage(connection: Connection, name: str, stage: Stage, attributes: Mapping[str, Any]) -> int:
    return studies.insert(connection, name, {**attributes, STAGE: stage})


def fill_plan(connection: Connection, study: Study) -> int:
    """Queues the points of the random plan that are not there yet; gives their number."""
    spec = study.spec
    present = trials.count(connection, study.search_id)
    points = _plan(connection, study)[present - study.inherited :]
    planned = [(point, {"seed": search_seed(spec, present + i)}) for i, point in enumerate(points)]
    trials.enqueue(connection, study.search_id, spec.space, planned)
    return len(planned)


def _plan(connection: Connection, study: Study) -> list[Point]:
    """The random points of a study. A fork draws others than the study before it, whose seed it has."""
    spec, inherited = study.spec, study.inherited
    sampler = make_sampler(spec.sampler.name)
    if not inherited:
        return sampler.initial(spec.space, study.planned, spec.seed)
    rows = trials.read(connection, study.search_id)
    taken = {cell(row.point) for row in rows if row.number < inherited}
    count, seed = study.planned - inherited, derive_seed(spec.seed, 4, inherited)
    return sampler.initial(spec.space, count, seed, taken)


def search_seed(spec: StudySpec, number: int) -> int:
    """The seed of the weights of search trial `number`."""
    return derive_seed(spec.seed, 0, number)


def full_seed(spec: StudySpec, place: int) -> int:
    """The seed of the weights of a promoted trial's training number `place`."""
    return derive_seed(spec.seed, 1, place)


def _check_compatible(stored: StudySpec, spec: StudySpec, source: str) -> None:
    old, new = stored.identity(), spec.identity()
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise ConflictError(
                f"{source}: {key} = {json.dumps(new.get(key))}: the stored study {spec.name!r} has "
                f"{json.dumps(old.get(key))}, and trials of both would not be comparable; "
                f"give the file another name, or delete the stored one: hpo study delete {spec.name}"
            )
    for key in sorted(EXTENDABLE):
        before, now = _at(stored.to_json(), key), _at(spec.to_json(), key)
        if now < before:
            raise ConflictError(
                f"{source}: {key} = {now}: the stored study {spec.name!r} has {before}, and may only grow"
            )


def _at(tree: Mapping[str, Any], key: str) -> int:
    section, field = key.split(".")
    value: int = tree[section][field]
    return value
