"""Outages of the database under a worker that trains."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from uuid import uuid4

import pytest
import torch
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.artifacts import folder_of
from support.claims import claim, claim_lost
from support.epochs import epoch_result
from support.processes import until, wait_for_line
from support.reporters import patient_runtime, reporter, target
from support.shell import SMALL_STUDY, Shell
from support.unreliable_storage import Link, UnreliableStorage
from support.workloads import digits_workload

from benchmarks.chaos.server import Server, Shutdown, connection
from hpo.artifacts.folder import FolderStore
from hpo.errors import TrainingError, UnavailableError
from hpo.run.artifacts import check_artifacts
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, leases, studies, trials, workers
from hpo.store.connection import Limits, Storage, open_url
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.schedule import WIDTH, LeasedTrial
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.training.session import PackSession
from hpo.values.epoch import EpochResult
from hpo.worker.claims import Claims
from hpo.worker.context import WorkerSettings
from hpo.worker.outbox import Outbox
from hpo.worker.pack_training import PackTraining
from hpo.worker.worker import Worker

SpecOf = Callable[..., StudySpec]
WorkerOf = Callable[..., Worker]

DIGITS = {"name": "digits", "mini": 0.5, "validation": 0.4}
EPOCHS = 6
PATIENCE = 60
"""Seconds after which a test gives up a wait."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Start a server that the tests of this module may stop."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as folder:
        started = Server(Path(folder) / "postgres")
        started.start()
        started.create_database("template")
        open_url(started.url("template")).engine.dispose()
        yield started
        started.stop("immediate")


@pytest.fixture
def storage(server: Server) -> Iterator[Storage]:
    """Open a storage on that server, and start the server again after the test."""
    # What the tests themselves ask for after a restart does not try again, as workers do.
    name = f"test_{uuid4().hex[:12]}"
    with connection(server.url("postgres")) as admin:
        admin.execute(text(f"CREATE DATABASE {name} TEMPLATE template"))
    opened = open_url(server.url(name), limits=Limits(rest=0.0))
    yield opened
    opened.engine.dispose()
    if not is_up(server):
        server.start()


def is_up(server: Server) -> bool:
    try:
        with connection(server.url("postgres")):
            return True
    except OperationalError:
        return False


@pytest.fixture
def worker(storage: Storage, spec: SpecOf, tmp_path: Path) -> WorkerOf:
    """Return a worker in this process that trains on the digits: `worker(search={"trials": 2})`."""

    def made(width: int = WIDTH, promotes: bool = False, **changes: Any) -> Worker:
        torch.set_num_threads(1)
        small = {"data": DIGITS, "space": {"batch_size": 16}, "search": {"trials": 2, "epochs": EPOCHS}}
        study = create(storage, spec(**{**small, **changes}), "test").study
        options = WorkerSettings("w", "cpu", FolderStore(tmp_path / "study"), width=width, promotes=promotes)
        return Worker(storage, study, PackTraining(digits_workload(study.spec)), options, patient_runtime())

    return made


class Loop:
    """Calls before certain epochs of a worker in this process."""

    def __init__(self) -> None:
        self.trained = 0
        self._actions: dict[int, Callable[[], object]] = {}

    def before(self, epoch: int, act: Callable[[], object]) -> None:
        self._actions[epoch] = act

    def enter(self) -> None:
        self._actions.get(self.trained + 1, lambda: None)()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    watched, train = Loop(), PackSession.epoch

    def epoch(training: PackSession) -> list[EpochResult]:
        watched.enter()
        results = train(training)
        watched.trained += 1
        return results

    monkeypatch.setattr(PackSession, "epoch", epoch)
    return watched


@pytest.fixture
def on_wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], None]:
    """`on_wait(act)`: `act` is called, with how many there have been, when a worker begins to wait for all to
    be delivered: it has nothing to train."""
    wait, count = Outbox.wait, iter(range(1, 1000))

    def install(act: Callable[[int], object]) -> None:
        def wait_and_act(outbox: Outbox, seconds: float) -> bool:
            act(next(count))
            return wait(outbox, seconds)

        monkeypatch.setattr(Outbox, "wait", wait_and_act)

    return install


