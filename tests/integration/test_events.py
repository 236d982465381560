"""The events of a study's trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim, finish, serve_alone
from support.clients import expire_leases
from support.epochs import epoch_result
from support.outcomes import trained
from support.reporters import reporter, target
from support.small_worker import WorkerFactory, use_small_network
from support.workloads import digits_workload

from hpo.artifacts.folder import FolderStore
from hpo.errors import InputError
from hpo.export.export import export_bundle
from hpo.export.request import ExportRequest
from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, events, leases, results
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.events import Event
from hpo.store.retry import Backoff
from hpo.study import pause
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.status import status
from hpo.study.stored import remove
from hpo.study.study import Study
from hpo.worker.outbox import Outbox

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Two waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 2}), "test").study


def history(storage: Storage, study: Study) -> list[Event]:
    with storage.transaction() as connection:
        return events.read(connection, (study.search_id, study.full_id))


def last(storage: Storage, study: Study) -> tuple[int, str | None, str, Any]:
    """Return trial, worker, kind and detail of the newest event."""
    event = history(storage, study)[-1]
    return event.trial, event.worker, event.kind, event.detail


def test_new_study_has_no_events(storage: Storage, study: Study) -> None:
    assert history(storage, study) == []


def test_claims_are_told_apart(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    assert last(storage, study) == (0, "one", "claimed", {})
    expire_leases(storage)
    claim(storage, study, "search", "two", 1)
    assert [(e.trial, e.worker, e.kind) for e in history(storage, study)] == [
        (0, "one", "claimed"),
        (0, "one", "lost"),
        (0, "two", "taken over"),
    ]
    with storage.transaction() as connection:
        checkpoints.save(connection, {trial.lease.trial_id: Checkpoint(4, "four")})
    expire_leases(storage)
    claim(storage, study, "search", "three", 1)
    assert last(storage, study) == (0, "three", "taken over", {"epoch": 4})


def test_released_trial_is_taken_over(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
        leases.release(connection, [trial.lease])
    assert last(storage, study) == (0, "one", "released", {})
    claim(storage, study, "search", "two", 1)
    assert [e.kind for e in history(storage, study)] == ["claimed", "released", "taken over"]


def test_lost_trial_is_noted_once_by_whoever_looks_first(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "one", 2)
    expire_leases(storage)
    status(storage, study)
    status(storage, study)
    assert [(e.trial, e.worker, e.kind) for e in history(storage, study)[2:]] == [
        (0, "one", "lost"),
        (1, "one", "lost"),
    ]


@pytest.mark.parametrize(
    ("state", "kind"),
    [(TrialState.COMPLETE, "completed"), (TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed")],
)
def test_end_is_noted_once(storage: Storage, study: Study, state: TrialState, kind: str) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    outcome = trained(0.5, state, epochs=3, reason="why" if kind == "failed" else None)
    for _ in range(2):
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: outcome}, "one", "cpu")
    detail = {"epochs": 3, "reason": "why"} if kind == "failed" else {"epochs": 3}
    assert last(storage, study) == (0, "one", kind, detail)
    assert len(history(storage, study)) == 2


def test_trial_of_another_program_fails_with_a_reason(storage: Storage, study: Study) -> None:
    storage.study("small").enqueue_trial({"lr": 5.0})
    claim(storage, study, "search", "one", 1)
    event = history(storage, study)[0]
    assert (event.trial, event.worker, event.kind) == (2, None, "failed")
    assert event.detail["reason"].startswith("was not created by hpo")


def test_pauses_are_noted_with_their_epoch(storage: Storage, spec: SpecOf, outbox: Outbox) -> None:
    wanted = spec(space={"batch_size": 16}, pruner={"name": "pause"}, search={"trials": 2, "epochs": 5})
    study = create(storage, wanted, "test").study
    trials = claim(storage, study, "search", "one", 2)
    pack = reporter(target(storage, study), trials, outbox)
    pack.report([epoch_result(number, 1, 0.5) for number in (0, 1)])
    pack.pause({number: Checkpoint(1, f"file-{number}") for number in pack.pop_pausing()})
    assert pack.flush(30)
    (resumed, *_) = claim(storage, study, "search", "two", 1)
    kinds = [(e.trial, e.worker, e.kind, e.detail) for e in history(storage, study)]
    assert kinds == [
        (0, "one", "claimed", {}),
        (1, "one", "claimed", {}),
        (0, "one", "paused", {"epoch": 1}),
        (1, "one", "paused", {"epoch": 1}),
        (resumed.number, "two", "resumed", {"epoch": 1}),
    ]
    with storage.transaction() as connection:
        pause.prune_paused(connection, study)
    assert last(storage, study) == (1 - resumed.number, None, "pruned", {"epochs": 1})


def test_promotion_is_noted_once_for_each_chosen_trial(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(promotion={"top": 2, "seeds": 2}), "test").study
    serve_alone(storage, study, 4)
    chosen = [row.number for row in promote(storage, study).chosen]
    promote(storage, study)
    promoted = [event for event in history(storage, study) if event.kind == "promoted"]
    assert [(e.study_id, e.trial, e.detail) for e in promoted] == [
        (study.search_id, chosen[0], {"full": [0, 1]}),
        (study.search_id, chosen[1], {"full": [2, 3]}),
    ]
    finish(storage, claim(storage, study, "full", "one", 1))
    assert history(storage, study)[-1].study_id == study.full_id


def test_export_is_noted_once_the_bundle_is_written(
    storage: Storage, spec: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_network(monkeypatch)
    works = WorkerFactory(storage, spec, tmp_path)
    worker = works(search={"trials": 1, "epochs": 1}, promotes=True)
    worker.run()
    workload = digits_workload(worker.study.spec)
    export = partial(export_bundle, storage, worker.study, workload, worker.settings.artifacts)
    occupied = tmp_path / "occupied"
    occupied.write_text("")
    with pytest.raises(InputError):
        export(ExportRequest(occupied))
    export(ExportRequest(tmp_path / "bundle"))
    directory = str(tmp_path / "bundle")
    full = [event for event in history(storage, worker.study) if event.study_id == worker.study.full_id]
    assert [(e.trial, e.kind, e.detail) for e in full[-2:]] == [
        (0, "tested", {"trials": [0], "shifts": 0, "n": 360}),
        (0, "exported", {"directory": directory, "trials": [0], "shifts": 0}),
    ]


def test_event_is_written_with_the_change_or_not_at_all(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)

    def end_and_fail() -> None:
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: trained(0.5)})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        end_and_fail()
    assert [event.kind for event in history(storage, study)] == ["claimed"]


def test_events_are_in_the_order_of_the_writes(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    """The transaction of the second claim begins before the first trial ends, and waits for the lock."""
    (trial,) = claim(storage, study, "search", "one", 1)
    second = threading.Thread(target=claim, args=(storage, study, "search", "two", 1))
    with storage.transaction() as connection:
        connection.execute(text("SELECT study_id FROM studies FOR UPDATE"))
        second.start()
        until_blocked()
        with storage.transaction() as other:
            results.finish(other, {trial.lease.trial_id: trained(0.5)}, "one", "cpu")
    second.join(20)
    happened = history(storage, study)
    assert [(e.trial, e.kind) for e in happened] == [(0, "claimed"), (0, "completed"), (1, "claimed")]
    assert sorted(happened, key=lambda event: event.at) == happened


def test_deleting_a_study_deletes_its_events(
    storage: Storage, spec: SpecOf, study: Study, tmp_path: Any
) -> None:
    other = create(storage, spec(name="other"), "test").study
    claim(storage, study, "search", "one", 1)
    claim(storage, other, "search", "one", 1)
    remove(storage, study, FolderStore(tmp_path))
    assert history(storage, study) == []
    assert len(history(storage, other)) == 1
    storage.backend.delete_study(other.search_id)  # as the dashboard does
    assert history(storage, other) == []


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened
