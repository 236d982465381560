"""Plans from measurements that nobody made."""

from typing import Any

import pytest

from hpo.cli.plan import plan_table
from hpo.run.measurement import Measurement, Pace
from hpo.run.plan import (
    EPOCH_OVERHEAD,
    FASTER,
    SLOWER,
    Figure,
    Fleet,
    Plan,
    full_epochs,
    make_plan,
    search_epochs,
    unmeasured_plan,
)
from hpo.run.planned_points import planned_points
from hpo.search.expected_epochs import EpochRange
from hpo.spec.study_spec import StudySpec

RAW: dict[str, Any] = {
    "name": "small",
    "model": {"name": "lenet"},
    "data": {"name": "digits"},
    "space": {"lr": [0.001, 0.01, 0.1, 0.2], "batch_size": [16, 32]},
    "pruner": {"name": "none"},
    "search": {"trials": 8, "epochs": 5},
    "full": {"pretrain": {"epochs": 10, "patience": 3}, "finetune": {"epochs": 5, "patience": 9}},
    "promotion": {"top": 2, "seeds": 2},
}


def spec(**changes: Any) -> StudySpec:
    return StudySpec.parse({**RAW, **changes})


def pace(batch_size: int, seconds: float, prepare: float = 0.0, width: int = 1) -> Pace:
    return Pace(batch_size, width, 0.75 * seconds, 0.25 * seconds, prepare)


def measurement(*search: Pace) -> Measurement:
    return Measurement(2.0, search, [pace(32, 2.0), pace(32, 1.0)], 1000, 2000, 500)


def figures(plan: Plan) -> dict[str, Figure]:
    return {figure.name: figure for figure in plan.figures}


def test_epochs_of_the_search() -> None:
    assert search_epochs(spec()) == EpochRange(40, 40, 40)
    assert search_epochs(spec(stop={"epochs": 25})) == EpochRange(25, 25, 25)
    assert search_epochs(spec(search={"trials": 100, "epochs": 5})).high == 40  # the space has eight cells
    paused = search_epochs(spec(pruner={"name": "pause", "min_epochs": 1}))
    assert 8 < paused.low < paused.expected < paused.high < 40


def test_epochs_of_full_training() -> None:
    epochs = full_epochs(spec())
    assert (epochs.low, epochs.high) == (4 * 9, 4 * 15)
    assert epochs.low < epochs.expected < epochs.high
    patient = {"pretrain": {"epochs": 10, "patience": 20}, "finetune": {"epochs": 5, "patience": 9}}
    assert full_epochs(spec(full=patient)) == EpochRange(60, 60, 60)


def test_time_is_that_of_the_epochs_shared_by_the_workers() -> None:
    of = spec()
    one = figures(
        make_plan(of, planned_points(of), [measurement(pace(16, 3.0), pace(32, 3.0))], Fleet(1, 16), "cpu")
    )
    expected = 40 * (3.0 + EPOCH_OVERHEAD)
    search = one["search time"]
    assert search.expected == pytest.approx(expected)
    assert search.low == pytest.approx(FASTER * expected)
    assert search.high == pytest.approx(SLOWER * expected)
    both = [measurement(pace(16, 3.0), pace(32, 3.0))] * 2
    two = figures(make_plan(of, planned_points(of), both, Fleet(2, 16), "cpu"))
    assert two["search time"].expected == pytest.approx(expected / 2)
    assert two["full time"].expected == pytest.approx((one["full time"].expected or 0) / 2)
    assert two["device hours"].expected == pytest.approx(one["device hours"].expected)
    three = figures(make_plan(of, planned_points(of), both, Fleet(3, 16), "cpu"))
    assert three["full time"].expected == two["full time"].expected  # one worker has two of four trainings


def test_refits_follow_all_trainings() -> None:
    full = {**RAW["full"], "refit": True}
    refitting = spec(full=full)
    assert full_epochs(refitting).high == full_epochs(spec()).high + 2 * 15
    assert full_epochs(refitting).low == full_epochs(spec()).low + 2
    measured = [measurement(pace(16, 4.0), pace(32, 2.0))] * 2
    plans = [
        figures(make_plan(of, planned_points(of), measured, Fleet(2, 16), "cpu"))
        for of in (spec(), refitting)
    ]
    before, after = (plan["full time"] for plan in plans)
    assert (before.high or 0) < (after.high or 0) < 2 * (before.high or 0)
    assert "4 trainings, 2 refits" in after.basis