class FirstWords(logging.Handler):
    """A log handler that calls `act` when a worker first logs that it waits for the storage."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act: Callable[[], object] | None = act

    def emit(self, record: logging.LogRecord) -> None:
        act = self._act
        if act is not None and record.getMessage().startswith("waiting for the storage"):
            self._act = None
            act()


@contextmanager
def once_it_waits(act: Callable[[], object]) -> Iterator[None]:
    log, handler = logging.getLogger("hpo.worker"), FirstWords(act)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def execute(storage: Storage, statement: str) -> list[Any]:
    """Execute a statement on a connection of its own, and return the rows."""
    with connection(storage.url) as opened:
        result = opened.execute(text(statement))
        return list(result.all()) if result.returns_rows else []


@contextmanager
def another(storage: Storage) -> Iterator[Storage]:
    """Open the storage as another process does."""
    opened = open_url(storage.url, limits=storage.limits)
    try:
        yield opened
    finally:
        opened.engine.dispose()


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as opened:
        return trials.read(opened, study.search_id).ours


def epochs(storage: Storage, trial_id: int) -> list[int]:
    """Return the epochs of a trial in the order in which they were written."""
    query = f"SELECT epoch FROM hpo.epoch WHERE trial_id = {trial_id} ORDER BY ctid"
    return [row.epoch for row in execute(storage, query)]


def assert_as_if_nothing_had_happened(worker: Worker) -> None:
    """Assert that every trial is complete, on the worker that began it, with all epochs in order."""
    trial_rows = rows(worker.storage, worker.study)
    assert len(trial_rows) == worker.study.trials
    for row in trial_rows:
        assert (row.state.name, row.record.worker) == ("COMPLETE", "w"), row
        assert row.record.takeovers == 0
        everything = list(range(1, worker.study.spec.search.epochs + 1))
        assert epochs(worker.storage, row.trial_id) == everything
        shown = worker.storage.study(worker.study.name).trials[row.number]
        assert list(shown.intermediate_values) == everything
        assert shown.value == shown.intermediate_values[everything[-1]]
    assert execute(worker.storage, "SELECT * FROM hpo.lease") == []


# Short outages, which the training does not notice


def test_cut_connections_cost_no_epoch(worker: WorkerOf, loop: Loop) -> None:
    serving = worker()
    cuts: list[int] = []

    def cut() -> None:
        query = (
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid() ORDER BY backend_start LIMIT 1"
        )
        # The worker may be between two attempts, with no connection open.
        cuts.append(until("a connection to cut", lambda: len(execute(serving.storage, query)) or None))

    for epoch in range(1, EPOCHS + 1):
        loop.before(epoch, cut)
    serving.run()
    assert cuts == [1] * EPOCHS
    assert_as_if_nothing_had_happened(serving)


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_server_restart_costs_no_epoch(worker: WorkerOf, loop: Loop, server: Server, how: Shutdown) -> None:
    """After an immediate shutdown the server recovers from its log, as after a power cut."""
    serving = worker()
    loop.before(3, lambda: server.restart(how))
    serving.run()
    assert loop.trained == EPOCHS
    assert_as_if_nothing_had_happened(serving)


# Long outages, during which the training continues


def test_training_continues_during_an_outage_and_reports_afterwards(
    worker: WorkerOf, loop: Loop, server: Server
) -> None:
    """No worker takes over the trials, although their leases have expired: nobody could renew them."""
    serving = worker()
    claimed: list[list[LeasedTrial]] = []

    def stop() -> None:
        execute(serving.storage, "UPDATE hpo.lease SET expires = now()")
        server.stop()

    def come_back() -> None:
        server.start()
        with another(serving.storage) as elsewhere:
            claimed.append(claim(elsewhere, serving.study, "search", "another", 16))

    loop.before(3, stop)
    loop.before(5, come_back)
    serving.run()
    assert loop.trained == EPOCHS  # two of them without a database, and none again
    assert claimed == [[]]
    assert_as_if_nothing_had_happened(serving)


def test_worker_that_has_trained_all_waits_for_the_database(
    worker: WorkerOf, loop: Loop, server: Server, on_wait: Callable[[Callable[[int], object]], None]
) -> None:
    serving = worker()

    def come_back(wait: int) -> None:
        if wait == 2:  # the first one was in vain
            assert loop.trained == EPOCHS
            assert not is_up(server)
            server.start()

    on_wait(come_back)
    loop.before(EPOCHS, server.stop)
    serving.run()
    assert is_up(server)
    assert loop.trained == EPOCHS
    assert_as_if_nothing_had_happened(serving)


def test_full_training_that_ends_in_an_outage_keeps_its_weights(
    worker: WorkerOf, loop: Loop, server: Server, on_wait: Callable[[Callable[[int], object]], None]
) -> None:
    serving = worker(search={"trials": 1, "epochs": 1}, promotes=True)

    def come_back(_wait: int) -> None:
        if not is_up(server):
            server.start()

    on_wait(come_back)
    loop.before(4, server.stop)  # one epoch of search, three of full training
    serving.run()
    assert loop.trained == 4
    with serving.storage.transaction() as opened:
        (full,) = trials.read(opened, serving.study.full_id).ours
    assert full.state.name == "COMPLETE"
    assert epochs(serving.storage, full.trial_id) == [1, 2, 3]
    folder = folder_of(serving.settings.artifacts)
    assert [file.name for file in folder.iterdir()] == [full.record.weights]


def test_trial_pruned_in_an_outage_ends_at_its_rung(worker: WorkerOf, loop: Loop, server: Server) -> None:
    serving = worker(
        search={"trials": 6, "epochs": EPOCHS}, pruner={"name": "asha", "min_epochs": 3, "reduction": 3}
    )
    loop.before(3, server.stop)
    loop.before(5, server.start)
    serving.run()
    trial_rows = rows(serving.storage, serving.study)
    assert sorted(row.state.name for row in trial_rows) == ["COMPLETE"] * 2 + ["PRUNED"] * 4
    for row in trial_rows:
        last = 3 if row.state.name == "PRUNED" else EPOCHS
        assert epochs(serving.storage, row.trial_id) == list(range(1, last + 1))
        assert row.record.epochs == last


def test_failure_in_an_outage_is_reported_afterwards(worker: WorkerOf, loop: Loop, server: Server) -> None:
    """The pack is handed back after the outage. Then each of its trials fails alone."""
    serving, outages = worker(), [server.stop]

    def fail() -> NoReturn:
        if outages:
            outages.pop()()
        raise ValueError("a shape is wrong")

    loop.before(3, fail)
    with once_it_waits(server.start), pytest.raises(TrainingError, match="3 packs in a row failed"):
        serving.run()
    for row in rows(serving.storage, serving.study):
        assert (row.state.name, row.record.reason) == ("FAIL", "ValueError: a shape is wrong")
        assert epochs(serving.storage, row.trial_id) == [1, 2]


def test_overdue_leases_survive_a_server_restart(storage: Storage, spec: SpecOf, server: Server) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    trials = claim(storage, study, "search", "one", 12)
    execute(storage, "UPDATE hpo.lease SET expires = now() - interval '1 hour'")
    server.restart("fast")
    assert claim(storage, study, "search", "another", 12) == []
    with storage.transaction() as opened:
        assert len(leases.hold(opened, [trial.lease for trial in trials])) == 12
    # One whose worker is known to be gone need not be waited for.
    with storage.transaction() as opened:
        workers.forget(opened, "one")
    assert len(claim(storage, study, "search", "another", 12)) == 12


# Stopping and freezing


@pytest.fixture
def shell(storage: Storage, tmp_path: Path) -> Iterator[Shell]:
    """Return the shell of a user of that server, with a small study of long trials."""
    url = storage.url.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": url, "HPO_LEASE_SECONDS": "1", "OMP_NUM_THREADS": "1"})
    raw = SMALL_STUDY.replace("batch_size = [16, 32, 64]", "batch_size = 16")
    shell.write("small.toml", raw.replace("trials = 12\nepochs = 3", "trials = 3\nepochs = 20"))
    yield shell
    shell.close()


def stored(shell: Shell, storage: Storage) -> Study:
    create(storage, StudySpec.load(shell.folder / "small.toml"), "test")
    return load(storage, "small")


def test_worker_stopped_in_an_outage_ends_in_time(shell: Shell, storage: Storage, server: Server) -> None:
    study = stored(shell, storage)
    process = shell.start("worker", "small", "--name", "w")
    until("an epoch", lambda: execute(storage, "SELECT 1 FROM hpo.epoch") or None)
    server.stop()
    wait_for_line(process, "waiting for the storage")
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    server.start()
    assert {row.state.name for row in rows(storage, study)} == {"RUNNING"}
    # The next one carries on; of what could not be told, nothing stands in its way.
    execute(storage, "UPDATE hpo.lease SET seconds = 0, expires = now()")
    artifacts = FolderStore(shell.folder / "home" / "artifacts" / study.artifacts_name)
    Worker(
        storage, study, PackTraining(digits_workload(study.spec)), WorkerSettings("next", "cpu", artifacts)
    ).run()
    for row in rows(storage, study):
        assert (row.state.name, row.record.worker) == ("COMPLETE", "next")
        assert epochs(storage, row.trial_id) == list(range(1, 21))
    assert not (artifacts.root / "checkpoints").exists()


def test_worker_between_packs_stops_while_it_waits_for_the_database(
    worker: WorkerOf, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = worker(search={"trials": 2, "epochs": 1}, width=1)
    asked = threading.Event()

    def ask(*_arguments: object, **_others: object) -> NoReturn:
        asked.set()
        raise UnavailableError("nobody answers")

    loop.before(1, lambda: monkeypatch.setattr(Claims, "claim", ask))
    thread = threading.Thread(target=serving.run)
    thread.start()
    assert asked.wait(PATIENCE)
    serving.runtime.stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [row.state.name for row in rows(serving.storage, serving.study)] == ["COMPLETE", "WAITING"]


def freeze_in_training(process: subprocess.Popen[str], storage: Storage) -> None:
    """Freezes a worker that has a trial with an epoch on record, outside of a transaction: inside of one it
    would keep its locks, and the trial would count as in good hands until the server ends that."""
    training = "SELECT 1 FROM hpo.lease JOIN hpo.epoch USING (trial_id)"
    busy = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name = 'hpo' AND state <> 'idle'"
    )

    def frozen() -> bool:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if execute(storage, training) and not execute(storage, busy):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    until("an epoch", lambda: execute(storage, training) or None)
    until("a freeze in the midst of a trial", lambda: frozen() or None)


def test_frozen_worker_that_lost_its_trial_writes_nothing_of_it(shell: Shell, storage: Storage) -> None:
    study = stored(shell, storage)
    process = shell.start("worker", "small", "--name", "frozen", "--width", "1")
    freeze_in_training(process, storage)
    (trial,) = until(
        "the end of its lease", lambda: claim_lost(storage, study, "search", "another", 1, 16) or None
    )
    known = epochs(storage, trial.lease.trial_id)
    assert known == list(range(1, len(known) + 1))
    assert len(known) < 20

    process.send_signal(signal.SIGCONT)
    complete = f"SELECT 1 FROM trials WHERE state = 'COMPLETE' AND study_id = {study.search_id}"
    until("the end of the two others", lambda: len(execute(storage, complete)) == 2 or None)
    assert epochs(storage, trial.lease.trial_id) == known
    last = len(known) + 1
    result = epoch_result(trial.number, last, 0.5, train_loss=0.5, status="finished")
    with Outbox() as outbox:
        pack = reporter(target(storage, study, worker="another"), [trial], outbox)
        assert pack.report([result]) == {trial.number}
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    trial_rows = rows(storage, study)
    assert [row.state.name for row in trial_rows] == ["COMPLETE"] * 3
    lost_row = trial_rows.pop(trial.number)
    assert (lost_row.record.worker, lost_row.record.takeovers, lost_row.value) == (
        "another",
        1,
        0.5,
    )
    assert epochs(storage, lost_row.trial_id) == [*known, last]
    assert [row.record.worker for row in trial_rows] == ["frozen", "frozen"]


def test_worker_frozen_in_a_transaction_keeps_its_trials_until_the_server_ends_it(
    storage: Storage, spec: SpecOf
) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    trials = claim(storage, study, "search", "frozen", 12)
    execute(storage, "UPDATE hpo.lease SET seconds = 0, expires = now()")
    taken: list[list[LeasedTrial]] = []

    def freeze() -> None:
        with another(storage) as elsewhere, ExitStack() as stack:
            frozen = stack.enter_context(stack.enter_context(another(storage)).transaction())
            held = [trial.lease for trial in trials]
            leases.hold(frozen, held)
            taken.append(claim(elsewhere, study, "search", "another", 12))  # and it does not wait
            # Shortened only now, so that the claim above comes before the end on any machine.
            frozen.execute(text("SET LOCAL idle_in_transaction_session_timeout = '200ms'"))
            again = until("the end of it", lambda: claim(elsewhere, study, "search", "another", 12) or None)
            taken.append(again)
            leases.release(frozen, held)

    with pytest.raises(UnavailableError):
        freeze()
    assert [len(claimed) for claimed in taken] == [0, 12]
    assert {row.state.name for row in rows(storage, study)} == {"RUNNING"}


# A database that hangs


@contextmanager
def stalled(storage: Storage) -> Iterator[None]:
    """Let the server neither answer nor refuse, as on a stalled disk or machine."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    (file,) = execute(storage, "SELECT current_setting('data_directory') || '/postmaster.pid' AS name")
    accepting = int(Path(file.name).read_text().split()[0])
    processes = [accepting, *(row.pid for row in execute(storage, query))]
    try:
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_worker_stopped_in_training_while_the_database_hangs_ends_in_time(
    shell: Shell, storage: Storage
) -> None:
    stored(shell, storage)
    process = shell.start("worker", "small", "--name", "w")
    until("an epoch", lambda: execute(storage, "SELECT 1 FROM hpo.epoch") or None)
    with stalled(storage):
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output


