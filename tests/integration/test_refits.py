"""Refits: queued once, after the last full training, of all seeds of the best, on all training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from support.claims import claim, finish
from support.clients import at_once, promote_study
from support.epochs import epoch_result
from support.outcomes import trained
from support.small_worker import (
    StepHooks,
    WorkerFactory,
    epoch_rows,
    forget_worker,
    trial_records,
    trials,
    weights,
)

from hpo.cli.next_step import next_step
from hpo.cli.tables import trials_of
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study import lifecycle
from hpo.study.best import best_params
from hpo.study.completion import files_in_use, is_done, is_finished
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.retry import retry
from hpo.study.status import status
from hpo.study.study import Study
from hpo.values.epoch import TRAIN_LOSS

SpecOf = Callable[..., StudySpec]

FULL: dict[str, Any] = {
    "pretrain": {"epochs": 4, "patience": 2},
    "finetune": {"epochs": 3, "patience": 2},
    "refit": True,
}
STUDY: dict[str, Any] = {
    "search": {"trials": 4},
    "space": {"batch_size": 32},
    "promotion": {"top": 2, "seeds": 2},
}
CURVES = (
    (5.0, 4.0, 4.5, 4.6, 3.0, 2.5),
    (5.0, 4.0, 3.0, 2.0, 2.5, 2.6),
    (6.0, 5.0, 4.0, 3.5, 3.4, 3.6, 3.7),
    (3.0, 2.0, 2.5, 2.6, 1.5, 1.0, 1.2),
    (3.0, 0.5, 0.6, 0.7, 0.8, 0.9),
    (9.0, 8.0),
)
"""Validation losses of full trainings, by number. The second promoted trial has the numbers 2 and 3."""


def created(storage: Storage, spec: SpecOf, **changes: Any) -> Study:
    return create(storage, spec(**{**STUDY, "full": FULL, **changes}), "test").study


def searched(storage: Storage, study: Study) -> Study:
    """Finish the search and queue the full trainings."""
    while open_trials := claim(storage, study, "search", "one", 16):
        finish(storage, open_trials)
    promote(storage, study)
    return study


def train(storage: Storage, study: Study, count: int = 16) -> None:
    """End waiting full trainings as if they had trained with `CURVES`."""
    while count and (open_trials := claim(storage, study, "full", "one", count)):
        count -= len(open_trials)
        for trial in open_trials:
            curve, trial_id = CURVES[trial.number], trial.lease.trial_id
            with storage.transaction() as connection:
                for epoch, loss in enumerate(curve, start=1):
                    result = epoch_result(trial.number, epoch, loss)
                    results.report(connection, {trial_id: result}, study.objective)
                kept = curve.index(min(curve)) + 1
                outcome = trained(min(curve), epochs=len(curve), kept_epoch=kept)
                results.finish(connection, {trial_id: outcome})


def refit(storage: Storage, study: Study) -> None:
    """End waiting refits as a worker does."""
    while open_trials := claim(storage, study, "full", "one", 16):
        for trial in open_trials:
            assert trial.limits is not None
            epoch = sum(trial.limits)
            result = replace(epoch_result(trial.number, epoch, 0.1), metrics={TRAIN_LOSS: 0.1})
            outcome = TrialOutcome(
                TrialState.COMPLETE,
                study.objective.worst,
                epochs=epoch,
                kept_epoch=epoch,
                metrics=result.metrics,
                weights=f"weights/{trial.number}",
            )
            with storage.transaction() as connection:
                results.report(connection, {trial.lease.trial_id: result}, study.objective)
                results.finish(connection, {trial.lease.trial_id: outcome})


def refits(storage: Storage, study: Study) -> list[TrialRow]:
    return [row for row in trials(storage, study, "full") if row.record.refit_of is not None]


def test_seeds_of_the_best_are_refitted_after_the_last_training(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study, count=3)
    assert promote(storage, study).queued == 0
    assert status(storage, study).full.budget == 6
    train(storage, study)
    assert is_finished(storage, study, "full")
    promotion = promote(storage, study)
    assert promotion.announcement == "full training finished; refitting trials 3, 2"  # best first
    assert (promotion.added, promotion.queued) == (0, 2)
    old = trials(storage, study, "full")[3:1:-1]
    for row, training, limits in zip(refits(storage, study), old, [(2, 2), (4, 1)], strict=True):
        assert (row.record.refit_of, row.record.limits) == (training.number, limits)
        assert row.record.seed == training.record.seed
        assert row.record.promoted_from == training.record.promoted_from
        assert row.point == training.point
        assert row.state == TrialState.WAITING
    assert promote(storage, study).queued == 0
    assert not is_finished(storage, study, "full")


def test_four_processes_queue_refits_once(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study)
    assert sorted(at_once(4, promote_study, storage.url, "small")) == [0, 0, 0, 2]
    assert len(refits(storage, study)) == 2


def test_refit_ranks_nothing(storage: Storage, spec: SpecOf) -> None:
    for direction in ("minimize", "maximize"):
        objective = {"metric": "loss" if direction == "minimize" else "accuracy"}
        study = searched(storage, created(storage, spec, name=direction, objective=objective))
        train(storage, study)
        before = best_params(storage, study)
        promote(storage, study)
        refit(storage, study)
        assert best_params(storage, study) == before
        best = status(storage, study).full.best
        assert best is not None
        assert best.trial == before.trial
        shown = storage.study(study.spec.full_name)
        assert shown.best_trial.number == before.trial
        first = shown.trials[refits(storage, study)[0].number]
        assert first.value == study.objective.worst
        assert (first.user_attrs["refit_of"], first.intermediate_values) == (before.trial, {})
        assert "accuracy" not in first.user_attrs
        assert all(row.value is None for row in refits(storage, study))
        assert promote(storage, study).queued == 0


def test_tables_name_the_training_that_a_refit_repeats(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study)
    promote(storage, study)
    refit(storage, study)
    table = trials_of(trials(storage, study, "full"), "full", study.objective)
    shown = [dict(zip(table.columns, line, strict=True)) for line in table.rows]
    assert [row["refit of"] for row in shown] == ["-", "-", "-", "-", "3", "2"]
    assert [row["epochs"] for row in shown[4:]] == ["4", "5"]
    assert [(row["loss"], row["accuracy"]) for row in shown[4:]] == [("-", "-")] * 2


def test_refits_and_trainings_are_no_pack_mates(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study)
    promote(storage, study)
    more = created(storage, spec, promotion={"top": 2, "seeds": 3})
    assert promote(storage, more).added == 2
    first, second = claim(storage, more, "full", "one", 16), claim(storage, more, "full", "two", 16)
    assert [trial.limits for trial in first] == [(2, 2), (4, 1)]
    assert [trial.limits for trial in second] == [None, None]
    assert first[0].pack_key(study.spec.space) != second[0].pack_key(study.spec.space)
    key = first[0].pack_key(study.spec.space)
    assert claim(storage, more, "full", "three", 16, key=key) == []


def test_more_trainings_refit_a_new_best(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec, promotion={"top": 1, "seeds": 2}))
    train(storage, study)
    assert [row.number for row in promote(storage, study).refitted] == [1, 0]
    refit(storage, study)
    more = created(storage, spec, promotion={"top": 2, "seeds": 1 + 1})
    assert promote(storage, more).added == 2
    assert promote(storage, more).queued == 0  # they may become the best
    more_curves = claim(storage, more, "full", "one", 16)
    with storage.transaction() as connection:
        for trial, curve in zip(more_curves, CURVES[4:], strict=True):
            trial_id = trial.lease.trial_id
            for epoch, loss in enumerate(curve, start=1):
                result = epoch_result(trial.number, epoch, loss)
                results.report(connection, {trial_id: result}, study.objective)
            kept = curve.index(min(curve)) + 1
            results.finish(connection, {trial_id: trained(min(curve), epochs=len(curve), kept_epoch=kept)})
    assert [row.number for row in promote(storage, more).refitted] == [4, 5]
    assert [row.record.limits for row in refits(storage, more)][2:] == [(2,), (2,)]
    figures = status(storage, more).full
    assert (figures.budget, figures.refits, figures.due) == (8, 4, 0)


def test_failed_refit_is_retried(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study)
    promote(storage, study)
    with storage.transaction() as connection:
        for trial in claim(storage, study, "full", "one", 16):
            failure = TrialOutcome(TrialState.FAIL, reason="ValueError: a bug")
            results.finish(connection, {trial.lease.trial_id: failure})
    assert promote(storage, study).queued == 0
    assert retry(storage, study).queued["full"] == {4: 6, 5: 7}
    again = refits(storage, study)[2:]
    assert [(row.record.refit_of, row.record.limits) for row in again] == [(3, (2, 2)), (2, (4, 1))]
    assert status(storage, study).full.budget == 8
    refit(storage, study)
    assert is_done(storage, study)


def test_refit_may_be_switched_on_later(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec, full={**FULL, "refit": False}))
    train(storage, study)
    assert promote(storage, study).queued == 0
    assert is_done(storage, study)
    assert next_step(status(storage, study)) == "finished; next: hpo export small --bundle DIR"
    creation = create(storage, spec(**STUDY, full=FULL), "test")
    assert (creation.did, creation.added) == ("updated", 0)
    assert not is_done(storage, study)
    figures = status(storage, creation.study)
    assert (figures.full.budget, figures.full.refits, figures.full.due) == (6, 2, 2)
    assert next_step(figures) == (
        "full training finished; next: hpo promote small to refit the best, then hpo workers small"
    )
    assert promote(storage, study).queued == 2
    assert "next: hpo workers small" in next_step(status(storage, creation.study))
    refit(storage, study)
    assert next_step(status(storage, creation.study)).startswith("finished; next: hpo export")


def test_stopped_study_queues_no_refit(storage: Storage, spec: SpecOf) -> None:
    study = searched(storage, created(storage, spec))
    train(storage, study)
    lifecycle.stop(storage, study)
    assert promote(storage, study).queued == 0
    assert not is_done(storage, study)
    lifecycle.resume(storage, study)
    assert promote(storage, study).queued == 2


def test_worker_refits_on_all_images_for_the_chosen_epochs(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = StepHooks.installed(monkeypatch)
    images_of: dict[str, int] = {}
    with caplog.at_level("INFO", logger="hpo.worker"):
        worker = works(
            promotes=True, full=FULL, promotion={"top": 1, "seeds": 2}, search={"trials": 2, "epochs": 1}
        )
        workload = works._workload
        assert workload is not None
        original = type(workload).images

        def images(self: Any, part: Any, device: Any) -> Any:
            made = original(self, part, device)
            images_of.setdefault(part, len(made[0]))
            return made

        monkeypatch.setattr(type(workload), "images", images)
        worker.run()
    study = worker.study
    assert images_of["refit"] == len(workload.train) == images_of["full"] + len(workload.splits.mini)
    first, second, *again = trials(storage, study, "full")
    assert [row.record.refit_of for row in again] == [0, 1]
    for training, row in zip((first, second), again, strict=True):
        assert row.state == TrialState.COMPLETE
        assert row.record.limits is not None
        assert row.record.epochs == row.record.kept_epoch == sum(row.record.limits)
        assert row.record.epochs <= (training.record.kept_epoch or 0)
        assert row.record.metrics is not None
        assert row.record.metrics.keys() == {TRAIN_LOSS}
    for number in (2, 3):
        for metrics, value in (row[1:] for row in epoch_rows(storage, study, "full")[number]):
            assert (metrics.keys(), value) == ({TRAIN_LOSS}, None)
    assert caplog.messages.count("full training finished; refitting trials 0, 1") == 1
    assert any("images all, pack of 2" in message for message in caplog.messages)
    assert steps.count > 0
    used = files_in_use(storage, study)
    assert used == {row.record.weights for row in (first, second, *again)}


class Killed(BaseException):
    """The end of a killed process, which writes nothing more."""


def test_killed_refit_ends_like_an_undisturbed_one(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"promotes": True, "full": FULL, "search": {"trials": 2, "epochs": 1}}
    calm = works("calm", **changes)
    calm.run()
    steps, tries = StepHooks.installed(monkeypatch), 0

    def kill() -> None:
        raise Killed

    while True:
        worker = works(worker=f"w{tries}", **changes)
        steps.count, steps.at = 0, {60: kill} if tries % 2 else {75: worker.stop_now}
        try:
            worker.run()
        except Killed:
            forget_worker(storage, worker.settings.name)
        else:
            if steps.at:
                break
        tries += 1
    assert tries >= 3
    for stage in ("search", "full"):
        assert trial_records(storage, worker.study, stage) == trial_records(storage, calm.study, stage)
    trained_weights, expected = weights(worker), weights(calm)
    assert trained_weights.keys() == expected.keys() == {0, 1}
    for number in expected:
        for name, tensor in expected[number].items():
            assert torch.equal(trained_weights[number][name], tensor)
    (_, again) = trials(storage, worker.study, "full")
    assert again.record.refit_of == 0
