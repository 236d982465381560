"""Run a job in a short-lived process of its own: `python -m hpo.run.jobs`.

A launcher lives as long as its study, and a worker for hours. Work that needs torch or all images for a few
seconds runs in a child process, whose memory is free when it ends. Request and answer are one line of JSON
each, on the child's standard input and output. Lines before the answer say which user code runs. The input
stays open as the child's lifeline.
"""

import json
import logging
import os
import signal
import subprocess
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hpo import errors
from hpo.data import dataset
from hpo.errors import HpoError
from hpo.models import registry
from hpo.settings import PYTHON, Settings, child_environment
from hpo.user_code import Running

GRACE_SECONDS = 2.0
"""Time that a child gets to end by itself, after its answer or after SIGTERM."""

KINDS = {
    kind.__name__: kind
    for module in (errors, dataset, registry)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, HpoError)
}


WORK = {
    "check": "the check of the study file",
    "measure": "the measurement",
    "arrays": "the reading of the data set",
    "hash": "the second call of the data function",
    "function": "the import of the training function",
    "export": "the export of the model",
}
"""What a message calls the work of each job."""


class ChildTraceback(Exception):  # noqa: N818 - it carries the traceback of the error that it causes
    """The traceback of an error in a child process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def run_in_child(job: str, settings: Settings, **arguments: Any) -> Any:
    """Return the result of a job of `hpo.run.jobs`, which gets these settings and plain arguments.

    Raises the `HpoError` that the job raised, KeyboardInterrupt if the child was interrupted, and
    another `HpoError` if the child ended without an answer. The output of the job goes to standard error.
    """
    request = {"job": job, "arguments": arguments, "level": logging.getLogger("hpo").getEffectiveLevel()}
    with subprocess.Popen(
        [*PYTHON, "-m", "hpo.run.jobs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(**settings.to_environment()),
        # An interrupt from the terminal is for this process, which then ends the child.
        start_new_session=True,
    ) as process:
        try:
            answer, running = _ask(process, json.dumps(request))
            with suppress(subprocess.TimeoutExpired):
                process.wait(None if answer is None else GRACE_SECONDS)
        finally:
            _end(process)
    if answer is None:
        raise _unanswered(job, process.returncode, running)
    if "error" in answer:
        raise decode_error(answer["error"])
    return answer["result"]


def encode_error(error: Exception) -> dict[str, Any]:
    """Return an error of the job as plain values."""
    return {
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def decode_error(plain: Mapping[str, Any]) -> Exception:
    """Return the error that `encode_error` got, of the nearest kind that `KINDS` has."""
    kind = next(KINDS[name] for name in plain["kinds"] if name in KINDS)
    error: Exception = kind(plain["message"])
    error.__cause__ = ChildTraceback(plain["traceback"])
    return error


def encode_running(running: Running | None) -> dict[str, Any]:
    """Return the line before the answer that says which user code runs."""
    return {"running": running and {"title": running.title, "kind": running.kind.__name__}}


def _ask(process: subprocess.Popen[str], request: str) -> tuple[dict[str, Any] | None, Running | None]:
    """Send the request. Return the answer, or None and the user code in which the child ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(f"{request}\n")
        process.stdin.flush()
    running = None
    for line in process.stdout:
        message = json.loads(line)
        if "running" not in message:
            return message, None
        plain = message["running"]
        running = plain and Running(plain["title"], KINDS.get(plain["kind"], HpoError))
    return None, running


def _end(process: subprocess.Popen[str]) -> None:
    """Make sure that the child, and what a user's function started in it, has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)


def _unanswered(job: str, code: int, running: Running | None) -> BaseException:
    if code in (128 + signal.SIGINT, -signal.SIGINT):
        return KeyboardInterrupt()
    work = WORK.get(job, f"the job {job!r}")
    number = -code if code < 0 else code - 128
    if number in (signal.SIGKILL, signal.SIGTERM):
        place = f", while it ran {running.title}" if running else ""
        return HpoError(f"{work} was killed by {signal.Signals(number).name}{place}; is there enough memory?")
    ended = f"{signal.Signals(number).name}" if code < 0 else f"exit code {code}"
    if running is None:
        return HpoError(f"{work} ended with {ended}; its output says why")
    return running.kind(
        f"{running.title} ended the process with {ended}, in {work}; it has to return or raise an error"
    )
