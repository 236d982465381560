"""Fourteen ways of Optuna that surprise a service, in numbered order: what ours does in each case.

Where it costs little, a test also shows what Optuna does; such a line fails when Optuna comes to behave
otherwise, and then the reason for our own way is to be thought over.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
import torch
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat, HeartbeatThread
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, text
from support import reporters
from support.claims import claim
from support.clients import at_once, create_study, run_trials
from support.epochs import epoch_result
from support.outcomes import trained
from support.reporters import patient_runtime, target
from support.workloads import digits_workload

from hpo.artifacts.folder import FolderStore
from hpo.errors import InputError, StorageError, TrainingError, UnavailableError
from hpo.search.samplers.tpe import TpeSampler
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store import leases, results, trials
from hpo.store.connection import Storage, open_url
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.store.url import parse_url
from hpo.store.workers import WorkerEntry
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.schedule import LeasedTrial
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.values.epoch import EpochResult
from hpo.values.space import Point, cell
from hpo.worker.context import WorkerSettings
from hpo.worker.lease_renewal import LeaseRenewal
from hpo.worker.outbox import Outbox
from hpo.worker.pack_training import PackTraining
from hpo.worker.reporter import Reporter
from hpo.worker.worker import Worker

SpecOf = Callable[..., StudySpec]
ReporterOf = Callable[[Study, list[LeasedTrial]], Reporter]
WorkerOf = Callable[..., Worker]
BeforeEpoch = Callable[[int, Callable[[], object]], None]

DIGITS = {"name": "digits", "mini": 0.5, "validation": 0.4}
ASHA = {"name": "asha", "min_epochs": 1, "reduction": 3}
TPE = {"name": "tpe", "startup": 10}
ONE_PACK = {"batch_size": 16}  # 12 of the 24 cells, all of one batch size
CELLS_768: Mapping[str, list[float]] = {
    "lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3],
    "batch_size": [16, 32, 64, 128],
    "momentum": [0.0, 0.5, 0.9, 0.99],
    "weight_decay": [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2],
}


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def states(storage: Storage, study: Study) -> list[str]:
    return [row.state.name for row in rows(storage, study)]


def curve(storage: Storage, study: Study, number: int) -> dict[int, float]:
    return storage.study(study.name).trials[number].intermediate_values


def lose(storage: Storage, *trials: LeasedTrial) -> None:
    """Lets the leases of these trials run out."""
    with storage.transaction() as connection:
        for trial in trials:
            connection.execute(
                text(
                    "UPDATE hpo.lease SET seconds = 0, expires = now() - interval '1 s' WHERE trial_id = :id"
                ),
                {"id": trial.lease.trial_id},
            )


def finish(storage: Storage, trials: list[LeasedTrial]) -> None:
    with storage.transaction() as connection:
        for trial_id in leases.hold(connection, [trial.lease for trial in trials]):
            results.finish(connection, {trial_id: trained(0.5)})


def cut_connections(storage: Storage) -> None:
    """Ends every connection to the database, as a failing network or an administrator does."""
    engine = create_engine(storage.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def losses(epoch: int, by_number: Mapping[int, float]) -> list[EpochResult]:
    return [epoch_result(number, epoch, loss, train_loss=loss) for number, loss in by_number.items()]


@pytest.fixture
def reporter(storage: Storage) -> Iterator[ReporterOf]:
    with Outbox() as outbox:
        yield lambda study, trials: reporters.reporter(target(storage, study), trials, outbox)


@pytest.fixture
def worker(storage: Storage, spec: SpecOf, tmp_path: Path) -> WorkerOf:
    """`worker(search={"trials": 2})`: one that trains the digits, in this process, for a study so changed."""

    def made(**changes: Any) -> Worker:
        torch.set_num_threads(1)
        small = {"data": DIGITS, "space": ONE_PACK, "search": {"trials": 3, "epochs": 3}, **changes}
        study = create(storage, spec(**small), "test").study
        settings = WorkerSettings("w", "cpu", FolderStore(tmp_path / "study"))
        return Worker(storage, study, PackTraining(digits_workload(study.spec)), settings, patient_runtime())

    return made


@pytest.fixture
def before_epoch(monkeypatch: pytest.MonkeyPatch) -> BeforeEpoch:
    """`before_epoch(2, act)`: `act` is called in the midst of training, before the second epoch of a pack."""

    def install(number: int, act: Callable[[], object]) -> None:
        train, calls = PackSession.epoch, iter(range(1, 1000))

        def epoch(training: PackSession) -> list[EpochResult]:
            if next(calls) == number:
                act()
            return train(training)

        monkeypatch.setattr(PackSession, "epoch", epoch)

    return install


@contextmanager
def experimental() -> Iterator[None]:
    """Optuna's heartbeat warns that it is experimental, and the tests make an error of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@pytest.fixture