def test_worker_stopped_while_its_claim_waits_for_a_lock_ends_in_time(shell: Shell, storage: Storage) -> None:
    """A worker that is frozen in its own claim keeps the lock until the server ends its session."""
    study = stored(shell, storage)
    settings = Settings(home=shell.folder / "home")
    check_artifacts(storage, study, settings)  # as its first worker does, under the same lock
    with storage.transaction() as frozen:
        studies.lock(frozen, study.search_id)
        process = shell.start("worker", "small", "--name", "w")
        blocked = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        until("a claim that waits", lambda: execute(storage, blocked) or None)
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output


# A lost answer to a commit


def test_lost_answer_to_a_commit_charges_an_epoch_once(storage: Storage, spec: SpecOf) -> None:
    """The connection is cut after the commit and before the answer, so the report is written again."""
    study = create(storage, spec(search={"trials": 1}), "test").study
    trials = claim(storage, study, "search", "one", 1)
    cut = UnreliableStorage.over(storage, Link(lost_commits=1))
    with Outbox() as outbox:
        pack = reporter(target(cut, study), trials, outbox)
        pack.report([epoch_result(0, 1, 0.5, train_loss=0.5)])
        assert outbox.wait(PATIENCE)
    assert epochs(storage, trials[0].lease.trial_id) == [1]
    with storage.transaction() as opened:
        spent = costs.device_seconds(opened, study.search_id)
    assert (spent["training"], spent["evaluation"]) == (1.0, 0.25)
