"""A worker in this process, on real Postgres and real digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import load_file
from torch import nn

import models
from hpo import catalog
from hpo.errors import TrainingError
from hpo.spec import StudySpec
from hpo.storage import Storage
from hpo.study import Study, create
from hpo.worker import MOST_FAILURES, Worker
from hpo.workload import Workload

DIGITS = {"name": "digits", "mini": 0.5, "validation": 0.4}

pytestmark = pytest.mark.slow


class Broken(nn.Module):
    """Can be built and looked at, but not trained."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(28 * 28 * in_channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("no such luck")
        return self.linear(images.flatten(1))


@pytest.fixture
def work(storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path) -> Callable[..., Worker]:
    """`work(search={"trials": 4})`: stores that study; gives a worker for it."""

    def worker(promotes: bool = False, **changes: Any) -> Worker:
        torch.set_num_threads(1)
        small = {"data": DIGITS, "search": {"trials": 4, "epochs": 1}, **changes}
        study = create(storage, spec(**small), "test").study
        workload = Workload(study.spec, tmp_path)
        return Worker(storage, study, workload, "w", "cpu", tmp_path, promotes=promotes)

    return worker


def rows(storage: Storage, study: Study, stage: str) -> list[catalog.TrialRow]:
    with storage.transaction() as connection:
        return catalog.trials(connection, study.study_id(stage))


def test_it_trains_promotes_and_keeps_the_weights(storage: Storage, work: Callable[..., Worker]) -> None:
    worker = work(promotes=True)
    worker.run()
    search, full = rows(storage, worker.study, "search"), rows(storage, worker.study, "full")
    assert [row.state for row in search] == [TrialState.COMPLETE] * 4
    (trained,) = full
    assert trained.state == TrialState.COMPLETE
    assert trained.attributes["promoted_from"] == min(search, key=lambda row: row.value).number
    assert trained.attributes["epochs"] == 3
    weights = load_file(worker.study.artifacts(worker.artifacts) / trained.attributes["weights"])
    models.build("lenet", 10).load_state_dict(weights, strict=True)
    shown = storage.study(worker.study.spec.full_name).best_trial
    assert len(shown.intermediate_values) == 3
    assert shown.value == min(shown.intermediate_values.values())


def test_one_that_diverges_fails_with_the_epoch_and_the_others_go_on(
    storage: Storage, work: Callable[..., Worker]
) -> None:
    worker = work(space={"lr": [0.01, 1e30], "batch_size": 32}, search={"trials": 8, "epochs": 2})
    worker.run()
    for row in rows(storage, worker.study, "search"):
        if row.point["lr"] > 1:
            assert row.state == TrialState.FAIL
            assert row.attributes["reason"] == "its loss was not finite in epoch 1"
        else:
            assert row.state == TrialState.COMPLETE


def test_code_that_raises_fails_its_trials_and_ends_the_worker_at_last(
    storage: Storage, work: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.resolve", lambda _name: Broken)
    monkeypatch.setattr("models.build", lambda _name, classes, channels: Broken(classes, channels))
    worker = work(search={"trials": 8, "epochs": 1})
    worker.width = 1
    with pytest.raises(TrainingError, match=r"3 packs in a row failed; the last: .*no such luck"):
        worker.run()
    failed = [row for row in rows(storage, worker.study, "search") if row.state == TrialState.FAIL]
    assert len(failed) == MOST_FAILURES
    assert all("RuntimeError: no such luck" in row.attributes["traceback"] for row in failed)
    waiting = rows(storage, worker.study, "search")
    assert sum(row.state == TrialState.WAITING for row in waiting) == 8 - MOST_FAILURES


def test_told_to_stop_in_an_epoch_it_hands_its_trials_back(
    storage: Storage, work: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = work()
    score = "hpo.pack.Pack.score"
    monkeypatch.setattr(score, lambda *_arguments: worker.stop_now())  # as a signal would, in the middle
    worker.run()
    assert {row.state for row in rows(storage, worker.study, "search")} == {TrialState.WAITING}
    monkeypatch.undo()
    worker.stop.clear()
    worker.run()
    assert {row.state for row in rows(storage, worker.study, "search")} == {TrialState.COMPLETE}
