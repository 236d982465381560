"""The generated page `docs/json.md` and the schema `docs/commands.schema.json` of what `--json` prints."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from hpo.cli.json_outputs import OUTPUTS

INTRODUCTION = """
# JSON of the commands

With `--json`, a command prints one JSON value on stdout. Messages stay on stderr. JSON has no NaN and no
infinities: they are null. `hpo status --watch --json` prints a line of JSON for each read.

[commands.schema.json](commands.schema.json) has a JSON schema of each command. A later version of hpo may
add keys. `hpo study show --json` has a schema of its own, [study.schema.json](study.schema.json).
"""

WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def json_page(note: str) -> str:
    """Return the page with the keys of each command's output. `note` is its first line."""
    schemas = {command: _schema(kind) for command, kind in OUTPUTS.items()}
    objects: dict[str, Mapping[str, Any]] = {}
    for schema in schemas.values():
        objects |= schema.get("$defs", {})
        if "title" in schema:
            objects[schema["title"]] = schema
    lines = [f"{note}\n\n{INTRODUCTION.strip()}\n", "| command | output |\n|---|---|"]
    lines += [f"| `hpo {command}` | {_value(schema)} |" for command, schema in schemas.items()]
    for name, part in sorted(objects.items()):
        heading = f"\n## {_words(name)}\n\n{part['description']}\n"
        lines += [heading, "| key | value | meaning |\n|---|---|---|", *_rows(part)]
    return "\n".join(lines) + "\n"


def json_schema() -> str:
    """Return a JSON schema with a property for each command."""
    commands = {f"hpo {command}": _schema(kind) for command, kind in OUTPUTS.items()}
    definitions: dict[str, Any] = {}
    for schema in commands.values():
        definitions |= schema.pop("$defs", {})
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of the commands of hpo with --json",
        "properties": commands,
        "$defs": definitions,
    }
    return json.dumps(whole, indent=1) + "\n"


def _schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def _rows(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, part in schema["properties"].items():
        yield f"| `{key}` | {_value(part)} | {part.get('description', '')} |"


def _value(schema: Mapping[str, Any]) -> str:
    """Return the type of a value in words, with a link to an object that has a table."""
    if "anyOf" in schema:
        return ", or ".join(map(_value, schema["anyOf"]))
    name = schema["$ref"].rpartition("/")[2] if "$ref" in schema else ""
    if "properties" in schema:
        name = schema["title"]
    if name:
        return f"[{_words(name)}](#{_words(name).replace(' ', '-')})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_value(schema['items'])}" if schema.get("items") else "list"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"table of {_value(values)}" if isinstance(values, dict) else "table"
    return WORDS.get(schema.get("type", ""), "any value")


def _words(name: str) -> str:
    """Return the name of an object in words, as in "live stage"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name.removesuffix("Output")).lower()
