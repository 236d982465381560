"""The signals that end a launcher."""

import signal
import threading
from types import FrameType, TracebackType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class InterruptSignals:
    """Inside the block SIGTERM raises `KeyboardInterrupt`, as SIGINT does.

    Only the main thread may install handlers, and signals reach no other thread. In another thread, the block
    changes nothing.
    """

    def __init__(self) -> None:
        self._is_main = threading.current_thread() is threading.main_thread()
        self._handlers = {number: signal.getsignal(number) for number in NUMBERS}

    def __enter__(self) -> "InterruptSignals":
        if self._is_main:
            signal.signal(signal.SIGTERM, _interrupt)
        return self

    def ignore(self) -> None:
        """Ignore both signals until the end of the block."""
        if self._is_main:
            for number in NUMBERS:
                signal.signal(number, signal.SIG_IGN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_main:
            for number, handler in self._handlers.items():
                # None: the handler is not Python's.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
