"""A pack that raises: its trials run again, each alone, and only a trial that raises alone fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import text
from support.artifacts import folder_of
from support.claims import claim
from support.reporters import reporter, target
from support.small_worker import (
    LIMITS,
    STEPS,
    StepHooks,
    WorkerFactory,
    epoch_rows,
    states,
    trial_records,
    trials,
)
from support.trial_records import lease_rows

from hpo.errors import AwayError, ConflictError, TrainingError
from hpo.spec.study_spec import StudySpec
from hpo.store import events, leases
from hpo.store.connection import Storage
from hpo.store.retry import Backoff
from hpo.study.create import create
from hpo.study.lifecycle import Stopped, resume, stop_broken_search, stopped
from hpo.study.packs import SUSPECT_LOSSES
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.training.pack import Pack
from hpo.worker.outbox import Outbox
from hpo.worker.runtime import Runtime
from hpo.worker.worker import Worker

Hook = Callable[[Pack], None]


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> StepHooks:
    return StepHooks.installed(monkeypatch)


def leased(storage: Storage) -> set[int]:
    """Return the numbers of the trials that a worker holds."""
    query = "SELECT number FROM trials JOIN hpo.lease USING (trial_id) WHERE worker IS NOT NULL"
    with storage.transaction() as connection:
        return set(connection.execute(text(query)).scalars())


def raises_for(storage: Storage, *numbers: int, epochs: int = 0) -> Hook:
    """Return a hook that raises if one of the trials trains and has that many epochs.

    A trial of the pack before may still have a lease, because its end is delivered while others train.
    """

    def hook(pack: Pack) -> None:
        query = (
            "SELECT number, (SELECT count(*) FROM hpo.epoch WHERE trial_id = trials.trial_id) "
            "FROM trials JOIN hpo.lease USING (trial_id) WHERE worker IS NOT NULL "
            "ORDER BY token DESC LIMIT :width"
        )
        with storage.transaction() as connection:
            rows = connection.execute(text(query), {"width": len(pack)}).all()
        if any(number in numbers and trained >= epochs for number, trained in rows):
            raise ValueError("the rate is too high")

    return hook


def kinds(storage: Storage, worker: Worker, number: int) -> list[str]:
    with storage.transaction() as connection:
        happened = events.read(connection, [worker.study.search_id])
    return [event.kind for event in happened if event.trial == number]


@pytest.mark.parametrize("epochs", [0, 2], ids=["at once", "after two epochs"])
def test_only_the_trial_that_raises_alone_fails(
    works: WorkerFactory, storage: Storage, steps: StepHooks, epochs: int
) -> None:
    calm = works("calm", search={"trials": 8, "epochs": 3})
    calm.run()
    worker = works(search={"trials": 8, "epochs": 3})
    steps.each = raises_for(storage, 5, epochs=epochs)
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 5 + ["FAIL"] + ["COMPLETE"] * 2
    records, expected = trial_records(storage, worker.study), trial_records(storage, calm.study)
    del records[5], expected[5]
    assert records == expected  # from the last whole epoch, to the bit
    (failed,) = (row for row in trials(storage, worker.study) if row.state.name == "FAIL")
    assert failed.record.reason == "ValueError: the rate is too high"
    assert kinds(storage, worker, 5) == ["claimed", "handed back", "taken over", "failed"]
    assert kinds(storage, worker, 0) == ["claimed", "handed back", "taken over", "completed"]
    assert lease_rows(storage) == {}


def test_code_that_raises_once_fails_no_trial(
    works: WorkerFactory, storage: Storage, steps: StepHooks, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("a file was away")

    worker = works(search={"trials": 4, "epochs": 2})
    steps.at = {STEPS + 3: fail}
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 4
    assert {n: len(epochs) for n, epochs in epoch_rows(storage, worker.study).items()} == dict.fromkeys(
        range(4), 2
    )
    assert set(steps.widths[STEPS + 3 :]) == {1}
    assert "search: each of the 4 trials runs alone next" in caplog.messages


def test_several_trials_that_raise_do_not_end_a_worker_that_trains_others(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    worker = works(search={"trials": 8, "epochs": 2})
    failing = [1, 2, 4, 5, 7]
    steps.each = raises_for(storage, *failing, epochs=1)
    worker.run()
    assert [row.number for row in trials(storage, worker.study) if row.state.name == "FAIL"] == failing


def test_code_that_calls_exit_fails_its_trial(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    worker = works(search={"trials": 2, "epochs": 1})
    steps.each = lambda _pack: sys.exit("enough") if 1 in leased(storage) else None
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE", "FAIL"]
    assert trials(storage, worker.study)[1].record.reason == "SystemExit: enough"


def test_trials_of_a_network_that_cannot_be_built_run_alone(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise KeyError("no such layer")

    worker = works(search={"trials": 2, "epochs": 1})
    monkeypatch.setattr("hpo.models.build_with", refuse)
    with pytest.raises(TrainingError, match="3 packs in a row failed"):
        worker.run()
    assert states(storage, worker.study) == ["FAIL"] * 2


def test_trial_that_cannot_be_saved_is_handed_back_from_its_last_checkpoint(
    works: WorkerFactory, storage: Storage, steps: StepHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = works(search={"trials": 2, "epochs": 3})

    def refuse_states() -> None:
        def states(*_arguments: object) -> None:
            raise RuntimeError("no state")

        with monkeypatch.context() as patch:
            patch.setattr("hpo.training.session.PackSession.states", states)
            raise ValueError("a shape is wrong")

    steps.at = {STEPS + 3: refuse_states}
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 2


def test_worker_that_cannot_save_a_model_hands_it_back_and_ends(
    works: WorkerFactory, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    loop = replace(LIMITS.loop, unsaved_seconds=0.05)
    runtime = Runtime(limits=replace(LIMITS, loop=loop))
    worker = works(search={"trials": 1, "epochs": 1}, promotes=True, runtime=runtime)
    folder = folder_of(worker.settings.artifacts)
    folder.parent.mkdir(parents=True)
    folder.touch()  # a file in the place of the folder
    with pytest.raises(AwayError, match=r"^full: the weights of 0 could not be saved for 0.05 s; "):
        worker.run()
    assert states(storage, worker.study, "full") == ["WAITING"]
    assert any(message.startswith("not saved: ") for message in caplog.messages)
    folder.unlink()
    works(search={"trials": 1, "epochs": 1}, promotes=True).run()
    assert states(storage, worker.study, "full") == ["COMPLETE"]


# The mark


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    """Four waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 4}), "test").study


