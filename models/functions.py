"""A user's own loss and metrics: functions of the outputs of a network and the targets."""

from collections.abc import Callable
from typing import Any

from hpo.models.registry import ModelError
from hpo.user_code import import_own, is_reference, near_reference


def check_function(reference: str) -> None:
    """Raise ModelError unless `reference` has the form `package.module:function`. Imports nothing."""
    if is_reference(reference):
        return
    near = near_reference(reference)
    hint = f"did you mean {near}? " if near else ""
    raise ModelError(f"{reference!r} is no function: {hint}it must be your own as package.module:function")


def resolve_function(reference: str) -> Callable[..., Any]:
    """Return the function that `reference`, as `package.module:function`, names.

    Raises ModelError if it cannot be imported, or cannot be called.
    """
    check_function(reference)
    function = import_own(reference, ModelError)
    if not callable(function):
        raise ModelError(f"{reference}: must be a function, not a {type(function).__name__}")
    return function
