"""Faults against a running study; and the invariants, each of which has to see its law broken."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from safetensors.numpy import save_file
from sqlalchemy import Connection, delete, func, insert, select, update
from support.shell import ROOT, SMALL_STUDY

from benchmarks.chaos.faults import FAULTS, schedule
from benchmarks.chaos.invariants import INVARIANTS, Remains, remains, violations
from hpo.spec.study_spec import StudySpec
from hpo.store import schema, trials
from hpo.store.connection import Storage
from hpo.study.promote import promote
from hpo.study.study import Study, create
from hpo.values.stage import Stage

EPOCHS = 3
WEIGHTS = "trial-{:04d}-1.safetensors"


@pytest.mark.slow
def test_a_study_survives_six_faults() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--quick"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as chaos:
        try:
            table, words = chaos.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            chaos.terminate()  # it clears up after itself
            raise
    assert chaos.returncode == 0, f"{table}\n{words}"
    counts = {
        name: [int(n) for n in rest]
        for name, *rest in re.findall(r"^([^\d\n]+?) +(\d+) +(\d+)$", table, re.M)
    }
    assert counts.keys() == {*FAULTS, "all"}
    injected, survived = counts["all"]
    assert injected == survived >= 5  # on a machine that is quick, the study may end before the last one


def test_every_schedule_has_all_kinds_before_any_twice() -> None:
    drawn = schedule(7, 2 * len(FAULTS) + 3)
    assert set(drawn[: len(FAULTS)]) == set(drawn[len(FAULTS) : 2 * len(FAULTS)]) == FAULTS.keys()
    assert drawn == schedule(7, len(drawn))
    assert drawn != schedule(8, len(drawn))


@dataclass(frozen=True)
class Ended:
    """A study whose every trial has run to its end, with nothing left behind."""

    storage: Storage
    study: Study
    artifacts: Path

    def look(self, processes: Sequence[str] = ()) -> Remains:
        with self.storage.transaction() as connection:
            return remains(connection, self.study, self.artifacts, processes)

    def ids(self, stage: Stage) -> list[int]:
        table = schema.trials
        with self.storage.transaction() as connection:
            query = select(table.c.trial_id).where(table.c.study_id == self.study.study_id(stage))
            return list(connection.execute(query.order_by(table.c.number)).scalars())


@pytest.fixture
def ended(storage: Storage, tmp_path: Path) -> Ended:
    spec = StudySpec.parse({"name": "small", **tomllib.loads(SMALL_STUDY)}, "test")
    ended = Ended(storage, create(storage, spec, "test").study, tmp_path)
    complete(ended, "search")
    promote(storage, ended.study)
    complete(ended, "full")
    return ended


def complete(ended: Ended, stage: Stage) -> None:
    """Ends all trials of a stage, the first with the least loss; those of full training with weights."""
    folder = ended.study.artifacts(ended.artifacts)
    folder.mkdir(exist_ok=True)
    for number, trial_id in enumerate(ended.ids(stage)):
        attributes: dict[str, object] = {"epochs": EPOCHS, "accuracy": 0.5}
        if stage == "full":
            attributes["weights"] = WEIGHTS.format(number)
            save_file({"weight": np.zeros(3, np.float32)}, folder / WEIGHTS.format(number))
        with ended.storage.transaction() as connection:
            for epoch in range(1, EPOCHS + 1):
                add_step(connection, trial_id, epoch, number + 1 / epoch)
            connection.execute(
                update(schema.trials)
                .where(schema.trials.c.trial_id == trial_id)
                .values(state=TrialState.COMPLETE)
            )
            connection.execute(
                insert(schema.trial_values).values(
                    trial_id=trial_id, objective=0, value=number + 1 / EPOCHS, value_type=schema.FINITE_VALUE
                )
            )
            trials.set_attributes(connection, {trial_id: attributes})


def add_step(connection: Connection, trial_id: int, epoch: int, loss: float) -> None:
    connection.execute(
        insert(schema.epochs).values(
            trial_id=trial_id, epoch=epoch, train_loss=loss, validation_loss=loss, validation_accuracy=0.5
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


def lose_a_trial(connection: Connection, ended: Ended) -> None:
    catalog_tables = reversed(schema.optuna_metadata.sorted_tables)
    lost = ended.ids("search")[-1]
    for table in catalog_tables:
        if "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id == lost))


def add_a_trial(connection: Connection, ended: Ended) -> None:
    point = ended.look().of("search")[0].row.point
    trials.enqueue(connection, ended.study.search_id, ended.study.spec.space, [(point, {"seed": 1})])


def leave_one_running(connection: Connection, ended: Ended) -> None:
    trial = schema.trials.c.trial_id == ended.ids("search")[3]
    connection.execute(update(schema.trials).where(trial).values(state=TrialState.RUNNING))


def fail_one(connection: Connection, ended: Ended) -> None:
    failed = ended.ids("search")[3]
    trial = schema.trials.c.trial_id == failed
    connection.execute(update(schema.trials).where(trial).values(state=TrialState.FAIL))
    trials.set_attributes(connection, {failed: {"reason": "its worker was lost 4 times"}})


def search_a_cell_again(connection: Connection, ended: Ended) -> None:
    first, second = ended.ids("search")[:2]
    table = schema.trial_params
    connection.execute(delete(table).where(table.c.trial_id == second))
    point = next(trial.row.point for trial in ended.look().trials if trial.row.trial_id == first)
    trials.set_points(connection, ended.study.spec.space, {second: point})


def train_a_seed_again(connection: Connection, ended: Ended) -> None:
    first, second = (trial.row for trial in ended.look().of("full"))
    trials.set_attributes(connection, {second.trial_id: {"seed": first.attributes["seed"]}})


def leave_a_gap(connection: Connection, ended: Ended) -> None:
    table = schema.epochs
    trial = table.c.trial_id == ended.ids("search")[2]
    connection.execute(delete(table).where(trial, table.c.epoch == 2))


def leave_a_gap_for_optuna(connection: Connection, ended: Ended) -> None:
    table = schema.intermediate_values
    trial = table.c.trial_id == ended.ids("full")[1]
    connection.execute(delete(table).where(trial, table.c.step == 3))


def report_beyond_the_end(connection: Connection, ended: Ended) -> None:
    add_step(connection, ended.ids("search")[2], EPOCHS + 1, 0.5)


def report_two_losses(connection: Connection, ended: Ended) -> None:
    table = schema.epochs
    trial = table.c.trial_id == ended.ids("search")[2]
    connection.execute(update(table).where(trial, table.c.epoch == 1).values(validation_loss=0.25))


def note_no_epochs(connection: Connection, ended: Ended) -> None:
    table = schema.trial_attributes
    trial = table.c.trial_id == ended.ids("search")[2]
    connection.execute(delete(table).where(trial, table.c.key == "epochs"))


def leave_a_lease(connection: Connection, ended: Ended) -> None:
    connection.execute(
        insert(schema.leases).values(
            trial_id=ended.ids("search")[0], worker="late", token=9, seconds=30, expires=func.now()
        )
    )


def leave_a_checkpoint(connection: Connection, ended: Ended) -> None:
    trial_id = ended.ids("search")[3]
    connection.execute(
        insert(schema.checkpoints).values(trial_id=trial_id, epoch=2, file="trial.safetensors")
    )


def leave_a_worker(connection: Connection, ended: Ended) -> None:
    connection.execute(
        insert(schema.workers).values(name="late", study="small", device="cpu", expires=func.now())
    )


def lose_weights(connection: Connection, ended: Ended) -> None:
    (ended.look().folder / WEIGHTS.format(1)).unlink()


def cut_weights_short(connection: Connection, ended: Ended) -> None:
    file = ended.look().folder / WEIGHTS.format(1)
    file.write_bytes(file.read_bytes()[:20])


def leave_a_file(connection: Connection, ended: Ended) -> None:
    folder = ended.look().folder / "checkpoints"
    folder.mkdir()
    (folder / "search-0003-1-0002.safetensors").touch()


def leave_half_a_file(connection: Connection, ended: Ended) -> None:
    (ended.look().folder / f".{WEIGHTS.format(1)}.x7y").touch()


BREACHES: dict[Callable[[Connection, Ended], None], str] = {
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
    note_no_epochs: "whole_curves: search trial 2: its number of epochs is not noted",
    leave_a_lease: "no_lease_left: lease of trial id ",
    leave_a_checkpoint: "no_checkpoint_left: checkpoint of trial id ",
    leave_a_worker: "no_worker_left: worker late, alive until ",
    lose_weights: "weights_load: full trial 1: weights trial-0001-1.safetensors: ",
    cut_weights_short: "weights_load: full trial 1: weights trial-0001-1.safetensors: ",
    leave_a_file: "no_stray_file: stray file checkpoints/search-0003-1-0002.safetensors",
    leave_half_a_file: "no_stray_file: stray file .trial-0001-1.safetensors.x7y",
}


def test_a_study_that_ended_well_breaks_nothing(ended: Ended) -> None:
    left = ended.look()
    assert [len(left.of(stage)) for stage in ("search", "full")] == [12, 2]
    assert violations(left, calm=left) == []


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__)
def test_a_broken_law_is_seen(ended: Ended, breach: Callable[[Connection, Ended], None]) -> None:
    with ended.storage.transaction() as connection:
        breach(connection, ended)
    found = violations(ended.look())
    assert any(line.startswith(BREACHES[breach]) for line in found), found


def test_a_process_that_lives_on_is_seen(ended: Ended) -> None:
    assert violations(ended.look(["17: hpo worker small"])) == [
        "no_process_left: process 17: hpo worker small"
    ]


def test_an_open_transaction_is_seen(ended: Ended) -> None:
    with ended.storage.engine.connect() as connection:
        connection.execute(select(schema.trials.c.trial_id))
        (line,) = violations(ended.look())
    assert line.startswith("no_open_transaction: transaction idle in transaction in process ")


def test_every_invariant_is_seen_to_fail() -> None:
    seen = {line.partition(":")[0] for line in BREACHES.values()} | {"no_process_left", "no_open_transaction"}
    assert seen == {invariant.__name__ for invariant in INVARIANTS}


def test_a_loss_that_differs_in_its_last_bit_is_seen(ended: Ended) -> None:
    calm, trial_id = ended.look(), ended.ids("search")[5]
    loss = math.nextafter(5 + 1 / 2, 9)
    with ended.storage.transaction() as connection:
        for table, step, column in (
            (schema.epochs, "epoch", "validation_loss"),
            (schema.intermediate_values, "step", "intermediate_value"),
        ):
            row = (table.c.trial_id == trial_id, table.c[step] == 2)
            connection.execute(update(table).where(*row).values({column: loss}))
    assert violations(ended.look(), calm) == [
        "same_numbers: search trial 5: loss 5.500000000000001 of epoch 2, without faults 5.5"
    ]


def test_another_best_than_without_faults_is_seen(ended: Ended) -> None:
    calm, table = ended.look(), schema.trial_values
    with ended.storage.transaction() as connection:
        trial = table.c.trial_id == ended.ids("search")[5]
        connection.execute(update(table).where(trial).values(value=0.1))
    assert violations(ended.look(), calm) == [
        "same_numbers: best search trial and value (0.1, 5), without faults (0.3333333333333333, 0)"
    ]
