"""Messages about a study file: one line for each mistake that pydantic found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpo.values.section import Section, sections_of
from hpo.values.wording import listed, spelling_hint

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
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "string_type": "must be text in quotes",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "union_tag_not_found": "must be a table",
    "tuple_type": "must be a list",
    "too_long": "must be a list of two numbers",
}


def error_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return the lines `key = value: rule` of the mistakes; `model` is the model that was validated."""
    details = error.errors()
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    return [
        _printable(line)
        for detail in details
        if not _is_missing_but_misspelled(detail, unknown)
        for line in _lines(detail, model)
    ]


def _printable(line: str) -> str:
    """Return a line with escapes in place of what would break it: a quoted key may contain anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


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
    place, kind = _locate(detail["loc"], model), detail["type"]
    location, key = place.path, ".".join(place.path)
    if kind == "extra_forbidden":
        return [f"{key}: unknown key{_unknown(place)}"]
    if kind == "union_tag_invalid":
        name = json.dumps(detail["input"]["name"])
        return [f"{key}.name = {name}: must be one of {listed(map(repr, place.options), 'or')}"]
    context = detail.get("ctx", {})
    if kind == "inside":
        return [f"{'.'.join([*location, name])}: {rule}" for name, rule in context["mistakes"].items()]
    rule = _RULES.get(kind, "{message}").format(message=detail["msg"], **context)
    if kind == "missing":
        return [f"{key}: {rule}"]
    return [f"{key} = {json.dumps(detail['input'])}: {rule}"]


@dataclass(frozen=True, slots=True)
class _Place:
    """A key of a study file: its path, the section it is in, and the sections that its name selects from.

    `key` is the key of the section, and `options` are by name, where there are several.
    """

    path: Sequence[str]
    section: type[BaseModel]
    key: str = ""
    options: Mapping[str, type[BaseModel]] = field(default_factory=dict)


def _locate(location: Sequence[int | str], model: type[BaseModel]) -> _Place:
    """Return the place at a location of pydantic, which has the name of a selected section after its key."""
    place, parts = _Place([], model), [str(part) for part in location]
    while parts:
        part = parts.pop(0)
        field_info = place.section.model_fields.get(part)
        sections = {} if field_info is None else sections_of(field_info)
        if "" in sections:
            place = _Place([*place.path, part], sections[""], part)
        elif sections and parts:
            section = sections[parts.pop(0)]
            options = sections if "name" in section.model_fields else {}
            place = _Place([*place.path, part], section, part, options)
        else:
            place = _Place([*place.path, part], place.section, place.key, sections or place.options)
    return place


def _unknown(place: _Place) -> str:
    """Return the end of a message about an unknown key: why there is none, who has it, or its right
    spelling."""
    unknown, name = place.path[-1], place.section.model_fields["name"].default if place.options else ""
    if issubclass(place.section, Section) and unknown in place.section.refused:
        return f" of the {place.key} {name!r}: {place.section.refused[unknown]}"
    owners = [other for other, section in place.options.items() if unknown in section.model_fields]
    if owners:
        return f" of the {place.key} {name!r}; it is a key of {listed(map(repr, owners), 'and')}"
    return spelling_hint(unknown, place.section.model_fields)
