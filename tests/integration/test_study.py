"""Stored studies: create, extend, refuse, look up, remove, and read through Optuna."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import func, select
from support.artifacts import MemoryStore, away
from support.claims import claim
from support.clients import at_once, create_study
from support.epochs import epoch_result
from support.outcomes import trained

from hpo.artifacts.folder import FolderStore
from hpo.errors import ConflictError, NotFoundError
from hpo.search.samplers.points import plan
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, leases, records, results, schema, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.results import TrialOutcome
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.status import status
from hpo.study.stored import load, names, remove
from hpo.study.study import Study, search_seed
from hpo.values.epoch import EpochResult
from hpo.values.objective import LOSS
from hpo.values.space import cell

SpecOf = Callable[..., StudySpec]

CONTINUOUS = {
    "lr": {"low": 1e-4, "high": 0.5, "log": True},
    "batch_size": {"low": 8, "high": 64, "step": 8},
    "momentum": [0.0, 0.9],
    "weight_decay": {"low": 0.0, "high": 0.01},
}


def rows(storage: Storage, study_id: int) -> list[trials.TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study_id).ours


def points(storage: Storage, study: Study) -> list[dict[str, float]]:
    return [row.point for row in rows(storage, study.search_id)]


def counts(storage: Storage) -> dict[str, int]:
    """Return the number of rows of each table that has rows."""
    tables = [*schema.optuna_metadata.sorted_tables, *schema.metadata.sorted_tables]
    with storage.transaction() as connection:
        row_counts = {
            table.fullname: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
            if table.name != "version_info"
        }
    return {name: count for name, count in row_counts.items() if count}


# Creation


def test_new_random_study_queues_its_whole_plan(storage: Storage, spec: SpecOf) -> None:
    wanted = spec()
    creation = create(storage, wanted, "test")
    assert (creation.did, creation.added) == ("created", 12)
    trial_rows = rows(storage, creation.study.search_id)
    assert [row.point for row in trial_rows] == plan(wanted.space, 12, wanted.seed)
    assert [row.number for row in trial_rows] == list(range(12))
    assert {row.state for row in trial_rows} == {TrialState.WAITING}
    assert [row.record for row in trial_rows] == [TrialRecord(search_seed(wanted, n)) for n in range(12)]
    assert len({row.record.seed for row in trial_rows}) == 12
    assert rows(storage, creation.study.full_id) == []


def test_new_tpe_study_queues_its_startup_trials(storage: Storage, spec: SpecOf) -> None:
    creation = create(storage, spec(sampler={"name": "tpe", "startup": 4}), "test")
    assert (creation.did, creation.added) == ("created", 4)
    assert points(storage, creation.study) == plan(creation.study.spec.space, 4, 1)


def test_space_smaller_than_the_budget_is_queued_once(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 100}), "test").study
    assert len({cell(point) for point in points(storage, study)}) == len(points(storage, study)) == 24


def test_creating_again_changes_nothing(storage: Storage, spec: SpecOf) -> None:
    first = create(storage, spec(space=CONTINUOUS), "test")
    before = rows(storage, first.study.search_id)
    again = create(storage, spec(space=CONTINUOUS), "test")
    assert (again.did, again.added, again.study) == ("unchanged", 0, first.study)
    assert rows(storage, first.study.search_id) == before


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_more_trials_extend_the_study(storage: Storage, spec: SpecOf, sampler: str) -> None:
    changes = {"sampler": {"name": sampler, "startup": 8}, "space": CONTINUOUS}
    first = create(storage, spec(**changes, search={"trials": 6}), "test").study
    before = rows(storage, first.search_id)
    larger = spec(**changes, search={"trials": 20})
    creation = create(storage, larger, "test")
    assert (creation.did, creation.added) == ("extended", 14)
    assert (creation.study.search_id, creation.study.key) == (first.search_id, first.key)
    assert load(storage, "small").spec == larger
    after = rows(storage, first.search_id)
    assert after[:6] == before
    assert [row.point for row in after] == plan(larger.space, 20 if sampler == "random" else 8, 1)
    assert [row.record.seed for row in after] == [search_seed(larger, n) for n in range(len(after))]


def test_longer_plan_begins_with_the_shorter(storage: Storage, spec: SpecOf) -> None:
    space = {"lr": [0.001, 0.003, 0.01, 0.03], "weight_decay": [0.0, 0.1, 0.2, 0.3]}  # 64 cells
    short = create(storage, spec(name="short", space=space, search={"trials": 28}), "test").study
    long = create(storage, spec(name="long", space=space, search={"trials": 56}), "test").study
    assert points(storage, long)[:28] == points(storage, short)
    create(storage, spec(name="short", space=space, search={"trials": 56}), "test")
    assert points(storage, short) == points(storage, long)


@pytest.mark.parametrize(
    ("sampler", "momentum", "trials", "inherited", "expected", "planned"),
    [
        ("random", [0.0, 0.9], 6, 0, 6, 6),
        ("random", [0.0, 0.9], 100, 0, 24, 24),  # all cells
        ("random", [0.0, 0.9], 6, 5, 11, 11),
        ("random", [0.0, 0.9], 20, 5, 24, 24),
        ("random", [0.0, 0.9], 6, 24, 24, 24),
        ("random", {"low": 0, "high": 0.9}, 100, 5, 105, 105),
        ("tpe", [0.0, 0.9], 100, 0, 24, 4),
        ("tpe", [0.0, 0.9], 100, 3, 24, 4),
        ("tpe", [0.0, 0.9], 100, 7, 24, 7),
        ("tpe", {"low": 0, "high": 0.9}, 100, 0, 100, 4),
        ("tpe", {"low": 0, "high": 0.9}, 3, 0, 3, 3),
        ("tpe", {"low": 0, "high": 0.9}, 3, 7, 10, 7),
    ],
)
def test_number_of_trials_is_limited_by_budget_and_space(
    spec: SpecOf, sampler: str, momentum: object, trials: int, inherited: int, expected: int, planned: int
) -> None:
    wanted = spec(
        space={"momentum": momentum}, sampler={"name": sampler, "startup": 4}, search={"trials": trials}
    )
    study = Study(wanted, 1, 2, "key", "fingerprint", inherited)
    assert (study.trials, study.planned) == (expected, planned)


def test_stop_rules_may_change(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.5, "patience": 9}), "test").study
    before = rows(storage, study.search_id)
    for rules in ({"target": 0.1}, {"patience": 3, "device_hours": 2.0}, {}):
        creation = create(storage, spec(stop=rules), "test")
        assert (creation.did, creation.added) == ("updated", 0)
        assert load(storage, "small").spec == spec(stop=rules)
    assert rows(storage, study.search_id) == before
    creation = create(storage, spec(stop={"target": 0.2}, search={"trials": 14}), "test")
    assert (creation.did, creation.added) == ("extended", 2)


def test_stored_study_keeps_its_first_rung(storage: Storage, spec: SpecOf) -> None:
    long = {"trials": 4, "epochs": 12}
    stored = create(storage, spec(search=long, pruner={"name": "pause", "min_epochs": 1}), "test").study
    again = create(storage, spec(search=long, pruner={"name": "pause"}), "test")
    assert (again.did, again.study.spec.make_pruner().pause_epochs) == ("unchanged", (1, 2, 4, 8))
    more = create(storage, spec(search={**long, "trials": 5}, pruner={"name": "pause"}), "test")
    assert more.did == "extended"
    assert load(storage, stored.name).spec.to_json()["pruner"]["min_epochs"] == 1
    with pytest.raises(ConflictError, match=r"pruner.min_epochs = 4: the stored study 'small' has 1"):
        create(storage, spec(search=long, pruner={"name": "pause", "min_epochs": 4}), "test")


def test_more_promotions_add_no_search_trials(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(), "test")
    creation = create(storage, spec(promotion={"top": 3, "seeds": 2}), "test")
    assert (creation.did, creation.added) == ("extended", 0)
    assert load(storage, "small").spec.promotion.top == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "ensnet"}}, 'model.name = "ensnet": the stored study \'small\' has "lenet"'),
        ({"data": {"mini": 0.2}}, "data.mini = 0.2: the stored study 'small' has 0.1"),
        ({"data": {"mean": 0.5, "std": 0.5}}, "data.mean = 0.5: the stored study 'small' has null"),
        ({"seed": 2}, "seed = 2: the stored study 'small' has 1"),
        ({"space": {"lr": [0.001, 0.01]}}, "space.lr = [0.001, 0.01]"),
        ({"space": {"lr": {"low": 0.001, "high": 0.1}}}, 'space.lr = {"low": 0.001, "high": 0.1}'),
        ({"sampler": {"name": "tpe"}}, 'sampler.name = "tpe"'),
        ({"sampler": {"startup": 11}}, "sampler.startup = 11"),
        ({"pruner": {"name": "median"}}, 'pruner.name = "median"'),
        ({"search": {"epochs": 10}}, "search.epochs = 10: the stored study 'small' has 9"),
        ({"full": {"pretrain": {"epochs": 3}}}, "full.pretrain.epochs = 3"),
        ({"full": {"clip": 2.0}}, "full.clip = 2.0"),
        ({"full": {"augment": {"rotation": 5.0}}}, "full.augment.rotation = 5.0"),
        (
            {"search": {"trials": 11}},
            "search.trials = 11: the stored study 'small' has 12, and may only grow",
        ),
        ({"promotion": {"top": 1}}, "promotion.top = 1: the stored study 'small' has 2, and may only grow"),
        ({"promotion": {"seeds": 1}}, "promotion.seeds = 1: the stored study 'small' has 3"),
    ],
)
def test_incomparable_spec_is_refused(
    storage: Storage, spec: SpecOf, changes: dict[str, Any], says: str
) -> None:
    stored = {"promotion": {"top": 2, "seeds": 3}}
    study = create(storage, spec(**stored), "test").study
    before = counts(storage)
    changed = spec(
        **{**stored, **{k: {**stored.get(k, {}), **v} if k in stored else v for k, v in changes.items()}}
    )
    with pytest.raises(ConflictError) as caught:
        create(storage, changed, "small.toml")
    assert str(caught.value).startswith(f"small.toml: {says}")
    assert "\n" not in str(caught.value)
    assert counts(storage) == before
    assert load(storage, "small") == study


def test_spec_that_grows_and_shrinks_is_refused(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(promotion={"top": 2}), "test")
    with pytest.raises(ConflictError, match=r"promotion\.top = 1"):
        create(storage, spec(search={"trials": 20}), "test")
    assert len(rows(storage, load(storage, "small").search_id)) == 12


def test_eight_processes_create_one_study(storage: Storage, raw: Callable[..., dict[str, Any]]) -> None:
    made = at_once(8, create_study, storage.url, raw())
    assert sorted(did for did, _, _ in made) == ["created"] + ["unchanged"] * 7
    assert len({study_id for _, study_id, _ in made}) == len({key for _, _, key in made}) == 1
    study = load(storage, "small")
    assert points(storage, study) == plan(study.spec.space, 12, 1)
    assert counts(storage)["studies"] == 2


@pytest.mark.parametrize("taken", ["small", "small-full"])
def test_foreign_study_is_not_touched(storage: Storage, spec: SpecOf, taken: str) -> None:
    optuna.create_study(study_name=taken, storage=storage.backend)
    before = counts(storage)
    message = f"name = 'small': the storage has a study '{taken}' that hpo did not create"
    with pytest.raises(ConflictError, match=message):
        create(storage, spec(), "test")
    assert counts(storage) == before
    assert names(storage) == []


@pytest.mark.parametrize(
    ("module", "step"),
    [(studies, "insert"), (trials, "enqueue"), (trials, "set_points"), (records, "insert")],
)
def test_failing_creation_leaves_no_trace(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    real, calls = getattr(module, step), iter(range(100))

    def fails_late(*arguments: Any) -> object:
        done = real(*arguments)
        if next(calls) == (1 if module is studies else 0):
            raise ZeroDivisionError
        return done

    monkeypatch.setattr(module, step, fails_late)
    with pytest.raises(ZeroDivisionError):
        create(storage, spec(), "test")
    assert counts(storage) == {}
    assert create(storage, spec(), "test").did == "created"


def test_failing_extension_changes_nothing(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(storage, spec(), "test").study
    with monkeypatch.context() as patch:
        patch.setattr(trials, "set_points", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create(storage, spec(search={"trials": 20}), "test")
    assert load(storage, "small") == study
    assert len(rows(storage, study.search_id)) == 12


# Names


def test_names_excludes_foreign_studies(storage: Storage, spec: SpecOf) -> None:
    assert names(storage) == []
    for name in ("b", "a.1", "c"):
        create(storage, spec(name=name), "test")
    optuna.create_study(study_name="theirs", storage=storage.backend)
    assert names(storage) == ["a.1", "b", "c"]


def test_study_loads_by_either_name(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    assert load(storage, "small") == load(storage, "small-full") == study


def test_missing_study_is_reported_with_a_hint(storage: Storage, spec: SpecOf) -> None:
    with pytest.raises(NotFoundError, match=r"^no study 'small' in this storage; stored: none$"):
        load(storage, "small")
    create(storage, spec(), "test")
    create(storage, spec(name="other"), "test")
    with pytest.raises(NotFoundError, match=r"^no study 'smal' in this storage; did you mean 'small'\?$"):
        load(storage, "smal")
    with pytest.raises(NotFoundError, match=r"^no study 'xyz' in this storage; stored: other, small$"):
        load(storage, "xyz")


def test_foreign_study_is_not_found(storage: Storage) -> None:
    optuna.create_study(study_name="theirs", storage=storage.backend)
    with pytest.raises(NotFoundError):
        load(storage, "theirs")


# What Optuna reads


def report(number: int, epoch: int, loss: float) -> EpochResult:
    return epoch_result(number, epoch, loss, validation_accuracy=0.9, evaluation_seconds=0.5)


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A time zone far from UTC: Optuna stores UTC and shows local time."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("east")
def test_optuna_reads_the_stored_study(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space=CONTINUOUS, search={"trials": 6}), "test").study
    trials = [t for _ in range(6) for t in claim(storage, study, "search", "one", 1)]
    ids = [trial.lease.trial_id for trial in trials]
    with storage.transaction() as connection:
        leases.hold(connection, [trial.lease for trial in trials])
        for epoch in (1, 2):
            results.report(
                connection, {i: report(n, epoch, 1 / (n + epoch)) for n, i in enumerate(ids[:4])}, LOSS
            )
        results.finish(connection, {ids[0]: trained(0.5, accuracy=0.8)}, device="cpu")
        results.finish(connection, {ids[1]: trained(0.25, accuracy=0.9)})
        results.finish(connection, {ids[2]: TrialOutcome(TrialState.PRUNED, 0.3)})
        results.finish(connection, {ids[3]: TrialOutcome(TrialState.FAIL, reason="why")})
        leases.release(connection, [trials[4].lease])

    seen = optuna.load_study(study_name="small", storage=storage.backend)
    assert seen.directions == [StudyDirection.MINIMIZE]
    assert seen.user_attrs["hpo:fingerprint"] == study.spec.fingerprint
    assert seen.user_attrs["hpo:stage"] == "search"
    assert StudySpec.from_stored(seen.user_attrs["hpo:spec"], "stored") == study.spec
    assert [t.state.name for t in seen.trials] == [
        "COMPLETE",
        "COMPLETE",
        "PRUNED",
        "FAIL",
        "WAITING",
        "RUNNING",
    ]
    assert [t.number for t in seen.trials] == list(range(6))
    assert [t.value for t in seen.trials] == [0.5, 0.25, 0.3, None, None, None]
    assert [t.params for t in seen.trials] == plan(study.spec.space, 6, 1)
    assert seen.trials[0].distributions == {
        "lr": FloatDistribution(1e-4, 0.5, log=True),
        "batch_size": IntDistribution(8, 64, step=8),
        "momentum": CategoricalDistribution((0.0, 0.9)),
        "weight_decay": FloatDistribution(0.0, 0.01),
    }
    assert seen.trials[1].intermediate_values == {1: 1 / 2, 2: 1 / 3}
    assert seen.trials[0].user_attrs == {"seed": search_seed(study.spec, 0), "accuracy": 0.8, "device": "cpu"}
    assert seen.trials[3].user_attrs["reason"] == "why"
    assert (seen.best_trial.number, seen.best_value, seen.best_params) == (1, 0.25, points(storage, study)[1])
    for trial in seen.trials[:4]:
        assert trial.datetime_start is not None
        assert abs(trial.datetime_start - datetime.now()) < timedelta(minutes=5)
        assert trial.duration is not None
        assert timedelta(0) <= trial.duration < timedelta(minutes=5)
    assert seen.trials[5].duration is None


def test_optuna_works_on_the_stored_study(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    for trial in (t for _ in range(12) for t in claim(storage, study, "search", "one", 1)):
        with storage.transaction() as connection:
            loss = trial.point["lr"]
            results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, loss)})
    seen = storage.study("small")
    importance = optuna.importance.get_param_importances(seen)
    assert max(importance, key=lambda name: importance[name]) == "lr"
    assert seen.ask(seen.trials[0].distributions).number == 12  # Optuna continues our numbering


# Removal


def served(storage: Storage, study: Study) -> None:
    """Return a study with rows in every hpo table: a finished search, and a full training of its best
    trial."""
    while not is_finished(storage, study, "search"):
        for trial in claim(storage, study, "search", "one", 16):
            with storage.transaction() as connection:
                results.report(connection, {trial.lease.trial_id: report(trial.number, 1, 0.5)}, LOSS)
                costs.charge(connection, {trial.lease.trial_id: {"training": 1.0}})
                results.finish(
                    connection,
                    {trial.lease.trial_id: trained(0.5)},
                )
    promote(storage, study)
    assert claim(storage, study, "full", "one", 16)


def test_removal_leaves_no_trace(storage: Storage, spec: SpecOf, tmp_path: Path) -> None:
    kept = create(storage, spec(name="kept"), "test").study
    before = counts(storage)
    study = create(storage, spec(), "test").study
    served(storage, study)
    for each_study in (study, kept):
        store = FolderStore(tmp_path / each_study.artifacts_name)
        for name in ("weights", "checkpoints/a", "bundle/params.json"):
            store.put(name, b"")
    remove(storage, study, FolderStore(tmp_path / study.artifacts_name))
    assert counts(storage) == before
    assert names(storage) == ["kept"]
    assert list(tmp_path.iterdir()) == [tmp_path / kept.artifacts_name]
    with pytest.raises(NotFoundError):
        load(storage, "small")


def test_removal_goes_on_after_a_file_that_cannot_be_deleted(storage: Storage, spec: SpecOf) -> None:
    study, store = create(storage, spec(), "test").study, MemoryStore()
    for name in ("checkpoints/a", "trial-0000-1.safetensors"):
        store.put(name, b"")
    store.before = lambda operation, name: (
        away() if (operation, name) == ("delete", "checkpoints/a") else None
    )
    assert remove(storage, study, store) == ["the store: No space left on device"]
    assert list(store.files) == ["checkpoints/a"]
    assert names(storage) == []


def test_removal_of_a_study_whose_files_cannot_be_listed(storage: Storage, spec: SpecOf) -> None:
    study, store = create(storage, spec(), "test").study, MemoryStore()
    store.before = away
    assert remove(storage, study, store) == ["the store: No space left on device"]
    assert names(storage) == []


def test_recreated_study_has_another_key(storage: Storage, spec: SpecOf, tmp_path: Path) -> None:
    first = create(storage, spec(), "test").study
    remove(storage, first, MemoryStore())
    second = create(storage, spec(), "test").study
    assert second.key != first.key
    assert second.artifacts_name != first.artifacts_name
    with pytest.raises(NotFoundError, match="deleted"):
        claim(storage, first, "search", "late", 4)


def test_removing_twice_is_refused(storage: Storage, spec: SpecOf, tmp_path: Path) -> None:
    study = create(storage, spec(), "test").study
    remove(storage, study, MemoryStore())
    with pytest.raises(NotFoundError, match="the study has been deleted"):
        remove(storage, study, MemoryStore())


def test_failing_removal_removes_nothing(
    storage: Storage, spec: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(storage, spec(), "test").study
    before, real = counts(storage), studies.delete

    def fails_late(connection: Any, study_id: int) -> None:
        real(connection, study_id)
        if study_id == study.full_id:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(studies, "delete", fails_late)
        with pytest.raises(ZeroDivisionError):
            remove(storage, study, MemoryStore())
    assert counts(storage) == before
    assert load(storage, "small") == study


def test_removal_waits_for_a_writing_worker_and_revokes_its_lease(
    storage: Storage, spec: SpecOf, tmp_path: Path, until_blocked: Callable[[], None]
) -> None:
    study = create(storage, spec(), "test").study
    (trial,) = claim(storage, study, "search", "one", 1)
    trial_id = trial.lease.trial_id
    removal = threading.Thread(target=remove, args=(storage, study, MemoryStore()))
    with storage.transaction() as connection:
        assert leases.hold(connection, [trial.lease]) == {trial_id}
        removal.start()
        until_blocked()
        results.report(connection, {trial_id: report(0, 1, 0.5)}, LOSS)
    removal.join(20)
    assert counts(storage) == {}
    with storage.transaction() as connection:
        assert leases.hold(connection, [trial.lease]) == set()
    for stage in ("search", "full"):
        with pytest.raises(NotFoundError, match="the study has been deleted"):
            claim(storage, study, stage, "one", 1)


def test_deletion_through_optuna_deletes_our_rows(storage: Storage, spec: SpecOf) -> None:
    """The dashboard deletes studies this way."""
    study = create(storage, spec(), "test").study
    served(storage, study)
    for name in ("small", "small-full"):
        optuna.delete_study(study_name=name, storage=storage.backend)
    assert counts(storage) == {}


def test_search_survives_deletion_of_its_full_training(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    served(storage, study)
    optuna.delete_study(study_name="small-full", storage=storage.backend)
    loaded_study = load(storage, "small")
    assert loaded_study == replace(study, full_id=loaded_study.full_id)
    assert loaded_study.full_id != study.full_id
    now = status(storage, loaded_study)
    assert (now.search.finished, now.full.finished) == (12, 0)
    assert promote(storage, loaded_study).added == 1
    assert create(storage, spec(), "test").did == "unchanged"
