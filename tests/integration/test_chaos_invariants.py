"""Each invariant of the chaos test reports a study that breaks it."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from safetensors.numpy import save_file
from sqlalchemy import Connection, delete, func, insert, select, update
from support.epochs import epoch_result
from support.outcomes import trained
from support.shell import SMALL_STUDY

from benchmarks.chaos.invariants import INVARIANTS, EndState, read_end_state, violations
from hpo.spec.study_spec import StudySpec
from hpo.store import events, results, schema, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.stage import Stage

EPOCHS = 3
WEIGHTS = "trial-{:04d}-1.safetensors"


@dataclass(frozen=True)
class FinishedStudy:
    """A study whose trials are all complete, with nothing left behind."""

    storage: Storage
    study: Study
    folder: Path

    def end_state(self, processes: Sequence[str] = ()) -> EndState:
        with self.storage.transaction() as connection:
            return read_end_state(connection, self.study, self.folder, processes)

    def ids(self, stage: Stage) -> list[int]:
        table = schema.trials
        with self.storage.transaction() as connection:
            query = select(table.c.trial_id).where(table.c.study_id == self.study.study_id(stage))
            return list(connection.execute(query.order_by(table.c.number)).scalars())


@pytest.fixture
def finished(storage: Storage, tmp_path: Path) -> FinishedStudy:
    spec = StudySpec.parse({"name": "small", **tomllib.loads(SMALL_STUDY)}, "test")
    finished = FinishedStudy(storage, create(storage, spec, "test").study, tmp_path)
    complete(finished, "search")
    promote(storage, finished.study)
    complete(finished, "full")
    return finished


def complete(finished: FinishedStudy, stage: Stage) -> None:
    """Complete all trials of a stage, the first one with the least loss.

    Trials of full training get weights.
    """
    folder = finished.folder
    folder.mkdir(exist_ok=True)
    for number, trial_id in enumerate(finished.ids(stage)):
        outcome = trained(number + 1 / EPOCHS, epochs=EPOCHS)
        if stage == "full":
            outcome = replace(outcome, weights=WEIGHTS.format(number))
            save_file({"weight": np.zeros(3, np.float32)}, folder / WEIGHTS.format(number))
        with finished.storage.transaction() as connection:
            events.record(connection, finished.study.study_id(stage), number, "claimed", {})
            for epoch in range(1, EPOCHS + 1):
                add_step(connection, trial_id, epoch, number + 1 / epoch)
            results.finish(connection, {trial_id: outcome})


def add_step(connection: Connection, trial_id: int, epoch: int, loss: float) -> None:
    connection.execute(
        insert(schema.epochs).values(
            trial_id=trial_id, epoch=epoch, metrics=epoch_result(0, epoch, loss).metrics
        )
    )
    connection.execute(
        insert(schema.intermediate_values).values(
            trial_id=trial_id,
            step=epoch,
            intermediate_value=loss,
            intermediate_value_type=schema.FINITE_INTERMEDIATE,
        )
    )


def set_record(connection: Connection, trial_id: int, **values: object) -> None:
    table = schema.records
    connection.execute(update(table).where(table.c.trial_id == trial_id).values(values))


def lose_a_trial(connection: Connection, finished: FinishedStudy) -> None:
    tables = reversed(schema.optuna_metadata.sorted_tables)
    lost = finished.ids("search")[-1]
    for table in tables:
        if "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id == lost))


def add_a_trial(connection: Connection, finished: FinishedStudy) -> None:
    point = finished.end_state().of("search")[0].row.point
    trials.enqueue(connection, finished.study.search_id, finished.study.spec.space, [(point, TrialRecord(1))])


def leave_one_running(connection: Connection, finished: FinishedStudy) -> None:
    trial = schema.trials.c.trial_id == finished.ids("search")[3]
    connection.execute(update(schema.trials).where(trial).values(state=TrialState.RUNNING))


def fail_one(connection: Connection, finished: FinishedStudy) -> None:
    failed = finished.ids("search")[3]
    trial = schema.trials.c.trial_id == failed
    connection.execute(update(schema.trials).where(trial).values(state=TrialState.FAIL))
    set_record(connection, failed, reason="its worker was lost 4 times")


def search_a_cell_again(connection: Connection, finished: FinishedStudy) -> None:
    first, second = finished.ids("search")[:2]
    table = schema.trial_params
    connection.execute(delete(table).where(table.c.trial_id == second))
    point = next(trial.row.point for trial in finished.end_state().trials if trial.row.trial_id == first)
    trials.set_points(connection, finished.study.spec.space, {second: point})


def train_a_seed_again(connection: Connection, finished: FinishedStudy) -> None:
    first, second = (trial.row for trial in finished.end_state().of("full"))
    set_record(connection, second.trial_id, seed=first.record.seed)


def leave_a_gap(connection: Connection, finished: FinishedStudy) -> None:
    table = schema.epochs
    trial = table.c.trial_id == finished.ids("search")[2]
    connection.execute(delete(table).where(trial, table.c.epoch == 2))


def leave_a_gap_for_optuna(connection: Connection, finished: FinishedStudy) -> None:
    table = schema.intermediate_values
    trial = table.c.trial_id == finished.ids("full")[1]
    connection.execute(delete(table).where(trial, table.c.step == 3))


def report_beyond_the_end(connection: Connection, finished: FinishedStudy) -> None:
    add_step(connection, finished.ids("search")[2], EPOCHS + 1, 0.5)


def report_two_losses(connection: Connection, finished: FinishedStudy) -> None:
    table = schema.epochs
    trial = table.c.trial_id == finished.ids("search")[2]
    connection.execute(update(table).where(trial, table.c.epoch == 1).values(metrics={VALIDATION_LOSS: 0.25}))


def drop_the_number_of_epochs(connection: Connection, finished: FinishedStudy) -> None:
    set_record(connection, finished.ids("search")[2], epochs=None)


def claim_twice(connection: Connection, finished: FinishedStudy) -> None:
    events.record(connection, finished.study.search_id, 2, "claimed", {})


def end_twice(connection: Connection, finished: FinishedStudy) -> None:
    events.record(connection, finished.study.search_id, 11, "failed", {"reason": "lost"})


def leave_a_lease(connection: Connection, finished: FinishedStudy) -> None:
    connection.execute(
        insert(schema.leases).values(
            trial_id=finished.ids("search")[0], worker="late", token=9, seconds=30, expires=func.now()
        )
    )


def leave_a_checkpoint(connection: Connection, finished: FinishedStudy) -> None:
    trial_id = finished.ids("search")[3]
    connection.execute(
        insert(schema.checkpoints).values(trial_id=trial_id, epoch=2, file="trial.safetensors")
    )


def leave_a_worker(connection: Connection, finished: FinishedStudy) -> None:
    connection.execute(
        insert(schema.workers).values(name="late", study="small", device="cpu", expires=func.now())
    )


def lose_weights(connection: Connection, finished: FinishedStudy) -> None:
    (finished.end_state().folder / WEIGHTS.format(1)).unlink()


def cut_weights_short(connection: Connection, finished: FinishedStudy) -> None:
    file = finished.end_state().folder / WEIGHTS.format(1)
    file.write_bytes(file.read_bytes()[:20])


def leave_a_file(connection: Connection, finished: FinishedStudy) -> None:
    folder = finished.end_state().folder / "checkpoints"
    folder.mkdir()
    (folder / "search-0003-1-0002.safetensors").touch()


def leave_half_a_file(connection: Connection, finished: FinishedStudy) -> None:
    (finished.end_state().folder / f".{WEIGHTS.format(1)}.x7y").touch()


BREACHES: dict[Callable[[Connection, FinishedStudy], None], str] = {
    lose_a_trial: "exact_budget: search: 11 trials, numbered 0-10, for a budget of 12",
    add_a_trial: "exact_budget: search: 13 trials, numbered 0-12, for a budget of 12",
    leave_one_running: "all_complete: search trial 3 is RUNNING",
    fail_one: "all_complete: search trial 3 is FAIL with value 3.3333333333333335: its worker was lost",
    search_a_cell_again: "no_cell_twice: cell [('batch_size', ",
    train_a_seed_again: "no_cell_twice: full training of search trial 0 with seed ",
    leave_a_gap: "whole_curves: search trial 2: hpo.epoch has the steps 1, 3 of 1-3",
    leave_a_gap_for_optuna: "whole_curves: full trial 1: intermediate values has the steps 1-2 of 1-3",
    report_beyond_the_end: "whole_curves: search trial 2: hpo.epoch has the steps 1-4 of 1-3",
    report_two_losses: "whole_curves: search trial 2: loss 0.25 of step 1 in hpo.epoch, 3.0 among",
    drop_the_number_of_epochs: "whole_curves: search trial 2: its number of epochs is not noted",
    claim_twice: "whole_histories: search trial 2: 'claimed' follows 'completed' in ['claimed', ",
    end_twice: "whole_histories: search trial 11 is COMPLETE and has the last events ['completed', 'failed']",
    leave_a_lease: "no_lease_left: lease of trial id ",
    leave_a_checkpoint: "no_checkpoint_left: checkpoint of trial id ",
    leave_a_worker: "no_worker_left: worker late, alive until ",
    lose_weights: "weights_load: full trial 1: weights trial-0001-1.safetensors: ",
    cut_weights_short: "weights_load: full trial 1: weights trial-0001-1.safetensors: ",
    leave_a_file: "no_stray_file: stray file checkpoints/search-0003-1-0002.safetensors",
    leave_half_a_file: "no_stray_file: stray file .trial-0001-1.safetensors.x7y",
}


def test_finished_study_breaks_no_invariant(finished: FinishedStudy) -> None:
    state = finished.end_state()
    assert [len(state.of(stage)) for stage in ("search", "full")] == [12, 2]
    assert violations(state, baseline=state) == []


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__)
def test_breach_is_reported(
    finished: FinishedStudy, breach: Callable[[Connection, FinishedStudy], None]
) -> None:
    with finished.storage.transaction() as connection:
        breach(connection, finished)
    lines = violations(finished.end_state())
    assert any(line.startswith(BREACHES[breach]) for line in lines), lines


def test_surviving_process_is_reported(finished: FinishedStudy) -> None:
    assert violations(finished.end_state(["17: hpo worker small"])) == [
        "no_process_left: process 17: hpo worker small"
    ]


def test_open_transaction_is_reported(finished: FinishedStudy) -> None:
    with finished.storage.engine.connect() as connection:
        connection.execute(select(schema.trials.c.trial_id))
        (line,) = violations(finished.end_state())
    assert line.startswith("no_open_transaction: transaction idle in transaction in process ")


def test_every_invariant_has_a_breach() -> None:
    broken = {line.partition(":")[0] for line in BREACHES.values()} | {
        "no_process_left",
        "no_open_transaction",
    }
    assert broken == {invariant.__name__ for invariant in INVARIANTS}


def test_loss_that_differs_in_its_last_bit_is_reported(finished: FinishedStudy) -> None:
    baseline, trial_id = finished.end_state(), finished.ids("search")[5]
    loss = math.nextafter(5 + 1 / 2, 9)
    with finished.storage.transaction() as connection:
        for table, step, values in (
            (schema.epochs, "epoch", {"metrics": {VALIDATION_LOSS: loss}}),
            (schema.intermediate_values, "step", {"intermediate_value": loss}),
        ):
            row = (table.c.trial_id == trial_id, table.c[step] == 2)
            connection.execute(update(table).where(*row).values(values))
    assert violations(finished.end_state(), baseline) == [
        "same_numbers: search trial 5: loss 5.500000000000001 of epoch 2, without faults 5.5"
    ]


def test_other_best_trial_than_without_faults_is_reported(finished: FinishedStudy) -> None:
    baseline, table = finished.end_state(), schema.trial_values
    with finished.storage.transaction() as connection:
        trial = table.c.trial_id == finished.ids("search")[5]
        connection.execute(update(table).where(trial).values(value=0.1))
    assert violations(finished.end_state(), baseline) == [
        "same_numbers: best search trial and value (0.1, 5), without faults (0.3333333333333333, 0)"
    ]