def optuna_storage(storage: Storage) -> Iterator[Callable[..., RDBStorage]]:
    """`optuna_storage(heartbeat_interval=60)`: Optuna's storage with its own defaults, on the same
    database."""
    made = []

    def opened(**options: Any) -> RDBStorage:
        url = storage.url.render_as_string(hide_password=False)
        with experimental():
            made.append(RDBStorage(url, skip_table_creation=True, **options))
        return made[-1]

    yield opened
    for backend in made:
        backend.engine.dispose()


# 1


def test_reclaimed_trial_is_pruned_at_its_rung(storage: Storage, spec: SpecOf, reporter: ReporterOf) -> None:
    """The retry of Optuna's callback inherits the notes that rungs are passed, and no rung before the last of
    them prunes it. Ours stays one trial whatever happens, and its curve alone is judged."""
    study = create(storage, spec(space=ONE_PACK, pruner=ASHA), "test").study
    trials = claim(storage, study, "search", "one", 12)
    pack = reporter(study, trials)
    assert pack.report(losses(1, {n: 1.0 + n for n in range(12)})) == set(range(4, 12))
    lose(storage, trials[0])
    (taken,) = claim(storage, study, "search", "another", 12)
    assert taken.number == 0
    again = reporter(study, [taken])
    assert again.report(losses(1, {0: 9e9})) == set()  # it passed this rung, and what is on record stays
    assert pack.report(losses(3, {n: 1.0 + n for n in (1, 2, 3)})) == {0, 2, 3}  # 0 is theirs no more
    assert again.report(losses(2, {0: 9e9})) == set()  # no rung
    assert again.report(losses(3, {0: 9e9})) == {0}
    assert curve(storage, study, 0) == {1: 1.0, 2: 9e9, 3: 9e9}
    assert states(storage, study) == ["PRUNED", "RUNNING"] + ["PRUNED"] * 10


def test_trial_lost_before_its_first_rung_is_pruned_there(
    storage: Storage, spec: SpecOf, reporter: ReporterOf
) -> None:
    study = create(storage, spec(space=ONE_PACK, pruner={**ASHA, "min_epochs": 2}), "test").study
    trials = claim(storage, study, "search", "one", 12)
    pack = reporter(study, trials)
    for epoch in (1, 2):
        pack.report(losses(epoch, {n: 1.0 + n for n in range(1, 12)}))
    lose(storage, trials[0])
    (taken,) = claim(storage, study, "search", "another", 12)
    again = reporter(study, [taken])
    assert again.report(losses(1, {0: 9e9})) == set()
    assert again.report(losses(2, {0: 9e9})) == {0}


def test_optuna_retry_passes_a_rung_with_the_worst_loss() -> None:
    study = optuna.create_study(pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=3))
    for loss in range(9):
        trial = study.ask()
        trial.report(float(loss), 1)
        trial.should_prune()
    with experimental():
        RetryHeartbeatStaleTrialCallback()(study, study.trials[0])
    retry = study.ask()
    retry.report(9e9, 1)
    assert not retry.should_prune()


