"""The live status of a study: budget, time left, workers, events."""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import text
from support.claims import claim, serve_alone
from support.epochs import epoch_result

from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.live import live_status
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.study import Study
from hpo.worker.lease_renewal import LeaseRenewal

SpecOf = Callable[..., StudySpec]


def train(storage: Storage, study: Study, trials: list[LeasedTrial], epoch: int, age: float) -> None:
    """Record an epoch of these trials of the worker one, as if it had been `age` seconds ago."""
    with storage.transaction() as connection:
        reported = {trial.lease.trial_id: epoch_result(trial.number, epoch, 0.5) for trial in trials}
        results.report(connection, reported, study.objective, "one")
        connection.execute(
            text("UPDATE hpo.epoch SET at = now() - make_interval(secs => :age) WHERE epoch = :epoch"),
            {"age": age, "epoch": epoch},
        )


def serve(storage: Storage, study: Study, worker: str) -> None:
    LeaseRenewal(storage, WorkerEntry(worker, study.name, "cpu")).renew()


def test_new_study_has_no_time_yet(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    live = live_status(storage, study)
    assert live.status == status(storage, study)
    assert (live.search.budget.used, live.search.budget.total, live.search.budget.unit) == (0, 12, "trials")
    assert live.left.seconds is None
    assert live.left.basis == "no worker is running"
    assert not live.is_over
    assert (live.workers, live.events) == ([], [])


def test_running_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 4, "epochs": 3}), "test").study
    trials = claim(storage, study, "search", "one", 2)
    serve(storage, study, "one")
    serve(storage, study, "two")
    train(storage, study, trials, 1, age=10.0)
    train(storage, study, trials, 2, age=0.0)
    live = live_status(storage, study, {"search": 600})
    assert live.search.epochs == 4
    # Both workers are expected to train two epochs in ten seconds, and eight are left.
    assert live.search.left.seconds is not None
    assert 19 < live.search.left.seconds < 21
    assert live.search.left.basis == "from the last 4 epochs of 1 worker"
    one, two = live.workers
    assert (one.stage, one.trials, one.epochs) == ("search", tuple(t.number for t in trials), (2, 2))
    assert one.images_per_second is not None
    assert 110 < one.images_per_second < 130
    assert (two.stage, two.trials, two.epochs_per_second) == (None, (), None)
    assert [(entry.stage, entry.event.kind) for entry in live.events] == [("search", "claimed")] * 2


def test_epochs_and_device_hours_are_budgets(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"epochs": 50}), "test").study
    train(storage, study, claim(storage, study, "search", "one", 3), 1, age=1.0)
    budget = live_status(storage, study).search
    assert (budget.budget.used, budget.budget.total, budget.budget.unit) == (3, 50, "epochs")
    assert budget.share == 3 / 50
    other = create(storage, spec(name="hours", stop={"device_hours": 2}), "test").study
    assert live_status(storage, other).search.budget.unit == "device hours"


def test_full_training_after_the_search(storage: Storage, spec: SpecOf) -> None:
    changes = {"search": {"trials": 2}, "promotion": {"top": 1, "seeds": 2}}
    study = create(storage, spec(**changes), "test").study
    serve_alone(storage, study, 2)
    assert live_status(storage, study).is_over  # nothing is promoted yet
    promote(storage, study)
    assert not live_status(storage, study).is_over
    (training,) = claim(storage, study, "full", "one", 1)
    serve(storage, study, "one")
    train(storage, study, [training], 1, age=1.0)
    live = live_status(storage, study)
    assert live.search.share == 1.0
    assert live.search.left.seconds == 0
    assert live.full.share == 1 / 3 / 2  # one of three epochs of one of two trainings
    assert live.left == live.full.left
    assert (live.left.low or 0) > 0
    assert live.workers[0].stage == "full"


def test_other_studies_do_not_count(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    other = create(storage, spec(name="other"), "test").study
    train(storage, other, claim(storage, other, "search", "one", 2), 1, age=1.0)
    live = live_status(storage, study)
    assert (live.search.epochs, live.events) == (0, [])


def test_live_status_as_json(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 4, "epochs": 3}), "test").study
    trials = claim(storage, study, "search", "one", 2)
    serve(storage, study, "one")
    train(storage, study, trials, 1, age=1.0)
    plain = json.loads(json.dumps(live_status(storage, study).to_json()))
    assert plain["search"]["progress"]["budget"] == {"used": 0, "total": 4, "unit": "trials"}
    assert plain["left"].keys() == {"seconds", "low", "high", "basis"}
    (worker,) = plain["workers"]
    assert (worker["running"], len(worker["trials"]), worker["epochs"]) == (2, 2, [1, 1])
    assert [event["kind"] for event in plain["events"]] == ["claimed", "claimed"]
    assert plain["events"][0]["worker"] == "one"
