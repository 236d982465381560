"""The log of a process: lines on standard error."""

import logging
import sys

NOISY = ("alembic", "PIL", "matplotlib", "urllib3")
"""Libraries that log what no user of hpo asked for."""


def log_to_stderr(level: int) -> None:
    """Write log records from `level` up to standard error, as their messages alone."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
