"""Messages about a study file: one line for each mistake that pydantic found."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpo.values.space_section import spelling_hint

_RULES = {
    "missing": "is missing",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must be at most 63 of a-z, 0-9, '-', '_', '.' and begin with a-z or 0-9",
    "literal_error": "must be one of {expected}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text in quotes",
    "model_type": "must be a table",
    "tuple_type": "must be a list",
    "too_long": "must be a list of two numbers",
}


def error_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return the lines `key = value: rule` of the mistakes; `model` is the model that was validated."""
    details = error.errors()
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    return [
        line
        for detail in details
        if not _is_missing_but_misspelled(detail, unknown)
        for line in _lines(detail, model)
    ]


def _is_missing_but_misspelled(detail: ErrorDetails, unknown: Sequence[tuple[int | str, ...]]) -> bool:
    """Return whether the missing key stands in the same section under a misspelled name."""
    if detail["type"] != "missing":
        return False
    *section, key = detail["loc"]
    return any(
        list(location[:-1]) == section and get_close_matches(str(location[-1]), [str(key)], n=1)
        for location in unknown
    )


def _lines(detail: ErrorDetails, model: type[BaseModel]) -> list[str]:
    """Return the lines of one pydantic error; a section's own validator may report several keys."""
    location = [str(part) for part in detail["loc"]]
    key, kind = ".".join(location), detail["type"]
    if kind == "extra_forbidden":
        return [f"{key}: unknown key{spelling_hint(location[-1], _fields(model, location[:-1]))}"]
    context = detail.get("ctx", {})
    if kind == "inside":
        return [f"{'.'.join([*location, name])}: {rule}" for name, rule in context["mistakes"].items()]
    rule = _RULES.get(kind, "{message}").format(message=detail["msg"], **context)
    if kind == "missing":
        return [f"{key}: {rule}"]
    return [f"{key} = {json.dumps(detail['input'])}: {rule}"]


def _fields(model: type[BaseModel], location: Sequence[str]) -> Mapping[str, object]:
    """Return the fields of the section at `location`."""
    for part in location:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return model.model_fields
