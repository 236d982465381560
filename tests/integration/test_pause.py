"""Trials that pause at rungs: which of them resume, and how the others end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from optuna.trial import TrialState
from support.claims import claim
from support.clients import expire_leases
from support.epochs import epoch_result
from support.outcomes import loss
from support.reporters import reporter, target

from hpo.errors import UnavailableError
from hpo.simulate.curve_table import CurveTable, Measured, Run
from hpo.simulate.session import NoFiles, TableTrainer, nothing_beside
from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, results, trials
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.retry import Backoff
from hpo.store.trials import TrialRow
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.lifecycle import Stopped, resume, stop, stopped
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.study import Study
from hpo.values.objective import LOSS
from hpo.values.space import Point
from hpo.worker.outbox import Outbox
from hpo.worker.pack_writer import FileCleanup
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import Runtime
from hpo.worker.steps import Done
from hpo.worker.trial_loop import LoopServices, PackSettings, TrialLoop

SpecOf = Callable[..., StudySpec]

EPOCHS = 5
PAUSES: dict[str, Any] = {
    "pruner": {"name": "pause"},
    "search": {"trials": 12, "epochs": EPOCHS},
    "sampler": {"name": "random", "startup": 6},
    "space": {"batch_size": 16},
}


class Curves(CurveTable):
    """Curves that depend on a point alone, and fall towards its `loss`."""

    def __init__(self) -> None:
        super().__init__((), {})

    def run(self, point: Point, seed: int) -> Run:  # noqa: ARG002
        losses = [loss(point) * (1 + 1 / epoch) for epoch in range(1, EPOCHS + 1)]
        return tuple(Measured(value, value, 0.5, 1.0, 0.25) for value in losses)


class NamedFiles(NoFiles):
    """Checkpoints that keep the epoch under the name `file-NUMBER`."""

    def save(self, *arguments: Any) -> dict[int, Checkpoint]:
        saved = super().save(*arguments)
        return {number: Checkpoint(saved[number].epoch, f"file-{number}") for number in saved}


class LateReporter(Reporter):
    """A reporter whose first answer about rungs arrives after another epoch."""

    late = True

    def pop_pausing(self) -> set[int]:
        if self.late:
            self.late = False
            return set()
        return super().pop_pausing()


class Trainer:
    """The trial loop of a worker, whose sessions read `Curves`."""

    def __init__(self, storage: Storage, study: Study, outbox: Outbox, worker: str = "one") -> None:
        self.storage, self.study, self.outbox, self.worker = storage, study, outbox, worker

    def claim(self, width: int = 4) -> list[LeasedTrial]:
        return claim(self.storage, self.study, "search", self.worker, width)

    def train(self, trials: Sequence[LeasedTrial], late: bool = False) -> dict[int, int]:
        """Train to the next rung or the end; return the epochs of each trial.

        With `late` the answer at a rung arrives after another epoch.
        """
        pack = target(self.storage, self.study, worker=self.worker)
        services = LoopServices(
            reporter(pack, trials, self.outbox, kind=LateReporter if late else Reporter),
            self.outbox,
            NamedFiles(),
            lambda width: [],  # noqa: ARG005
            nothing_beside,
            lambda results: None,  # noqa: ARG005
        )
        sessions = TableTrainer(self.study.spec, Curves(), {})
        loop = TrialLoop(sessions, trials, PackSettings("search", 4, fills=False), services, Runtime())
        while not isinstance(loop.step(), Done):
            assert self.outbox.wait(30)
        losses = self.losses()
        return {trial.number: len(losses[trial.number]) for trial in trials}

    def rows(self) -> list[TrialRow]:
        with self.storage.transaction() as connection:
            return trials.read(connection, self.study.search_id).ours

    def paused(self) -> dict[int, int]:
        """Return the epoch of each paused trial, by number."""
        return {row.number: row.record.paused for row in self.rows() if row.record.paused is not None}

    def losses(self) -> dict[int, dict[int, float]]:
        with self.storage.transaction() as connection:
            curves = results.curves(connection, self.study.search_id, LOSS)
        return {curve.number: curve.costs for curve in curves.values()}


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened


@pytest.fixture
def pauses(storage: Storage, spec: SpecOf, outbox: Outbox) -> Callable[..., Trainer]:
    def make(worker: str = "one", **changes: Any) -> Trainer:
        return Trainer(storage, create(storage, spec(**{**PAUSES, **changes}), "test").study, outbox, worker)

    return make


def test_trials_pause_until_startup_trials_reach_the_rung(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses()
    assert trainer.train(trainer.claim()) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert trainer.paused() == {0: 1, 1: 1, 2: 1, 3: 1}
    assert {row.state for row in trainer.rows()} == {TrialState.WAITING}
    # Six trials must have trained an epoch. So new trials come next, and then the best two of eight.
    assert trainer.train(trainer.claim()) == {4: 1, 5: 1, 6: 1, 7: 1}
    first = trainer.claim()
    points = {row.number: row.point for row in trainer.rows()}
    assert [t.number for t in first] == sorted(range(8), key=lambda number: loss(points[number]))[:2]
    assert [t.checkpoint for t in first] == [Checkpoint(1, f"file-{t.number}") for t in first]
    assert set(trainer.paused()) == set(range(8)) - {t.number for t in first}
    assert status(storage, trainer.study).search.states["RUNNING"] == 2
    assert trainer.train(first) == dict.fromkeys((t.number for t in first), 2)
    (best,) = trainer.claim()  # one of two
    assert best.number == first[0].number
    assert trainer.train([best]) == {best.number: 4}


def test_search_ends_with_every_trial_complete_or_pruned(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses()
    while trials := trainer.claim():
        assert not is_finished(storage, trainer.study, "search")
        trainer.train(trials)
    assert is_finished(storage, trainer.study, "search")
    assert trainer.paused() == {}
    rows, losses = trainer.rows(), trainer.losses()
    assert {row.state for row in rows} == {TrialState.COMPLETE, TrialState.PRUNED}
    best = min(rows, key=lambda row: loss(row.point))
    assert best.state == TrialState.COMPLETE
    for row in rows:
        epochs = len(losses[row.number])
        assert row.value == losses[row.number][epochs]
        assert row.record.epochs == row.record.kept_epoch == epochs
        assert (row.state == TrialState.COMPLETE) == (epochs == EPOCHS)
        assert epochs in (1, 2, 4, 5)
        assert row.record.accuracy == 0.5
        assert row.record.worker == "one"
    assert promote(storage, trainer.study).chosen[0].number == best.number
    with storage.transaction() as connection:
        assert checkpoints.read(connection, [row.trial_id for row in rows]) == {}


def test_enough_trials_complete_for_promotion(pauses: Callable[..., Trainer], storage: Storage) -> None:
    trainer = pauses(search={"trials": 7, "epochs": EPOCHS}, promotion={"top": 3})
    while trials := trainer.claim():
        trainer.train(trials)
    assert is_finished(storage, trainer.study, "search")
    states = [row.state for row in trainer.rows()]
    assert states.count(TrialState.COMPLETE) == 3
    assert states.count(TrialState.PRUNED) == 4
    assert len(promote(storage, trainer.study).chosen) == 3


def test_paused_trials_are_not_pruned_while_another_runs(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    """The result of the running trial might let a paused trial resume."""
    trainer = pauses(search={"trials": 8, "epochs": EPOCHS})
    trainer.train(trainer.claim())
    late = trainer.claim()
    while trials := trainer.claim():
        trainer.train(trials)
    assert trainer.paused()
    assert not is_finished(storage, trainer.study, "search")
    trainer.train(late)
    assert trainer.claim()


def test_epoch_budget_ends_the_search(pauses: Callable[..., Trainer], storage: Storage) -> None:
    trainer = pauses(stop={"epochs": 14})
    while trials := trainer.claim():
        trainer.train(trials)
    assert stopped(storage, trainer.study, "search") == Stopped("rule", "15 epochs trained of 14")
    assert is_finished(storage, trainer.study, "search")
    assert trainer.paused() == {}
    states = [row.state for row in trainer.rows()]
    assert states.count(TrialState.WAITING) == 4  # no worker ever began them
    assert states.count(TrialState.PRUNED) == 7


def test_trial_that_pauses_after_the_end_is_pruned(pauses: Callable[..., Trainer], storage: Storage) -> None:
    trainer, second_trainer = pauses(stop={"target": 2.0}), pauses("two", stop={"target": 2.0})
    late = second_trainer.claim(2)
    while trials := trainer.claim():
        trainer.train(trials)
    assert stopped(storage, trainer.study, "search") is not None
    second_trainer.train(late)
    assert not is_finished(storage, trainer.study, "search")
    assert second_trainer.claim() == []
    assert is_finished(storage, trainer.study, "search")
    assert trainer.paused() == {}


def test_search_stopped_by_a_user_can_resume(pauses: Callable[..., Trainer], storage: Storage) -> None:
    trainer = pauses()
    trainer.train(trainer.claim())
    before = trainer.paused()
    assert stop(storage, trainer.study).waiting == 12
    assert trainer.claim() == []
    assert is_finished(storage, trainer.study, "search")
    assert trainer.paused() == before
    resume(storage, trainer.study)
    while trials := trainer.claim():
        trainer.train(trials)
    assert {row.state for row in trainer.rows()} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_trial_lost_after_a_pause_continues_from_its_checkpoint(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer, second_trainer = pauses(), pauses("two")
    for _ in range(2):
        trainer.train(trainer.claim())
    lost = trainer.claim()
    expire_leases(storage)
    again = second_trainer.claim()
    assert [t.number for t in again[:2]] == sorted(t.number for t in lost)
    assert all(t.checkpoint == Checkpoint(1, f"file-{t.number}") for t in again[:2])
    reached = second_trainer.train(again)
    assert all(reached[t.number] == 2 for t in lost)


def test_old_owner_cannot_pause_a_trial(
    pauses: Callable[..., Trainer], storage: Storage, outbox: Outbox
) -> None:
    trainer = pauses()
    trials = trainer.claim()
    replaced = list[str]()
    cleanup = FileCleanup(replaced=replaced.extend)
    old = reporter(target(storage, trainer.study), trials, outbox, cleanup=cleanup)
    expire_leases(storage)
    new = pauses("two").claim()
    old.pause({t.number: Checkpoint(1, f"old-{t.number}") for t in trials})
    assert outbox.wait(30)
    assert sorted(replaced) == sorted(f"old-{t.number}" for t in trials)  # no longer needed
    assert trainer.paused() == {}
    assert pauses("two").train(new) == {t.number: 1 for t in new}


def test_trial_pauses_once_at_a_rung(pauses: Callable[..., Trainer], storage: Storage) -> None:
    """A trial without its checkpoint repeats epochs that are on record, where it has paused already."""
    trainer = pauses()
    for _ in range(2):
        trainer.train(trainer.claim())
    trials = trainer.claim()
    over = [LeasedTrial(t.number, t.lease, t.point, t.seed) for t in trials]
    assert trainer.train(over) == dict.fromkeys((t.number for t in trials), 2)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_learn_from_paused_trials(sampler: str, pauses: Callable[..., Trainer]) -> None:
    trainer = pauses(
        sampler={"name": sampler, "startup": 4},
        space={"batch_size": 16, "momentum": {"low": 0.0, "high": 0.9}},
        search={"trials": 20, "epochs": EPOCHS},
    )
    while trials := trainer.claim():
        trainer.train(trials)
    rows = trainer.rows()
    assert len(rows) == 20
    assert {row.state for row in rows} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_fork_inherits_paused_trials_once_they_are_pruned(
    pauses: Callable[..., Trainer], storage: Storage, spec: SpecOf
) -> None:
    trainer = pauses(stop={"epochs": 14})
    while trials := trainer.claim():
        trainer.train(trials)
    forked = fork(storage, trainer.study, spec(**{**PAUSES, "name": "other"}), "test")
    assert forked.creation.study.inherited == sum(row.state.is_finished() for row in trainer.rows())


def test_trial_beyond_a_rung_is_ranked_at_its_last_rung(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses()
    for _ in range(2):
        trainer.train(trainer.claim())
    trainer.train(trainer.claim(), late=True)
    assert sorted(trainer.paused().values()) == [1] * 6 + [3] * 2
    (best,) = trainer.claim()
    assert best.checkpoint is not None
    assert best.checkpoint.epoch == 3
    assert trainer.train([best]) == {best.number: 4}
    while trials := trainer.claim():
        trainer.train(trials)
    rows = trainer.rows()
    assert min(rows, key=lambda row: loss(row.point)).state == TrialState.COMPLETE
    assert {row.state for row in rows} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_paused_trial_taken_through_optuna_continues(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses()
    for _ in range(2):
        trainer.train(trainer.claim())
    taken = storage.study("small").ask()  # and never reports
    assert taken.number in trainer.paused()
    again = trainer.claim()
    assert again[0].number == taken.number
    assert again[0].checkpoint == Checkpoint(1, f"file-{taken.number}")
    trainer.train(again)
    while trials := trainer.claim():
        trainer.train(trials)
    assert is_finished(storage, trainer.study, "search")
    assert {row.state for row in trainer.rows()} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_paused_trial_ended_through_optuna_stays_ended(
    pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses()
    for _ in range(2):
        trainer.train(trainer.claim())
    points = {row.number: row for row in trainer.rows()}
    best = min(trainer.paused(), key=lambda number: loss(points[number].point))
    storage.backend.set_trial_state_values(points[best].trial_id, TrialState.FAIL)
    assert best not in [trial.number for trial in trainer.claim()]
    assert status(storage, trainer.study).search.paused == 5


def test_patience_counts_completed_trials_where_trials_pause(
    pauses: Callable[..., Trainer], storage: Storage, spec: SpecOf
) -> None:
    trainer = pauses(stop={"patience": 8}, search={"trials": 10, "epochs": EPOCHS})
    while trials := trainer.claim():
        trainer.train(trials)
    assert stopped(storage, trainer.study, "search") is None
    assert len([row for row in trainer.rows() if row.state == TrialState.PRUNED]) >= 6
    more = {**PAUSES, "stop": {"patience": 8}, "search": {"trials": 12, "epochs": EPOCHS}}
    create(storage, spec(**more), "test")
    assert trainer.claim()


@pytest.mark.parametrize("budget", [8, 12, 20])
def test_small_epoch_budget_suffices_to_complete_a_trial(
    budget: int, pauses: Callable[..., Trainer], storage: Storage
) -> None:
    trainer = pauses(stop={"epochs": budget}, sampler={"name": "random", "startup": 12})
    while trials := trainer.claim(2):
        trainer.train(trials)
    assert TrialState.COMPLETE in [row.state for row in trainer.rows()]
    assert sum(map(len, trainer.losses().values())) < budget + EPOCHS


def test_report_delivered_twice_still_pauses_the_trial(
    pauses: Callable[..., Trainer], storage: Storage, outbox: Outbox
) -> None:
    """The connection died after the commit."""
    trainer, attempts = pauses(), list[int]()

    def die_once(_numbers: Iterable[int]) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise UnavailableError("the connection died")

    trials = trainer.claim()
    pack = reporter(target(storage, trainer.study), trials, outbox, cleanup=FileCleanup(ended=die_once))
    pack.report([epoch_result(trial.number, 1, 2 * loss(trial.point)) for trial in trials])
    assert outbox.wait(30)
    assert len(attempts) == 2
    assert pack.pop_pausing() == {trial.number for trial in trials}