def hand_back(storage: Storage, study: Study, outbox: Outbox, width: int = 4) -> list[int]:
    """Claim a pack, hand it back, and return the numbers of its trials."""
    pack = claim(storage, study, "search", "one", width)
    serving = reporter(target(storage, study), pack, outbox)
    serving.hand_back("ValueError: \0 odd")
    assert outbox.wait(30)
    assert serving.leases == ()
    return [trial.number for trial in pack]


def test_handed_back_trials_come_alone_and_before_others(
    storage: Storage, study: Study, outbox: Outbox
) -> None:
    assert hand_back(storage, study, outbox, 2) == [0, 1]
    packs = [claim(storage, study, "search", f"w{n}", 16) for n in range(3)]
    assert [[(trial.number, trial.alone) for trial in pack] for pack in packs] == [
        [(0, True)],
        [(1, True)],
        [(2, False), (3, False)],
    ]


def test_handed_back_trials_join_no_pack(storage: Storage, study: Study, outbox: Outbox) -> None:
    hand_back(storage, study, outbox)
    with storage.transaction() as connection:
        assert not leases.any_lost(connection, study.search_id, SUSPECT_LOSSES)


def test_hand_back_without_a_lease_changes_nothing(storage: Storage, study: Study, outbox: Outbox) -> None:
    pack = claim(storage, study, "search", "one", 4)
    serving = reporter(target(storage, study), pack, outbox)
    with storage.transaction() as connection:
        leases.expire(connection, "one")
    assert len(claim(storage, study, "search", "two", 4)) == 4
    serving.hand_back("too late")
    assert outbox.wait(30)
    assert leased(storage) == {0, 1, 2, 3}
    assert not any(row.record.alone for row in trials(storage, study))


# A search that cannot train at all


def fail_alone(storage: Storage, study: Study, outbox: Outbox, *reasons: str) -> None:
    """Fail trials, one after another."""
    for reason in reasons:
        pack = claim(storage, study, "search", "one", 1)
        serving = reporter(target(storage, study), pack, outbox)
        serving.fail(ValueError("why"), [trial.number for trial in pack], reason)
        assert outbox.wait(30)


def test_search_of_which_no_trial_trains_stops(
    storage: Storage, spec: Callable[..., StudySpec], outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    study = create(storage, spec(space={"batch_size": 16}, search={"trials": 12}), "test").study
    hand_back(storage, study, outbox, 12)
    fail_alone(storage, study, outbox, *["ValueError: a", "ValueError: b"] * 2)
    assert stopped(storage, study, "search") is None
    fail_alone(storage, study, outbox, "ValueError: c")
    reason = "5 trials failed and none has trained an epoch; trial 0: ValueError: a"
    assert stopped(storage, study, "search") == Stopped("failures", reason)
    assert f"search: stopped: {reason}" in caplog.messages
    assert claim(storage, study, "search", "one", 16) == []
    message = r"none of its 12 search trials completed; 5 trials failed, .* hpo study retry small$"
    with pytest.raises(ConflictError, match=message):
        promote(storage, study)
    assert stop_broken_search(storage, study) is None
    resume(storage, study)
    assert claim(storage, study, "search", "one", 16)


@pytest.mark.parametrize(
    "reasons",
    [
        ["ValueError: a"] * 4 + ["KeyError: b"],
        ["its loss was not finite in epoch 1"] * 6,
        ["ValueError: a"] * 4 + ["its loss was not finite in epoch 1"],
    ],
    ids=["two kinds", "diverged", "some diverged"],
)
def test_other_failures_do_not_stop_the_search(
    storage: Storage, spec: Callable[..., StudySpec], outbox: Outbox, reasons: list[str]
) -> None:
    study = create(storage, spec(space={"batch_size": 16}, search={"trials": 12}), "test").study
    fail_alone(storage, study, outbox, *reasons)
    assert stopped(storage, study, "search") is None


def test_failures_after_an_epoch_do_not_stop_the_search(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    assert LIMITS.max_failures == 3
    worker = works(search={"trials": 9, "epochs": 1})
    steps.each = raises_for(storage, *range(1, 9))
    while "WAITING" in states(storage, worker.study):
        with suppress(TrainingError):
            works(search={"trials": 9, "epochs": 1}).run()
    assert states(storage, worker.study) == ["COMPLETE"] + ["FAIL"] * 8
