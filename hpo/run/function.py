"""A user's training function before it trains: whether it can be called, and the hash of its code.

The functions of this module run in a process of their own, see `hpo.run.jobs`: they import the user's module.
"""

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hpo.errors import InputError
from hpo.source_code import source_hash
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.user_code import import_own
from hpo.values.stage import STAGES


def check_function(spec: StudySpec) -> Identity:
    """Check the training function of a study without calling it. Return the identity of the study.

    Raises `InputError` if the function cannot be imported, is no function of one argument, or yields nothing
    although trials have several epochs. What cannot be told is allowed.
    """
    assert spec.train is not None, "the study has a training function"
    function = import_own(spec.train.function, InputError)
    _check_callable(function)
    for stage in STAGES:
        epochs = spec.budget(stage).epochs
        if epochs > 1 and _yields(function) is False:
            fact = f"yields nothing, but {stage}.epochs is {epochs}"
            raise InputError(f"{_place(function)}{fact}: it has to yield the metrics of each epoch")
    return identity_of(spec.train.function)


def identity_of(reference: str) -> Identity:
    """Return the identity of a study of this function. Raises `InputError` if it cannot be imported."""
    import_own(reference, InputError)
    return Identity(function=source_hash(reference.partition(":")[0]))


def _check_callable(function: object) -> None:
    if isinstance(function, type) or not callable(function):
        kind = "class" if isinstance(function, type) else f"value of type {type(function).__name__}"
        raise InputError(f"must be a function, not a {kind}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InputError(f"{_place(function)}is asynchronous; write it without async")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C, for example
        return
    try:
        signature.bind(None)
    except TypeError:
        rule = f"takes {signature}, and has to take one argument: the trial"
        raise InputError(f"{_place(function)}{rule}") from None


def _yields(function: object) -> bool | None:
    """Return whether a function is a generator function, None if it cannot be told."""
    layers = list(_layers(function))
    if any(map(inspect.isgeneratorfunction, layers)):
        return True
    return False if inspect.isfunction(layers[-1]) else None


def _layers(function: object) -> Iterator[object]:
    """Yield a function, and those behind decorators, bound arguments and the methods of objects."""
    yield function
    if isinstance(function, partial):
        yield from _layers(function.func)
    elif hasattr(function, "__wrapped__"):
        yield from _layers(function.__wrapped__)
    elif inspect.ismethod(function):
        yield from _layers(function.__func__)
    elif callable(function) and not inspect.isroutine(function):
        yield from _layers(type(function).__call__)


def _place(function: object) -> str:
    """Return file and line of a function as the beginning of a message; empty if they are unknown."""
    *_, plain = _layers(function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return ""
    file, folder = Path(code.co_filename), Path.cwd()
    short = file.relative_to(folder) if file.is_relative_to(folder) else file
    return f"{short}:{code.co_firstlineno}: "
