"""Statements that the server has parsed and planned already: each is sent as a name and its values.

A trial's life is a few dozen small statements, and of the time of each most goes into its text, here and on
the server, not into the rows.
"""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import count
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection, CursorResult
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT: Dialect = psycopg2.dialect()  # type: ignore[no-untyped-call]
_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count(1)


class Prepared:
    """A statement of fixed text. Called with a connection and the values of its parameters, those that were
    built without a value, it is carried out.

    Each connection prepares it the first time, and forgets it in the end. What comes back is as the driver
    gives it: of an enumeration the names.
    """

    def __init__(self, build: Callable[[], ClauseElement]) -> None:
        self._build, self._name = build, f"hpo_{next(_numbers)}"

    def __call__(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[*tuple[Any, ...]]:
        preparing, constants, executing, processors = self._texts
        known: set[str] = connection.info.setdefault("prepared", set())
        if self._name not in known:
            connection.exec_driver_sql(preparing, constants)
            known.add(self._name)
        told = {name: process(values[name]) for name, process in processors.items()}
        return connection.exec_driver_sql(executing, told)

    @cached_property
    def _texts(self) -> tuple[str, dict[str, Any], str, dict[str, Callable[[Any], Any]]]:
        """(what prepares it, the constants in it, what carries it out, how the driver wants each value)"""
        compiled = cast(SQLCompiler, self._build().compile(dialect=_DIALECT))
        places, constants, types = dict[str, int](), dict[str, Any](), list[str]()
        processors = dict[str, Callable[[Any], Any]]()
        for name, bind in compiled.binds.items():
            process = bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT) or _as_it_is
            if bind.required:
                places[name], processors[name] = len(places) + 1, process
                types.append(bind.type.compile(_DIALECT))
            else:
                constants[name] = process(bind.effective_value)

        def placed(match: re.Match[str]) -> str:
            return f"${places[match[1]]}" if match[1] in places else match[0]

        text = _PARAMETER.sub(placed, str(compiled))
        told = ", ".join(f"%({name})s::{kind}" for name, kind in zip(places, types, strict=True))
        preparing = f"PREPARE {self._name} ({', '.join(types)}) AS {text}"
        return preparing, constants, f"EXECUTE {self._name} ({told})", processors


def _as_it_is(value: Any) -> Any:
    return value
