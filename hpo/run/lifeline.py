"""The standard input of a worker process: a pipe whose other end the launcher holds."""

import os
import signal
import sys
import threading
import time
from queue import SimpleQueue

ORPHAN_SECONDS = 20.0
"""Time that a worker whose launcher is gone gets to save and hand back its trials."""


def follow_launcher() -> SimpleQueue[str | None]:
    """Return a queue of the lines that the launcher sends, with None after the last.

    The pipe closes when the launcher ends, however it ends. Then this process gets a SIGTERM, and a SIGKILL
    if it still lives after `ORPHAN_SECONDS`.
    """
    lines = SimpleQueue[str | None]()
    main = threading.main_thread().ident
    assert main is not None

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        # A main thread that waits in a driver hears no signal, and no launcher is left to kill this process.
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=read, name="lifeline", daemon=True).start()
    return lines
