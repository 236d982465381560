"""The executors by name. To add an executor, add its file and one line here."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from hpo.errors import InputError
from hpo.launch.executors.base import Executor

EXECUTORS: Mapping[str, str] = {
    "local": "hpo.launch.executors.local:local_executor",
}
"""By name, the function that makes an executor. Its module is imported when the executor is made."""


def make_executor(name: str, **options: Any) -> Executor:
    """Return the executor of that name, with the options of its function. Raises `InputError`."""
    if name not in EXECUTORS:
        raise InputError(f"executor {name!r}: must be one of {', '.join(EXECUTORS)}")
    module, _, attribute = EXECUTORS[name].partition(":")
    executor: Executor = getattr(import_module(module), attribute)(**options)
    return executor
