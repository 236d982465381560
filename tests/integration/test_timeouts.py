"""Trials of a worker that hangs: a pack is handed back, a trial that hangs alone fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.claims import claim
from support.clients import expire_leases
from support.trial_records import hold, lease_rows, rows

from hpo.cli.tables import status_table
from hpo.spec.study_spec import StudySpec
from hpo.store import workers
from hpo.store.connection import Storage
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.lifecycle import stopped
from hpo.study.status import status
from hpo.study.study import Study
from hpo.study.timeouts import Timeout, time_out

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Six waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 6}), "test").study


def test_pack_that_hangs_is_handed_back_and_then_each_trial_alone(storage: Storage, study: Study) -> None:
    pack = claim(storage, study, "search", "one", 2)
    claim(storage, study, "search", "two", 1)
    assert time_out(storage, study, "one", 5.0) == Timeout(handed_back=(0, 1))
    assert [row.state.name for row in rows(storage, study)[:3]] == ["WAITING", "WAITING", "RUNNING"]
    assert hold(storage, *pack) == set()  # the worker that hangs writes nothing more
    (alone,) = claim(storage, study, "search", "one", 16)
    assert (alone.number, alone.alone) == (0, True)
    assert time_out(storage, study, "one", 0.5) == Timeout(failed=(0,))
    failed = rows(storage, study)[0]
    assert failed.state.name == "FAIL"
    assert failed.record.reason == "timed out: no epoch in 0.5 minutes (limits.epoch_minutes)"
    assert failed.record.worker == "one"


def test_worker_that_has_lost_its_trials_fails_none(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "one", 1)
    expire_leases(storage)
    claim(storage, study, "search", "two", 1)
    assert time_out(storage, study, "one", 5.0) == Timeout()
    assert rows(storage, study)[0].state.name == "RUNNING"


def test_network_that_always_hangs_stops_the_search(storage: Storage, study: Study) -> None:
    for _ in range(5):
        claim(storage, study, "search", "one", 1)
        time_out(storage, study, "one", 5.0)
    mark = stopped(storage, study, "search")
    assert mark is not None
    assert mark.reason.startswith("5 trials failed and none has trained an epoch; trial 0: timed out: ")
    assert lease_rows(storage) == {}


def register(storage: Storage, study: Study, name: str, quiet: float | None) -> None:
    with storage.transaction() as connection:
        workers.register(connection, WorkerEntry(name, study.name, "cpu"), 30.0, quiet)


def test_status_says_since_when_there_was_no_epoch(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "hangs", 2)
    claim(storage, study, "search", "trains", 1)
    register(storage, study, "hangs", 725.0)
    register(storage, study, "idle", 725.0)  # its pack has just ended
    register(storage, study, "new", None)
    register(storage, study, "trains", 3.0)
    figures = status(storage, study)
    quiet = {worker.name: worker.quiet_seconds for worker in figures.workers}
    assert quiet == {
        "hangs": pytest.approx(725, abs=20),
        "idle": None,
        "new": None,
        "trains": pytest.approx(3, abs=20),
    }
    text = " ".join(status_table(figures).split())
    assert "hangs (2 trials, no epoch for 12 min), idle (0 trials)" in text
    assert "trains (1 trial)" in text
    assert figures.to_json()["workers"][0]["quiet_seconds"] > 700
