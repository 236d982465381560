"""The schedule of faults is drawn from a seed."""

from benchmarks.chaos.faults import FAULTS, Schedule


def test_schedule_has_every_kind_before_any_kind_repeats() -> None:
    drawn = Schedule(FAULTS, 7, 2 * len(FAULTS) + 3).names
    assert set(drawn[: len(FAULTS)]) == set(drawn[len(FAULTS) : 2 * len(FAULTS)]) == FAULTS.keys()


def test_schedule_follows_from_its_seed() -> None:
    drawn = Schedule(FAULTS, 7, 2 * len(FAULTS) + 3).names
    assert drawn == Schedule(FAULTS, 7, len(drawn)).names
    assert drawn != Schedule(FAULTS, 8, len(drawn)).names
