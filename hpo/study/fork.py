"""A study that begins with what another one found: its trials that fit, as finished trials of the new one."""

from collections.abc import Iterable
from dataclasses import dataclass
from json import dumps

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError
from hpo.spec.study_spec import StudySpec
from hpo.store import copies, studies, trials
from hpo.store.connection import Storage
from hpo.store.trials import TRAINED, TrialRow
from hpo.study.study import INHERITED, Creation, Study, bring_up, fill_plan, find, insert
from hpo.values.space import Point, Range, SearchSpace, cell

ORIGIN = "hpo:origin"
"""The study attribute that says what a study was forked from: name and key, as a name may be given anew."""


@dataclass(frozen=True, slots=True)
class Fork:
    """`left_out`: the finished trials that the new study could not take on; those it took are its
    `inherited`."""

    creation: Creation
    left_out: int = 0


def fork(storage: Storage, old: Study, spec: StudySpec, source: str) -> Fork:
    """Stores a study, as `create` does, whose first search trials are those of `old` that lie in its space.

    One transaction. `old` may be under way: what has ended by then is taken. Called again with the same file
    it changes nothing. `source` names the file in messages. Raises `ConflictError` if the values of the two
    studies' trials would not be comparable, or if the stored study of that name is not this fork.
    """
    _check_comparable(old, spec, source)
    origin = {"study": old.name, "key": old.key}
    with storage.transaction() as connection:
        stored = find(connection, spec.name)
        if stored is not None:
            if studies.read_attribute(connection, stored.search_id, ORIGIN) != origin:
                raise ConflictError(
                    f"{source}: name = {spec.name!r}: the stored study of that name is not a fork of "
                    f"{old.name!r}; give the file another name, or delete it: hpo study delete {spec.name}"
                )
            return Fork(bring_up(connection, stored, spec, source))
        # Or the study could be removed between two of the reads below. It is waited for only while there is
        # no study of the new name to wait for, so forks in opposite directions cannot deadlock.
        studies.lock(connection, old.search_id)
        ended = _ended(connection, old)
        fitting = fitted(ended, spec.space)
        study = insert(connection, spec, source, {ORIGIN: origin, INHERITED: len(fitting)})
        copies.copy_ended(connection, study.search_id, spec.space, fitting)
        return Fork(Creation(study, "created", fill_plan(connection, study)), len(ended) - len(fitting))


def origin_of(storage: Storage, study: Study) -> str | None:
    """The name of the study that this one was forked from."""
    with storage.transaction() as connection:
        origin = studies.read_attribute(connection, study.search_id, ORIGIN)
    return None if origin is None else str(origin["study"])


def fitted(rows: Iterable[TrialRow], space: SearchSpace) -> list[tuple[TrialRow, Point]]:
    """The trials that lie in the space, with their points in it; of those that share a point the first."""
    found = [(row, point) for row in rows if (point := row.point) in space]
    points: dict[int, Point] = {row.number: _on_grid(point, space) for row, point in found}
    first = {cell(points[row.number]): row for row, _ in reversed(found)}
    return [(row, points[row.number]) for row, _ in found if first[cell(points[row.number])] is row]


def _on_grid(point: Point, space: SearchSpace) -> Point:
    """The point as the space itself writes it: 0.3 as a choice may be 0.1 + 2 * 0.1 in a range with steps."""
    return {
        name: domain.at(round((point[name] - domain.low) / (domain.step or 1)))
        if isinstance(domain, Range) and domain.size is not None
        else point[name]
        for name, domain in space.domains.items()
    }


def _ended(connection: Connection, old: Study) -> list[TrialRow]:
    rows = trials.read(connection, old.search_id, (TrialState.COMPLETE, TrialState.PRUNED))
    return [row for row in rows if row.attributes.keys() >= TRAINED]


def _check_comparable(old: Study, spec: StudySpec, source: str) -> None:
    if old.name == spec.name:
        raise ConflictError(
            f"{source}: name = {spec.name!r}: is the study to fork; give the file another name"
        )
    before, now = old.spec.identity(), spec.identity()
    for key in sorted(before.keys() | now.keys()):
        decides = key.startswith(("model.", "data.")) or key in ("seed", "search.epochs")
        if decides and before.get(key) != now.get(key):
            raise ConflictError(
                f"{source}: {key} = {dumps(now.get(key))}: the study {old.name!r} has "
                f"{dumps(before.get(key))}, and the values of their trials would not be comparable; "
                "give the file that value, or create a study of its own: hpo study create"
            )
