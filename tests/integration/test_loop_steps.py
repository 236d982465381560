"""The steps of a trial loop, driven without a thread: what each does, and what it asks of its driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.claims import claim
from support.reporters import reporter, target

from benchmarks.null_training import NullTraining
from hpo.simulate.session import NoFiles, nothing_beside
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.store.retry import Backoff
from hpo.study.create import create
from hpo.study.study import Study
from hpo.values.objective import LOSS
from hpo.worker.outbox import Outbox
from hpo.worker.runtime import Runtime
from hpo.worker.steps import AGAIN, DONE, Wait
from hpo.worker.trial_loop import LoopServices, PackSettings, TrialLoop

EPOCHS = 2


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    small = spec(space={"batch_size": 16}, search={"trials": 3, "epochs": EPOCHS})
    return create(storage, small, "test").study


def loop_of(storage: Storage, study: Study, outbox: Outbox, runtime: Runtime) -> TrialLoop:
    """Return the loop of a pack of all trials, whose sessions train nothing."""
    claimed = claim(storage, study, "search", "one", 3)
    services = LoopServices(
        reporter(target(storage, study), claimed, outbox),
        outbox,
        NoFiles(),
        lambda width: [],  # noqa: ARG005
        nothing_beside,
        lambda results: None,  # noqa: ARG005
    )
    training = NullTraining(EPOCHS, lambda number, epoch: number + 1 / epoch)
    return TrialLoop(training, claimed, PackSettings("search", 3, fills=False), services, runtime)


def recorded(storage: Storage, study: Study) -> list[int]:
    """Return the number of recorded epochs of each trial that has any."""
    with storage.transaction() as connection:
        curves = results.curves(connection, study.search_id, LOSS)
    return [len(curve.costs) for curve in curves.values() if curve.costs]


def states(storage: Storage, study: Study) -> set[str]:
    with storage.transaction() as connection:
        return {row.state.name for row in trials.read(connection, study.search_id).ours}


def test_epoch_is_trained_in_one_step_and_reported_in_the_next(
    storage: Storage, study: Study, outbox: Outbox
) -> None:
    loop = loop_of(storage, study, outbox, Runtime())
    assert loop.step() == AGAIN  # prepares
    seen = []
    for _ in range(2 * EPOCHS):
        assert loop.step() == AGAIN
        seen.append(recorded(storage, study))
    assert seen == [[], [1] * 3, [1] * 3, [2] * 3]
    assert states(storage, study) == {"COMPLETE"}
    wait = loop.step()
    assert isinstance(wait, Wait)
    assert wait.for_delivery
    assert loop.step() == DONE


def test_stop_between_the_steps_reports_the_epoch_and_releases_the_trials(
    storage: Storage, study: Study, outbox: Outbox
) -> None:
    runtime = Runtime()
    loop = loop_of(storage, study, outbox, runtime)
    for _ in range(2):
        assert loop.step() == AGAIN
    runtime.stop.set()
    assert loop.step() == AGAIN
    assert loop.step() == DONE
    assert recorded(storage, study) == [1] * 3
    assert states(storage, study) == {"WAITING"}


def test_stop_before_the_first_step_trains_nothing(storage: Storage, study: Study, outbox: Outbox) -> None:
    runtime = Runtime()
    loop = loop_of(storage, study, outbox, runtime)
    runtime.stop.set()
    assert loop.step() == AGAIN
    assert loop.step() == DONE
    assert recorded(storage, study) == []
    assert states(storage, study) == {"WAITING"}
