from hpo.worker.overhead import OverheadClock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_is_divided_into_database_and_idle_seconds() -> None:
    clock = Clock()
    overhead = OverheadClock(clock)
    overhead.start()
    clock.now += 2.0
    with overhead.database():
        clock.now += 3.0
    assert overhead.take() == {"database": 3.0, "idle": 2.0}
    clock.now += 1.0
    assert overhead.take() == {"database": 0.0, "idle": 1.0}


def test_seconds_charged_to_trials_are_no_overhead() -> None:
    clock = Clock()
    overhead = OverheadClock(clock)
    overhead.start()
    clock.now += 10.0
    overhead.exclude(9.0)
    assert overhead.take() == {"database": 0.0, "idle": 1.0}


def test_overlapping_charges_leave_no_negative_idle_time() -> None:
    clock = Clock()
    overhead = OverheadClock(clock)
    overhead.start()
    clock.now += 1.0
    overhead.exclude(2.0)
    assert overhead.take() == {"database": 0.0, "idle": 0.0}