# 2


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with")
def test_running_trial_without_a_lease_is_reclaimed(
    storage: Storage, spec: SpecOf, optuna_storage: Callable[..., RDBStorage]
) -> None:
    """Optuna's `ask` records no heartbeat, and what has none is never found stale. A claim of ours takes such
    a trial over if it is a point of the space, and fails it with the reason if it is none."""
    study = create(storage, spec(search={"trials": 2}), "test").study
    their_study = optuna.load_study(study_name="small", storage=optuna_storage(heartbeat_interval=60))
    planned = [their_study.ask() for _ in range(2)]
    invented = their_study.ask()
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM trial_heartbeats")).scalar_one() == 0
    assert [trial.state.name for trial in storage.study("small").trials] == ["RUNNING"] * 3

    taken = [trial for name in "ab" for trial in claim(storage, study, "search", name, 1)]
    assert [trial.number for trial in taken] == [trial.number for trial in planned]
    finish(storage, taken)
    assert [trial.state.name for trial in storage.study("small").trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    failed = storage.study("small").trials[invented.number]
    assert failed.user_attrs["reason"].startswith("was not created by hpo")
    assert is_finished(storage, study, "search")


# 3


def test_worker_drops_a_trial_failed_by_others_and_continues(
    storage: Storage, worker: WorkerOf, before_epoch: BeforeEpoch
) -> None:
    """Optuna's process dies of `AssertionError: Should not reach`, with `catch=(Exception,)` too. Our worker
    lets go of that trial, finishes the others and ends as always."""
    serving = worker()
    before_epoch(2, lambda: storage.study("small").tell(1, state=TrialState.FAIL))
    serving.run()
    assert states(storage, serving.study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert set(curve(storage, serving.study, 1)) == {1}
    record = rows(storage, serving.study)[1].record
    assert record == TrialRecord(record.seed)
    assert set(curve(storage, serving.study, 2)) == {1, 2, 3}


def test_optuna_stops_at_a_trial_failed_by_others() -> None:
    study = optuna.create_study()

    def objective(trial: optuna.Trial) -> float:
        study.tell(trial.number, state=TrialState.FAIL)
        return 0.0

    with pytest.raises(AssertionError, match="Should not reach"):
        study.optimize(objective, n_trials=1, catch=(Exception,))


# 4


def test_epoch_reported_twice_keeps_the_first_report(
    storage: Storage, spec: SpecOf, reporter: ReporterOf
) -> None:
    """As in Optuna, where the second report of a step is ignored with a warning."""
    optuna_trial = optuna.create_study().ask()
    optuna_trial.report(1.0, 1)
    with pytest.warns(UserWarning, match="already reported"):
        optuna_trial.report(0.5, 1)
    assert optuna_trial.study.trials[0].intermediate_values == {1: 1.0}

    study = create(storage, spec(search={"trials": 1}), "test").study
    pack = reporter(study, claim(storage, study, "search", "one", 1))
    for loss in (1.0, 0.5):
        pack.report(losses(1, {0: loss}))
    assert curve(storage, study, 0) == {1: 1.0}
    with storage.transaction() as connection:
        query = "SELECT epoch, CAST(metrics ->> 'validation_loss' AS float8) FROM hpo.epoch"
        epochs = connection.execute(text(query)).all()
    assert epochs == [(1, 1.0)]


def test_no_epoch_is_reported_twice_after_a_handover(
    storage: Storage, worker: WorkerOf, before_epoch: BeforeEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial goes on after its last checkpoint, which a worker that is to stop writes before it ends."""
    reports: list[tuple[int, int]] = []
    report = results.report

    def spy(connection: Connection, results: Mapping[int, EpochResult], *rest: Any) -> set[int]:
        reports.extend((trial_id, result.epoch) for trial_id, result in results.items())
        return report(connection, results, *rest)

    monkeypatch.setattr(results, "report", spy)
    serving = worker(search={"trials": 2, "epochs": 4})
    before_epoch(3, serving.stop_now)
    serving.run()
    assert states(storage, serving.study) == ["WAITING", "WAITING"]
    worker(search={"trials": 2, "epochs": 4}).run()
    assert states(storage, serving.study) == ["COMPLETE", "COMPLETE"]
    ids = [row.trial_id for row in rows(storage, serving.study)]
    assert sorted(reports) == [(trial_id, epoch) for trial_id in ids for epoch in (1, 2, 3, 4)]


# 5


@pytest.mark.parametrize("kind", [UnavailableError, StorageError])
def test_renewal_outlives_errors_of_the_storage(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch, kind: type[StorageError]
) -> None:
    """Optuna's heartbeat thread ends for good with the first error. Ours tries on until the worker ends."""
    study = create(storage, spec(space=ONE_PACK, search={"trials": 2}), "test").study
    trials = claim(storage, study, "search", "one", 2)
    lose(storage, *trials)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET seconds = 60"))
    transaction, failures, renewed = Storage.transaction, iter(range(5)), threading.Event()

    @contextmanager
    def flaky(of: Storage) -> Iterator[Connection]:
        is_renewal = threading.current_thread().name == "renewal"
        if is_renewal and next(failures, None) is not None:
            raise kind("the server restarts")
        with transaction(of) as connection:
            yield connection
        if is_renewal:
            renewed.set()

    monkeypatch.setattr(Storage, "transaction", flaky)
    renewal = LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu"), lease_seconds=0.1)
    with renewal, renewal.renewing(lambda: [trial.lease for trial in trials]):
        assert renewed.wait(20)
    assert next(failures, None) is None
    with storage.transaction() as connection:
        left = connection.execute(text("SELECT bool_and(expires > now()) FROM hpo.lease")).scalar_one()
    assert left
    assert claim(storage, study, "search", "another", 2) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_optuna_heartbeat_ends_with_the_first_error(
    optuna_storage: Callable[..., RDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_storage: RDBStorage, _trial_id: int) -> NoReturn:
        raise StorageInternalError("the server restarts")

    monkeypatch.setattr(RDBStorage, "record_heartbeat", fail)
    heartbeat = HeartbeatThread(0, optuna_storage(heartbeat_interval=1))
    heartbeat.start()
    assert heartbeat._thread is not None
    heartbeat._thread.join(20)  # nobody told it to stop
    assert not heartbeat._thread.is_alive()


# 6


def test_training_that_raises_fails_with_its_traceback(
    storage: Storage, worker: WorkerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Optuna too; its retry callback hears of lost workers only. Ours tries once more, without pack mates,
    because one of them may be at fault."""

    def break_down(*_arguments: object) -> NoReturn:
        raise ValueError("a shape is wrong")

    monkeypatch.setattr(Pack, "gradients", break_down)
    serving = worker()
    with pytest.raises(TrainingError, match="3 packs in a row failed"):
        serving.run()
    assert states(storage, serving.study) == ["FAIL", "FAIL", "WAITING"]
    worker().run()  # as the launcher starts it again
    for row in rows(storage, serving.study):
        assert row.state == TrialState.FAIL
        assert row.record.reason == "ValueError: a shape is wrong"
        assert "in break_down" in storage.study("small").trials[row.number].user_attrs["traceback"]
    assert len(rows(storage, serving.study)) == 3


def test_optuna_does_not_retry_an_objective_that_raises(
    optuna_storage: Callable[..., RDBStorage],
) -> None:
    retried: list[int] = []
    storage = optuna_storage(
        heartbeat_interval=60,
        heartbeat_stale_trial_callback=lambda _study, trial: retried.append(trial.number),
    )
    study = optuna.create_study(study_name="theirs", storage=storage)

    def objective(_trial: optuna.Trial) -> float:
        raise MemoryError

    study.optimize(objective, n_trials=2, catch=(Exception,))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
    assert retried == []


def test_trial_that_lost_its_worker_runs_again(storage: Storage, spec: SpecOf) -> None:
    """The same trial with the same seed, and not a copy of it under a new number."""
    study = create(storage, spec(space=ONE_PACK, search={"trials": 3}), "test").study
    first = claim(storage, study, "search", "dead", 3)
    lose(storage, *first)
    second = claim(storage, study, "search", "alive", 3)
    assert [(t.number, t.point, t.seed) for t in second] == [(t.number, t.point, t.seed) for t in first]
    finish(storage, first)
    assert states(storage, study) == ["RUNNING"] * 3  # the dead one writes nothing any more
    finish(storage, second)
    assert states(storage, study) == ["COMPLETE"] * 3


def test_pack_that_runs_out_of_memory_is_split(
    storage: Storage, worker: WorkerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, widths = Pack.gradients, []

    def run_out(pack: Pack, *arguments: Any) -> Any:
        widths.append(len(pack))
        if len(pack) > 1:
            raise torch.OutOfMemoryError("tried to allocate too much")
        return gradients(pack, *arguments)

    monkeypatch.setattr(Pack, "gradients", run_out)
    serving = worker(search={"trials": 4, "epochs": 1})
    serving.run()
    assert states(storage, serving.study) == ["COMPLETE"] * 4
    assert list(Counter(widths)) == [4, 2, 1]


# 7


@pytest.mark.parametrize("sampler", [{"name": "random"}, {"name": "tpe", "startup": 2}])
def test_finished_study_runs_no_further_trial(
    storage: Storage, spec: SpecOf, sampler: dict[str, Any]
) -> None:
    """`MaxTrialsCallback` looks after a trial, so each worker of Optuna runs one beyond the budget. A claim
    counts under the study's lock."""
    study = create(storage, spec(sampler=sampler, search={"trials": 5}), "test").study
    shares = at_once(8, run_trials, storage.url, "small", 1)
    numbers = [trial.number for share in shares for pack in share.packs for trial in pack]
    assert sorted(numbers) == [0, 1, 2, 3, 4]

    with ThreadPoolExecutor(8) as pool:
        late = [pool.submit(claim, storage, study, "search", f"late-{n}", 4) for n in range(16)]
    assert [future.result() for future in late] == [[]] * 16
    assert states(storage, study) == ["COMPLETE"] * 5


def test_optuna_runs_a_trial_beyond_the_budget() -> None:
    study = optuna.create_study()
    study.optimize(lambda _trial: 0.0, n_trials=5)
    study.optimize(lambda _trial: 0.0, callbacks=[MaxTrialsCallback(5)])
    assert len(study.trials) == 6


# 8


@pytest.mark.parametrize("sampler", [{"name": "random"}, TPE])
def test_search_of_24_cells_ends_after_24_trials(
    storage: Storage, spec: SpecOf, sampler: dict[str, Any]
) -> None:
    """Optuna spends a budget of 60 on the 24 cells, one and the same again and again."""
    study = create(storage, spec(sampler=sampler, search={"trials": 60}), "test").study
    run_trials(storage.url, "small", 16, 0)
    trial_rows = rows(storage, study)
    assert len(trial_rows) == len({cell(row.point) for row in trial_rows}) == 24
    assert is_finished(storage, study, "search")


def test_200_tpe_trials_are_200_of_768_cells(storage: Storage, spec: SpecOf) -> None:
    """Of Optuna's, a third and more repeat a cell."""
    study = create(storage, spec(space=CELLS_768, sampler=TPE, search={"trials": 200}), "test").study
    assert study.spec.space.cells == 768
    run_trials(storage.url, "small", 16, 0)
    trial_rows = rows(storage, study)
    assert len(trial_rows) == len({cell(row.point) for row in trial_rows}) == 200
    assert {row.state for row in trial_rows} == {TrialState.COMPLETE}


def test_200_trials_of_optuna_repeat_some_of_768_cells() -> None:
    study = optuna.create_study(sampler=TPESampler(seed=1))

    def objective(trial: optuna.Trial) -> float:
        return sum(trial.suggest_categorical(name, values) for name, values in CELLS_768.items())

    study.optimize(objective, n_trials=200)
    assert len({tuple(trial.params.values()) for trial in study.trials}) < 180


# 9


@pytest.mark.parametrize("startup", [1, 4])
def test_no_two_suggestions_share_a_seed(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch, startup: int
) -> None:
    """Two workers of Optuna with `TPESampler(seed=42)` begin with the same trial. Here a claim draws its seed
    from the study and the number of the trial, whoever makes it."""
    seeds: list[int] = []
    suggest = TpeSampler.suggest

    def spy(sampler: TpeSampler, space: Any, history: Any, count: int, seed: int) -> list[Point]:
        seeds.append(seed)
        return suggest(sampler, space, history, count, seed)

    monkeypatch.setattr(TpeSampler, "suggest", spy)
    sampler = {"name": "tpe", "startup": startup}
    space = {"lr": {"low": 1e-4, "high": 0.5, "log": True}}
    study = create(storage, spec(sampler=sampler, space=space, search={"trials": 16}), "test").study
    held = [claim(storage, study, "search", name, 1) for _ in range(8) for name in ("one", "two")]
    trials = [trial for pack in held for trial in pack]
    assert len(trials) == len({cell(trial.point) for trial in trials}) == 16
    assert len({trial.seed for trial in trials}) == 16
    assert len(seeds) == len(set(seeds)) == 16 - startup


def test_two_simultaneous_processes_get_different_trials(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(sampler={"name": "tpe", "startup": 1}, search={"trials": 8}), "test")
    shares = at_once(2, run_trials, storage.url, "small", 1)
    points = [cell(pack[0].point) for share in shares for pack in share.packs]
    assert len(points) == len(set(points)) == 8


def test_two_optuna_workers_with_one_seed_begin_with_the_same_trial() -> None:
    first = []
    for _worker in range(2):
        trial = optuna.create_study(sampler=TPESampler(seed=42)).ask()
        first.append({name: trial.suggest_categorical(name, values) for name, values in CELLS_768.items()})
    assert first[0] == first[1]


# 10


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///studies.db",
        "journal.log",
        "redis://localhost:6379",
        "grpc://localhost:13000",
        "localhost:13000",
    ],
)
def test_storage_without_leases_is_refused_in_one_line(url: str) -> None:
    """On a journal or behind the gRPC proxy Optuna's heartbeats are off, and nothing says so."""
    with pytest.raises(InputError, match=r"^HPO_STORAGE_URL: .*postgresql://") as caught:
        parse_url(Settings(storage_url=SecretStr(url)))
    assert "\n" not in str(caught.value)
    assert issubclass(RDBStorage, BaseHeartbeat)
    assert not issubclass(JournalStorage, BaseHeartbeat)
    assert not issubclass(GrpcStorageProxy, BaseHeartbeat)


def test_every_claimed_trial_has_a_lease(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 12}), "test").study
    trials = [trial for name in "abc" for trial in claim(storage, study, "search", name, 2)]
    with storage.transaction() as connection:
        query = text("SELECT trial_id FROM hpo.lease WHERE expires > now() AND worker IS NOT NULL")
        leased = set(connection.execute(query).scalars())
    assert leased == {trial.lease.trial_id for trial in trials}
    running = {row.trial_id for row in rows(storage, study) if row.state == TrialState.RUNNING}
    assert leased == running


# 11


def test_asha_never_prunes_the_first_or_the_best_trial(
    storage: Storage, spec: SpecOf, reporter: ReporterOf
) -> None:
    """With `bootstrap_count=5` Optuna prunes the first five whatever they are. Ours has no such option: a
    trial is compared with those that came to the rung before, the first with none, and the best goes on."""
    pruner = {"name": "asha", "min_epochs": 1, "reduction": 3}
    study = create(storage, spec(space=ONE_PACK, pruner=pruner), "test").study
    pack = reporter(study, claim(storage, study, "search", "one", 12))
    assert pack.report(losses(1, {0: 5.0})) == set()
    for number, loss in [(1, 4.0), (2, 0.0001), (3, 3.0), (4, 2.0), (5, 0.00001)]:
        assert pack.report(losses(1, {number: loss})) == ({number} if loss > 1 and number > 2 else set())
    for epoch in range(2, 9):
        assert 5 not in pack.report(losses(epoch, {5: 0.00001}))


def test_optuna_asha_prunes_the_first_five_trials() -> None:
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=3, bootstrap_count=5)
    study = optuna.create_study(pruner=pruner)
    for loss in (5.0, 4.0, 0.0001, 3.0, 2.0):
        trial = study.ask()
        trial.report(loss, 1)
        assert trial.should_prune()


