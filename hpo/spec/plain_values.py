"""Values of Python as the plain values that a study file may have."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from types import BuiltinFunctionType, FunctionType
from typing import Any

from hpo.errors import SpecError

MAX_DEPTH = 20
"""Deepest nesting of lists and tables. No key needs more than a few levels."""

MAX_NUMBERS = 100_000
"""Longest `range` that becomes a list."""

KINDS = "a number, text, true or false, a list or a dict"


def plain_values(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a spec as dicts, lists, numbers, text and booleans.

    Tuples, ranges and arrays become lists, and numbers of numpy become numbers. A path becomes text, and a
    class or a function its name as `module:name`. Raises `SpecError` with one line for each value that has no
    such form; `source` begins each line.
    """
    reader = _Reader()
    plain = reader.read(raw, (), 0)
    if reader.is_too_deep:
        raise SpecError(f"{source}: lists and tables are nested more than {MAX_DEPTH} deep")
    if reader.mistakes:
        raise SpecError("\n".join(f"{source}: {mistake}" for mistake in reader.mistakes))
    assert isinstance(plain, dict)
    return plain


@dataclass
class _Reader:
    """Reads values, and notes the mistakes in them."""

    mistakes: list[str] = field(default_factory=list)
    is_too_deep: bool = False

    def read(self, value: object, path: Sequence[str], depth: int) -> object:
        """Return the plain form of a value. `path`: its keys, `depth`: the tables and lists around it."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if depth == MAX_DEPTH:
            self.is_too_deep = True
            return None
        if isinstance(value, Mapping):
            return dict(self._entries(value, path, depth + 1))
        if isinstance(value, list | tuple):
            return [self.read(entry, path, depth + 1) for entry in value]
        try:
            plain = _plain(value)
        except _MistakeError as mistake:
            self.mistakes.append(f"{'.'.join(path)}: {mistake}")
            return None
        return self.read(plain, path, depth)

    def _entries(
        self, table: Mapping[Any, Any], path: Sequence[str], depth: int
    ) -> Iterator[tuple[str, object]]:
        for key, value in table.items():
            if isinstance(key, str):
                yield key, self.read(value, [*path, key], depth)
            else:
                self.mistakes.append(f"{'.'.join([*path, repr(key)])}: a key must be text")


class _MistakeError(Exception):
    """A value that no study file can have. The message is the rule."""


def _plain(value: object) -> object:
    """Return a form of the value that is plain, or nearer to it. Raises `_MistakeError`."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return _reference(value)
    if callable(getattr(value, "tolist", None)):  # of numpy, pandas or torch
        return value.tolist()  # type: ignore[attr-defined]
    if isinstance(value, range):
        if value[MAX_NUMBERS:]:
            raise _MistakeError(f"has more than {MAX_NUMBERS} numbers; give a dict with low, high and step")
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, date | time):  # as TOML reads them
        return str(value)
    if isinstance(value, set | frozenset):
        raise _MistakeError("a set has no order; give a list")
    raise _MistakeError(f"is of the type {type(value).__name__}; give {KINDS}")


def _reference(value: type | FunctionType | BuiltinFunctionType) -> str:
    """Return the name by which another process imports a class or a function."""
    module, name = value.__module__, value.__qualname__
    if module == "__main__" or not name.isidentifier():
        raise _MistakeError(
            f"workers cannot import {name} of {module}; move it to the top level of a file, "
            "such as mycode.py, and give 'mycode:NAME'"
        )
    return f"{module}:{name}"