def test_time_of_other_batch_sizes_lies_between_the_measured_ones() -> None:
    of = spec(space={"lr": [0.01], "batch_size": {"low": 16, "high": 128, "step": 16}})
    points = planned_points(of)
    least, most = min(points.batch_sizes), max(points.batch_sizes)
    measured = measurement(pace(least, 4.0), pace(most, 1.0), pace(least, 8.0))
    time = figures(make_plan(of, points, [measured], Fleet(1, 16), "cpu"))["search time"].expected
    factor = (1 + 1 + 2) / 3  # of another network, which takes twice as long
    assert time is not None
    epochs = search_epochs(of).expected
    assert epochs * factor * 1.0 < time < epochs * (factor * 4.0 + EPOCH_OVERHEAD)


def test_programs_of_other_pack_keys_have_to_be_compiled() -> None:
    of = spec(space={"lr": [0.01, 0.02], "batch_size": [16, 32, 64, 128, 256, 512]})
    points = planned_points(of)
    new = measurement(*(pace(16 * (i + 1), 1.0, prepare=30.0) for i in range(4)))
    compiled = figures(make_plan(of, points, [new], Fleet(2, 16), "cpu"))["compilation"]
    assert compiled.expected == pytest.approx(2 * 30 / 2)
    assert compiled.low == 0
    cached = measurement(*(pace(16 * (i + 1), 1.0, prepare=0.01) for i in range(4)))
    assert figures(make_plan(of, points, [cached], Fleet(2, 16), "cpu"))["compilation"].expected == 0


def test_disk_has_checkpoints_and_weights() -> None:
    of = spec(pruner={"name": "pause", "min_epochs": 1})
    plan = make_plan(of, planned_points(of), [measurement(pace(16, 1.0), pace(32, 1.0))], Fleet(1, 2), "cpu")
    disk = figures(plan)["disk"]
    weights = 5 * 500
    assert disk.low is not None
    assert disk.high is not None
    assert disk.low > weights
    assert disk.high > max((8 + 2) * 1000, 4 * (2 * 2000 + 500)) + weights


def test_measured_pack_keys_have_the_least_and_the_largest_batch() -> None:
    points = planned_points(spec(space={"lr": [0.01], "batch_size": [16, 32, 64, 128, 256]}))
    sizes = [dict(key)["batch_size"] for key in points.keys]
    assert sizes[:2] == [16, 256]
    assert len(sizes) == 4
    assert dict(points.middle)["batch_size"] in sizes
    assert len(planned_points(spec(space={"lr": [0.01, 0.02], "batch_size": [16]})).keys) == 1


def test_packs_of_an_accelerator_are_wide() -> None:
    points = planned_points(spec())
    assert points.width(16, "cpu") == 1
    assert points.width(16, "cuda") == 4
    assert points.width(2, "cuda") == 2
    assert points.full_width(16) == 2


def test_study_that_was_not_measured_has_its_epochs() -> None:
    plan = unmeasured_plan(spec(), "cpu", 2, "unknown: nobody has looked")
    assert [(figure.name, figure.expected) for figure in plan.figures] == [
        ("search epochs", 40),
        ("full epochs", full_epochs(spec()).expected),
        ("total time", None),
        ("device hours", None),
    ]
    assert "total time         -         -     -" in plan_table(plan)


def test_table_of_a_plan() -> None:
    plan = Plan(
        "small",
        "cpu",
        2,
        [
            Figure("search epochs", "epochs", 40, 40, 1234.4, "8 trials"),
            Figure("total time", "seconds", 30, 90, 7200, "measured"),
            Figure("device hours", "device hours", 0.0123, 0.5, 2, "of all workers"),
            Figure("disk", "bytes", 1024, 2**20, 2**30, "weights"),
        ],
    )
    assert plan_table(plan).splitlines() == [
        "Plan of small: 2 workers on cpu",
        "",
        "               least  expected   most",
        "─────────────────────────────────────",
        "search epochs     40        40  1,234",
        "total time      30 s   1.5 min    2 h",
        "device hours   0.012       0.5      2",
        "disk           1 KiB     1 MiB  1 GiB",
        "",
        "search epochs: 8 trials",
        "total time: measured",
        "device hours: of all workers",
        "disk: weights",
    ]
    assert plan.to_json()["figures"][0]["unit"] == "epochs"
