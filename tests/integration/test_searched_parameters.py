"""Searches over parameters beyond those of the paper."""

from collections import Counter

import pytest
from support.small_worker import StepHooks, WorkerFactory, states, trials


def test_label_smoothing_is_searched_in_one_pack(works: WorkerFactory) -> None:
    fixed = {"lr": 0.05, "batch_size": 32, "momentum": 0.9, "weight_decay": 0}
    space = {**fixed, "label_smoothing": [0.0, 0.1, 0.2, 0.4]}
    worker = works(space=space, sampler={"name": "random"}, search={"trials": 4, "epochs": 2})
    worker.run()
    rows = trials(worker.storage, worker.study)
    assert sorted(row.point["label_smoothing"] for row in rows) == [0.0, 0.1, 0.2, 0.4]
    assert all(row.state.name in ("COMPLETE", "PRUNED") for row in rows)


def test_optimizers_are_searched_in_packs_of_their_own(works: WorkerFactory) -> None:
    space = {
        "lr": [0.05, 0.01],
        "batch_size": 32,
        "momentum": [0.0, 0.9],
        "weight_decay": 0,
        "optimizer": ["sgd", "adamw"],
    }
    worker = works(space=space, sampler={"name": "random"}, search={"trials": 20, "epochs": 2})
    worker.run()
    rows = trials(worker.storage, worker.study)
    # Momentum is no part of a trial with AdamW: 2 * 2 cells of SGD and 2 of AdamW.
    assert len(rows) == 6
    assert all(("momentum" in row.point) == (row.point["optimizer"] == "sgd") for row in rows)
    assert all(row.state.name in ("COMPLETE", "PRUNED") for row in rows)


def test_everything_is_searched_in_one_pack_for_each_optimizer_and_trained_in_full(
    works: WorkerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = StepHooks.installed(monkeypatch)
    space = {
        "lr": 1e-3,
        "batch_size": 32,
        "optimizer": ["sgd", "adam"],
        "nesterov": [True, False],
        "beta1": [0.8, 0.9],
        "schedule": ["constant", "step", "cosine", "one-cycle"],
        "warmup": {"low": 0.0, "high": 0.5},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "class_weights": ["none", "balanced"],
        "clip": {"low": 0.1, "high": 1.0},
        "rotation": {"low": 0.0, "high": 20.0},
    }
    worker = works(
        space=space,
        sampler={"name": "random"},
        pruner={"name": "none"},
        search={"trials": 8, "epochs": 2},
        full={"pretrain": {"epochs": 2}, "finetune": {"epochs": 1}},
        promotes=True,
        fills=True,
    )
    worker.run()
    rows = trials(worker.storage, worker.study)
    assert [row.state.name for row in rows] == ["COMPLETE"] * 8
    by_optimizer = Counter(row.point["optimizer"] for row in rows)
    assert set(hooks.widths) == {*by_optimizer.values(), 1}  # the full training is alone
    assert states(worker.storage, worker.study, "full") == ["COMPLETE"]
