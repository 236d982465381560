import threading

import pytest

from hpo.worker.interruption import Interruption, StopRequested


def test_stop_breaks_off_an_interruptible_block() -> None:
    stop = threading.Event()
    interruption = Interruption(stop)
    with pytest.raises(StopRequested), interruption.interruptible():
        interruption.stop_now()
    assert stop.is_set()


def test_stop_outside_of_a_block_only_sets_the_event() -> None:
    stop = threading.Event()
    interruption = Interruption(stop)
    with interruption.interruptible():
        pass
    interruption.stop_now()
    assert stop.is_set()


def test_block_does_not_begin_after_a_stop() -> None:
    interruption = Interruption(threading.Event())
    interruption.stop_now()
    entered = []
    with pytest.raises(StopRequested), interruption.interruptible():
        entered.append(1)
    assert entered == []


def test_second_stop_does_not_break_off_the_handling_of_the_first() -> None:
    interruption = Interruption(threading.Event())
    handled = []

    def work() -> None:
        with interruption.interruptible():
            try:
                interruption.stop_now()
            finally:
                interruption.stop_now()
                handled.append(1)

    with pytest.raises(StopRequested):
        work()
    assert handled == [1]