# 12


def test_eight_processes_create_one_study_on_an_empty_database(
    database: Any, raw: Callable[..., dict[str, Any]]
) -> None:
    """Of eight that call Optuna's `create_study(load_if_exists=True)`, most die of a violated unique index.
    Ours wait for each other: one makes the tables, one the study, and the others find them."""
    results = at_once(8, create_study, database, raw())
    assert Counter(did for did, _, _ in results) == {"created": 1, "unchanged": 7}
    assert len({(study_id, key) for _, study_id, key in results}) == 1
    storage = open_url(database)
    assert [(s.study_name, s.n_trials) for s in optuna.get_all_study_summaries(storage=storage.backend)] == [
        ("small", 12),
        ("small-full", 0),
    ]
    storage.engine.dispose()


# 13


def test_eight_workers_get_each_of_200_queued_trials_once(storage: Storage, spec: SpecOf) -> None:
    """As in Optuna on Postgres. Ours hands them out in packs, and a lost one again."""
    create(storage, spec(space=CELLS_768, search={"trials": 200}), "test")
    study = load(storage, "small")
    assert states(storage, study) == ["WAITING"] * 200
    shares = at_once(8, run_trials, storage.url, "small", 4)
    numbers = Counter(trial.number for share in shares for pack in share.packs for trial in pack)
    assert numbers == Counter(range(200))
    assert states(storage, study) == ["COMPLETE"] * 200


# 14


def test_worker_completes_a_trial_after_its_connections_are_cut(
    storage: Storage, worker: WorkerOf, before_epoch: BeforeEpoch
) -> None:
    """By default Optuna's worker dies of it. Ours connects anew and tells what it has to tell again."""
    serving = worker()
    before_epoch(2, lambda: cut_connections(storage))
    serving.run()
    assert states(storage, serving.study) == ["COMPLETE"] * 3
    for row in rows(storage, serving.study):
        assert row.record.worker == "w"
        assert row.record.takeovers == 0
        assert set(curve(storage, serving.study, row.number)) == {1, 2, 3}


def test_optuna_stops_at_a_connection_cut_during_a_trial(
    storage: Storage, optuna_storage: Callable[..., RDBStorage]
) -> None:
    study = optuna.create_study(study_name="theirs", storage=optuna_storage())

    def objective(trial: optuna.Trial) -> float:
        cut_connections(storage)
        trial.report(0.5, 1)
        return 0.5

    with pytest.raises(StorageInternalError):
        study.optimize(objective, n_trials=1)
