import os
import signal
import threading

import pytest

from hpo.launch.signals import NUMBERS, InterruptSignals


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in NUMBERS]


def test_sigterm_interrupts_inside_the_block_only() -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), InterruptSignals():
        signal.raise_signal(signal.SIGTERM)
    assert handlers() == before


def test_ignored_signals_are_handled_again_after_the_block() -> None:
    before = handlers()
    with InterruptSignals() as signals:
        signals.ignore()
        for number in NUMBERS:
            os.kill(os.getpid(), number)
    assert handlers() == before


def test_other_threads_change_no_handler() -> None:
    before, seen = handlers(), list[list[object]]()

    def block() -> None:
        with InterruptSignals() as signals:
            seen.append(handlers())
            signals.ignore()
            seen.append(handlers())

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [before, before]
    assert handlers() == before
