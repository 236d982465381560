"""Searches over parameters beyond those of the paper."""

from support.small_worker import WorkerFactory, trials


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
