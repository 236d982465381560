"""The schedule of faults is drawn from a seed."""

from benchmarks.chaos.faults import FAULTS, schedule


def test_schedule_has_every_kind_before_any_kind_repeats() -> None:
    drawn = schedule(7, 2 * len(FAULTS) + 3)
    assert set(drawn[: len(FAULTS)]) == set(drawn[len(FAULTS) : 2 * len(FAULTS)]) == FAULTS.keys()


def test_schedule_follows_from_its_seed() -> None:
    drawn = schedule(7, 2 * len(FAULTS) + 3)
    assert drawn == schedule(7, len(drawn))
    assert drawn != schedule(8, len(drawn))
