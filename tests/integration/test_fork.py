"""Forks: a new study that begins with the trials of another study that lie in its space."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Text, cast, func, select
from support.artifacts import MemoryStore
from support.claims import claim
from support.clients import Claims, at_once, fork_or_run_trials, fork_study
from support.epochs import epoch_result
from support.outcomes import loss, trained

from hpo.errors import ConflictError, NotFoundError
from hpo.search.samplers.base import Observation
from hpo.search.samplers.tpe import TpeSampler
from hpo.spec.study_spec import StudySpec
from hpo.store import copies, costs, results, schema, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.completion import is_finished
from hpo.study.create import Creation, create
from hpo.study.fork import fork, origin_of, trials_in_space
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.stored import load, names, remove
from hpo.study.study import Study, search_seed
from hpo.values.objective import LOSS
from hpo.values.parameters import default_of
from hpo.values.space import Value, cell
from hpo.values.space_section import parse_space

SpecOf = Callable[..., StudySpec]

SPACE = {"lr": [0.01, 0.1, 0.5]}
WIDE: dict[str, Any] = {"name": "wide", "space": SPACE}
"""16 of its 24 cells are also those of the small study, which has lr 0.001 besides."""
CONTINUOUS = {"lr": {"low": 0.005, "high": 0.5, "log": True}}
TPE = {"name": "tpe", "startup": 6}


def rows(storage: Storage, study_id: int) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study_id).ours


def count_all(storage: Storage) -> int:
    with storage.transaction() as connection:
        tables = [*schema.optuna_metadata.sorted_tables, *schema.metadata.sorted_tables]
        return sum(connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables)


def finish(storage: Storage, trials: Iterable[LeasedTrial], state: TrialState = TrialState.COMPLETE) -> None:
    """End the trials as if they had trained two epochs."""
    with storage.transaction() as connection:
        for trial in trials:
            value, trial_id = loss(trial.point), trial.lease.trial_id
            for epoch in (1, 2):
                result = epoch_result(
                    trial.number,
                    epoch,
                    value + 2 - epoch,
                    train_loss=2.0,
                    validation_accuracy=0.25,
                    evaluation_seconds=0.5,
                    kept_epoch=2,
                )
                results.report(connection, {trial_id: result}, LOSS)
            costs.charge(connection, {trial_id: {"training": 2.0}})
            outcome = trained(value, state, kept_epoch=2, epochs=2)
            results.finish(connection, {trial_id: outcome}, "one", "cpu")


def run_trials(storage: Storage, study: Study, width: int = 4) -> list[LeasedTrial]:
    """Run the rest of the search; return its trials in order."""
    served = []
    while trials := claim(storage, study, "search", "one", width):
        finish(storage, trials)
        served += trials
    assert is_finished(storage, study, "search")
    return served


@pytest.fixture
def old(storage: Storage, spec: SpecOf) -> Study:
    """Return a search of 12 trials, all ended but the last: the second was pruned, the third failed."""
    study = create(storage, spec(), "test").study
    trials = [t for _ in range(12) for t in claim(storage, study, "search", "one", 1)]
    finish(storage, [t for t in trials if t.number not in (1, 2, 11)])
    finish(storage, [trials[1]], TrialState.PRUNED)
    with storage.transaction() as connection:
        results.finish(connection, {trials[2].lease.trial_id: TrialOutcome(TrialState.FAIL, reason="why")})
    return study


def fitting(storage: Storage, old: Study) -> list[TrialRow]:
    """Return the trials that the wide study inherits."""
    return [
        row
        for row in rows(storage, old.search_id)
        if row.state in (TrialState.COMPLETE, TrialState.PRUNED) and row.point["lr"] in SPACE["lr"]
    ]


# Inherited trials


def test_trials_in_the_space_are_finished_in_the_fork(storage: Storage, spec: SpecOf, old: Study) -> None:
    done = fork(storage, old, spec(**WIDE), "test")
    study, expected = done.creation.study, fitting(storage, old)
    assert 0 < len(expected) < 10
    assert (done.creation.did, study.inherited, done.left_out) == (
        "created",
        len(expected),
        10 - len(expected),
    )
    assert load(storage, "wide") == study
    assert origin_of(storage, study) == "small"
    assert origin_of(storage, old) is None
    trial_rows = rows(storage, study.search_id)
    assert [row.number for row in trial_rows] == list(range(len(trial_rows)))
    copies = trial_rows[: study.inherited]
    assert [(row.state, row.point, row.value) for row in copies] == [
        (row.state, row.point, row.value) for row in expected
    ]
    assert [row.record for row in copies] == [replace(row.record, forked_from=row.number) for row in expected]
    assert {row.state for row in trial_rows[study.inherited :]} == {TrialState.WAITING}
    assert rows(storage, study.full_id) == []


def test_optuna_reads_inherited_trials(storage: Storage, spec: SpecOf, old: Study) -> None:
    study = fork(storage, old, spec(**WIDE), "test").creation.study
    before = {trial.number: trial for trial in storage.study("small").trials}
    seen = storage.study("wide")
    for trial in seen.trials[: study.inherited]:
        origin = before[trial.user_attrs["forked_from"]]
        assert (trial.state, trial.value, trial.params) == (origin.state, origin.value, origin.params)
        assert trial.user_attrs == {**origin.user_attrs, "forked_from": origin.number}
        assert trial.intermediate_values == origin.intermediate_values
        assert len(trial.intermediate_values) == 2
        assert (trial.datetime_start, trial.datetime_complete) == (
            origin.datetime_start,
            origin.datetime_complete,
        )
        assert trial.distributions["lr"] == optuna.distributions.CategoricalDistribution((0.01, 0.1, 0.5))
    assert seen.best_value == min(row.value for row in fitting(storage, old) if row.value is not None)
    assert optuna.importance.get_param_importances(seen)


def test_fork_copies_epochs_and_no_costs(storage: Storage, spec: SpecOf, old: Study) -> None:
    study = fork(storage, old, spec(**WIDE), "test").creation.study
    with storage.transaction() as connection:
        epochs = [
            sorted(
                connection.execute(
                    select(schema.epochs.c.epoch, cast(schema.epochs.c.metrics, Text)).where(
                        schema.epochs.c.trial_id.in_(r.trial_id for r in trials)
                    )
                ).all()
            )
            for trials in (rows(storage, study.search_id), fitting(storage, old))
        ]
    assert epochs[0] == epochs[1]
    assert len(epochs[0]) == 2 * study.inherited
    assert status(storage, study).search.device_seconds == 0


def test_foreign_trials_are_not_inherited(storage: Storage, spec: SpecOf, old: Study) -> None:
    distributions = storage.study("small").trials[0].distributions
    point = {"lr": 0.1, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}
    storage.study("small").add_trial(
        optuna.trial.create_trial(value=-1.0, params=point, distributions=distributions)
    )
    done = fork(storage, old, spec(**WIDE), "test")
    assert done.creation.study.inherited == len(fitting(storage, old))
    assert min(row.value or 9 for row in rows(storage, done.creation.study.search_id)) > 0


def test_fork_without_a_trial_in_its_space(storage: Storage, spec: SpecOf, old: Study) -> None:
    done = fork(storage, old, spec(name="far", space={"lr": [0.7]}), "test")
    assert (done.creation.study.inherited, done.left_out, done.creation.added) == (0, 10, 8)
    assert len(run_trials(storage, done.creation.study)) == 8


def row(number: int, state: TrialState = TrialState.COMPLETE, **point: Value) -> TrialRow:
    whole = {"lr": 0.1, "batch_size": 16, "momentum": 0.5, "weight_decay": 0.0, **point}
    return TrialRow(100 + number, number, state, whole, TrialRecord(seed=1), 0.5)


def test_inherited_point_uses_the_floats_of_the_new_space() -> None:
    space = parse_space(
        {
            "lr": {"low": 0.1, "high": 0.7, "step": 0.1},
            "batch_size": {"low": 8, "high": 64, "log": True},
            "momentum": [0.5],
            "weight_decay": {"low": 0, "high": 1},
        }
    )
    inherited = trials_in_space(
        [row(0, lr=0.3), row(1, lr=0.35), row(2, batch_size=11), row(3, weight_decay=0.123)], space
    )
    assert [(r.number, point) for r, point in inherited] == [
        (0, row(0, lr=0.1 + 2 * 0.1).point),
        (2, row(2, batch_size=11).point),
        (3, row(3, weight_decay=0.123).point),
    ]


def test_first_trial_of_a_cell_is_inherited() -> None:
    space = parse_space({"lr": [0.1, 0.2], "batch_size": 16, "momentum": 0.5, "weight_decay": 0})
    inherited = trials_in_space([row(0), row(1, lr=0.2), row(2), row(3, lr=0.2)], space)
    assert [r.number for r, _ in inherited] == [0, 1]


def test_parameter_that_one_study_leaves_out_has_its_default() -> None:
    narrow = parse_space({"lr": [0.1, 0.2], "batch_size": 16})
    momentum, decay = (default_of(name) for name in ("momentum", "weight_decay"))
    whole = [
        row(0),
        row(1, momentum=momentum, weight_decay=decay),
        row(2, momentum=momentum, weight_decay=0.1),
    ]
    inherited = trials_in_space(whole, narrow)
    assert [(r.number, point) for r, point in inherited] == [(1, {"lr": 0.1, "batch_size": 16})]
    wide = parse_space(
        {"lr": [0.1, 0.2], "batch_size": 16, "momentum": [momentum], "weight_decay": [0.0, 0.1]}
    )
    few = replace(row(3), point={"lr": 0.1, "batch_size": 16})
    ((_, point),) = trials_in_space([few], wide)
    assert point == {"lr": 0.1, "batch_size": 16, "momentum": momentum, "weight_decay": decay}


# New trials


@pytest.mark.parametrize("sampler", [{"name": "random"}, {"name": "tpe", "startup": 1}, TPE])
def test_fork_fills_a_finite_space_without_repeats(
    storage: Storage, spec: SpecOf, old: Study, sampler: dict[str, Any]
) -> None:
    wanted = spec(**WIDE, sampler=sampler, search={"trials": 1000})
    study = fork(storage, old, wanted, "test").creation.study
    assert status(storage, study).search.budget == study.trials == 24
    assert not is_finished(storage, study, "search")
    new = run_trials(storage, study)
    assert sorted(trial.number for trial in new) == list(range(study.inherited, 24))
    assert len({cell(r.point) for r in rows(storage, study.search_id)}) == 24
    assert {trial.seed for trial in new} == {
        search_seed(study.spec, number) for number in range(study.inherited, 24)
    }


@pytest.mark.parametrize("sampler", [{"name": "random"}, TPE])
def test_inherited_trials_cost_no_budget(
    storage: Storage, spec: SpecOf, old: Study, sampler: dict[str, Any]
) -> None:
    wanted = spec(name="wide", space=CONTINUOUS, sampler=sampler, search={"trials": 5})
    creation = fork(storage, old, wanted, "test").creation
    study = creation.study
    assert study.trials == study.inherited + 5
    assert creation.added == (5 if sampler["name"] == "random" else max(0, 6 - study.inherited))
    assert len(run_trials(storage, study)) == 5
    now = status(storage, study).search
    assert (now.budget, now.finished) == (study.trials, study.trials)


def test_fork_of_a_fully_searched_space_is_finished_at_once(storage: Storage, spec: SpecOf) -> None:
    whole = create(storage, spec(search={"trials": 24}), "test").study
    run_trials(storage, whole)
    part = fork(storage, whole, spec(name="part", space={"lr": [0.1]}), "test")
    assert (part.creation.study.inherited, part.creation.added, part.left_out) == (8, 0, 16)
    assert is_finished(storage, part.creation.study, "search")
    assert [r.point["lr"] for r in promote(storage, part.creation.study).chosen] == [0.1]


def test_best_inherited_trial_is_promoted(storage: Storage, spec: SpecOf, old: Study) -> None:
    wanted = spec(name="wide", space={"lr": [0.01, 0.02, 0.1]}, search={"trials": 1}, promotion={"top": 1})
    study = fork(storage, old, wanted, "test").creation.study
    with pytest.raises(ConflictError, match=f"1 of {study.trials} search trials are not finished"):
        promote(storage, study)
    run_trials(storage, study)
    (chosen,) = promote(storage, study).chosen
    assert chosen.value == min(r.value for r in fitting(storage, old) if r.value is not None)
    assert chosen.record.forked_from is not None


def test_a_longer_plan_begins_with_the_shorter(storage: Storage, spec: SpecOf, old: Study) -> None:
    for space in (SPACE, CONTINUOUS):
        plans = []
        for name, counts in (("long", [9]), ("short", [3, 6, 9])):
            for count in counts:
                wanted = spec(name=name, space=space, search={"trials": count})
                study = fork(storage, old, wanted, "test").creation.study
            plans.append([r.point for r in rows(storage, study.search_id)])
            remove(storage, study, MemoryStore())
        assert plans[0] == plans[1]
        assert len({cell(point) for point in plans[0]}) == len(plans[0])


def test_plan_of_a_fork_repeats_no_inherited_point(storage: Storage, spec: SpecOf) -> None:
    """The fork has the seed of its origin but draws other points."""
    whole = create(storage, spec(space=CONTINUOUS), "test").study
    run_trials(storage, whole)
    study = fork(storage, whole, spec(name="again", space=CONTINUOUS), "test").creation.study
    assert study.inherited == 12
    assert len({cell(r.point) for r in rows(storage, study.search_id)}) == 24


def test_tpe_sees_inherited_trials(
    storage: Storage, spec: SpecOf, old: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Observation] = []
    suggest = TpeSampler.suggest

    def spy(sampler: TpeSampler, space: Any, history: Any, *arguments: Any) -> Any:
        seen.extend(history)
        return suggest(sampler, space, history, *arguments)

    monkeypatch.setattr(TpeSampler, "suggest", spy)
    wanted = spec(**WIDE, sampler={"name": "tpe", "startup": 1})
    study = fork(storage, old, wanted, "test").creation.study
    assert study.planned == study.inherited
    assert claim(storage, study, "search", "one", 1)
    assert [(o.state, o.value) for o in seen] == [(r.state, r.value) for r in fitting(storage, old)]
    assert all(o.curve is not None and o.curve.keys() == {1, 2} for o in seen)


def test_fork_can_be_forked(storage: Storage, spec: SpecOf, old: Study) -> None:
    first = fork(storage, old, spec(**WIDE, search={"trials": 4}), "test").creation.study
    run_trials(storage, first)
    second = fork(storage, first, spec(name="third", space=SPACE), "test").creation.study
    assert second.inherited == first.inherited + 4
    trial_rows = rows(storage, second.search_id)
    assert [r.record.forked_from for r in trial_rows[: second.inherited]] == list(range(second.inherited))
    assert origin_of(storage, second) == "wide"


# Repeated and refused forks


def test_repeated_fork_changes_nothing(storage: Storage, spec: SpecOf, old: Study) -> None:
    first = fork(storage, old, spec(**WIDE), "test").creation
    before = rows(storage, first.study.search_id)
    (left,) = (r for r in rows(storage, old.search_id) if r.state == TrialState.RUNNING)
    with storage.transaction() as connection:
        results.finish(connection, {left.trial_id: trained(0.1, accuracy=0.9)})
    again = fork(storage, old, spec(**WIDE), "test").creation
    assert (again.did, again.added, again.study) == ("unchanged", 0, first.study)
    assert rows(storage, first.study.search_id) == before
    assert create(storage, spec(**WIDE), "test").did == "unchanged"


def test_fork_can_be_extended(storage: Storage, spec: SpecOf, old: Study) -> None:
    study = fork(storage, old, spec(**WIDE, search={"trials": 4}), "test").creation.study
    larger = spec(**WIDE, search={"trials": 6})
    calls: tuple[Callable[[], Creation], ...] = (
        lambda: create(storage, larger, "test"),
        lambda: fork(storage, old, replace_trials(larger, 7), "test").creation,
    )
    for grow in calls:
        creation = grow()
        assert creation.did == "extended"
        assert creation.study.inherited == study.inherited
    assert len(rows(storage, study.search_id)) == study.inherited + 7


def replace_trials(spec: StudySpec, trials: int) -> StudySpec:
    return spec.model_copy(update={"search": spec.search.model_copy(update={"trials": trials})})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "ensnet"}}, 'model.name = "ensnet": the study \'small\' has "lenet"'),
        ({"data": {"mini": 0.2}}, "data.mini = 0.2: the study 'small' has 0.1"),
        ({"data": {"mean": 0.5, "std": 0.5}}, "data.mean = 0.5: the study 'small' has null"),
        ({"seed": 2}, "seed = 2: the study 'small' has 1"),
        ({"search": {"epochs": 10}}, "search.epochs = 10: the study 'small' has 9"),
        ({"name": "small"}, "name = 'small': is the study to fork"),
        ({"name": "taken"}, "name = 'taken': the stored study of that name is not a fork of 'small'"),
        ({"name": "theirs"}, "name = 'theirs': the storage has a study 'theirs' that hpo did not create"),
    ],
)
def test_incomparable_fork_is_refused(
    storage: Storage, spec: SpecOf, old: Study, changes: dict[str, Any], says: str
) -> None:
    create(storage, spec(name="taken"), "test")
    optuna.create_study(study_name="theirs", storage=storage.backend)
    before = count_all(storage)
    with pytest.raises(ConflictError) as caught:
        fork(storage, old, spec(**{"name": "new", **changes}), "new.toml")
    assert str(caught.value).startswith(f"new.toml: {says}")
    assert "\n" not in str(caught.value)
    assert count_all(storage) == before


def test_fork_may_change_keys_that_keep_losses_comparable(storage: Storage, spec: SpecOf, old: Study) -> None:
    wanted = spec(
        name="other",
        sampler={"name": "tpe", "startup": 3},
        pruner={"name": "median"},
        stop={"target": 0.1},
        full={"pretrain": {"epochs": 5}, "clip": 2.0},
        promotion={"top": 2, "seeds": 2},
        search={"trials": 3},
    )
    assert fork(storage, old, wanted, "test").creation.study.inherited == 10


def test_recreated_study_is_another_origin(
    storage: Storage, spec: SpecOf, old: Study, tmp_path: Path
) -> None:
    fork(storage, old, spec(**WIDE), "test")
    remove(storage, old, MemoryStore())
    anew = create(storage, spec(), "test").study
    with pytest.raises(ConflictError, match="is not a fork of 'small'"):
        fork(storage, anew, spec(**WIDE), "test")
    with pytest.raises(NotFoundError, match="deleted"):
        fork(storage, old, spec(name="late"), "test")
    assert names(storage) == ["small", "wide"]


@pytest.mark.parametrize(
    ("module", "step"), [(studies, "insert"), (copies, "copy_ended"), (trials, "enqueue")]
)
def test_failing_fork_leaves_no_trace(
    storage: Storage, spec: SpecOf, old: Study, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    before, real = count_all(storage), getattr(module, step)

    def fails_late(*arguments: Any) -> object:
        real(*arguments)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(module, step, fails_late)
        with pytest.raises(ZeroDivisionError):
            fork(storage, old, spec(**WIDE), "test")
    assert count_all(storage) == before
    assert fork(storage, old, spec(**WIDE), "test").creation.did == "created"


def test_removing_the_origin_keeps_the_fork(
    storage: Storage, spec: SpecOf, old: Study, tmp_path: Path
) -> None:
    study = fork(storage, old, spec(**WIDE), "test").creation.study
    before = rows(storage, study.search_id)
    remove(storage, old, MemoryStore())
    assert rows(storage, study.search_id) == before
    assert run_trials(storage, study)


# Several processes


def test_eight_processes_fork_once(storage: Storage, raw: Callable[..., dict[str, Any]], old: Study) -> None:
    made = at_once(8, fork_study, storage.url, "small", raw(**WIDE))
    assert sorted(did for did, _, _ in made) == ["created"] + ["unchanged"] * 7
    assert len({(study_id, inherited) for _, study_id, inherited in made}) == 1
    study = load(storage, "wide")
    assert len(rows(storage, study.search_id)) == study.inherited + 12


def test_fork_of_a_running_study_inherits_only_ended_trials(
    storage: Storage, spec: SpecOf, raw: Callable[..., dict[str, Any]]
) -> None:
    original = create(storage, spec(space=CONTINUOUS, search={"trials": 40}), "test").study
    wanted = raw(name="wide", space=CONTINUOUS, search={"trials": 4})
    creation, *results = at_once(4, fork_or_run_trials, storage.url, "small", wanted)
    assert isinstance(creation, tuple)
    _, _, inherited = creation
    shares = [result for result in results if isinstance(result, Claims)]
    assert sum(len(pack) for share in shares for pack in share.packs) == 40
    study = load(storage, "wide")
    originals = {r.number: r for r in rows(storage, original.search_id)}
    copies = rows(storage, study.search_id)[: study.inherited]
    assert len(copies) == inherited
    for copy in copies:
        assert copy.record.forked_from is not None
        origin = originals[copy.record.forked_from]
        expected = replace(
            origin,
            trial_id=copy.trial_id,
            number=copy.number,
            record=replace(origin.record, forked_from=origin.number),
        )
        assert copy == expected
        assert copy.value == loss(copy.point)
