"""Write the generated pages `docs/cli.md`, `docs/study-file.md` and `docs/json.md` (`make docs`)."""

import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hpo.cli import cli
from hpo.cli.json_reference import json_page, json_schema
from hpo.search.pruners import registry as pruners
from hpo.search.samplers import registry as samplers
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.values.parameters import PARAMETERS, Parameter
from hpo.values.section import Section, sections_of

NOTE = "<!-- Written by `make docs`. Do not edit. -->"

CLI_INTRODUCTION = """
Results go to stdout, messages to stderr. The exit code is 0 on success, 1 on a failure, 2 on invalid input,
and 130 after an interrupt. `hpo --verbose COMMAND` shows the traceback of an error.
[json.md](json.md) has the keys of what `--json` prints.
"""

STUDY_INTRODUCTION = """
A study file is TOML. An invalid file is refused with one line for each mistake: file, key, value, rule.
"""

SPACE_INTRODUCTION = """
The search space. Each parameter is a list of choices, one value, or a range such as
`{ low = 0.001, high = 0.1, log = true }`. A range is linear, logarithmic with `log = true`, or a grid with a
`step`, such as `{ low = 16, high = 64, step = 16 }`. A parameter that the file leaves out has its default and
is not searched. The file must give at least one parameter.

With `[train]`, a parameter has any name in Python, such as `depth`. The training function gives it a meaning.
The parameters of the table below are those of a study with `[model]`.
"""

SPACE_RULES = """
### Conditions

With `when` a parameter applies only where other parameters of the space have certain values:

```toml
optimizer = ["sgd", "adamw"]
momentum = { low = 0.5, high = 0.95, when = { optimizer = "sgd" } }
model.depth = [1, 2, 3]
model.hidden2 = { low = 16, high = 256, when = { depth = [2, 3] } }
model.act = { choices = ["relu", "gelu"], when = { optimizer = "sgd", "model.depth" = 3 } }
```

- A list of values with a condition is the key `choices`.
- If `when` names several parameters, all of them must have one of their values.
- A condition needs a list, a boolean, or a range of at most 1000 values.
- For a keyword of the network, `depth` means `model.depth` if the space has no parameter `depth`.
- Where a parameter does not apply, the trial has no value of it, and training uses the default.
- The conditions in the table above hold as well.

### Constraints

`constraints` lists comparisons that every point of the space meets:

```toml
constraints = ["model.hidden2 <= model.hidden1", "lr * batch_size < 10", "model.act != 'gelu'"]
```

- A constraint has numbers, names of parameters, `+ - * /`, brackets, and `<`, `<=`, `>`, `>=`, `==`, `!=`.
- Text in quotes, `true` and `false` have only `==` and `!=`.
- `a < b <= c` means `a < b` and `b <= c`.
- A comparison with a parameter that does not apply counts as met.
- A parameter that the space leaves out has its default.
- Numbers that differ by less than a billionth are equal. A division by zero meets no constraint.

A search of a finite space ends with the last point that meets all constraints. If more than 100,000
combinations of constrained parameters would have to be tried to count the points, the space is searched like
an infinite one. A space without points is refused, and an infinite space if none of 10,000 random points
meets the constraints.
"""

CONSTRAINTS_ROW = (
    "`space.constraints`",
    "list of text",
    "unset",
    "Comparisons between parameters, such as `model.hidden2 <= model.hidden1`.",
)

MODEL_ROW = (
    "`space.model.KEYWORD`",
    "numbers, whole numbers, text, or true and false",
    "the network's default",
    "A keyword of the network's constructor, as in `model.width = [16, 32]` or `width = [16, 32]` in "
    "`[space.model]`. All values must have the same type. A range from a whole `low` to a whole `high` has "
    "whole numbers only; write `low = 16.0` for a range of real numbers. `classes` and `in_channels` come "
    "from the data. Results call the parameter `model.KEYWORD`.",
)

UNIONS = {
    "sampler": (
        "The source of new points. In benchmarks, the default sampler and pruner find good cells soonest "
        "(docs/search.md).",
        samplers.DEFAULT,
    ),
    "pruner": ("The rule that ends or pauses search trials early.", pruners.DEFAULT),
}
"""What a section is whose `name` selects its other keys, and its default name."""

WAYS = {"function": " with `[train]`"}
"""The end of the title of a section that depends on the way of a study."""

WORDS: dict[object, str] = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    str: "text",
    Path: "path",
    tuple[float, float]: "two numbers",
    dict[str, Any]: "table",
    dict[str, str]: "table of text",
}

DEFAULTS = {"name": "the file's name", "pruner.min_epochs": "`1`, or a third of `search.epochs`"}
"""Defaults that come from elsewhere than the field."""

BOUNDS = (
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Lt, "lt", "below"),
    (annotated_types.Le, "le", "at most"),
)


def cli_page() -> str:
    """Return the page of all commands and environment variables."""
    sections = [f"{NOTE}\n\n# Commands\n{CLI_INTRODUCTION}", *_commands(cli, ("hpo",)), _variables()]
    return "\n".join(sections)


def study_page() -> str:
    """Return the page of all keys of a study file."""
    return "\n".join([f"{NOTE}\n\n# Study file\n{STUDY_INTRODUCTION}", *_sections(StudySpec, "")])


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    name = " ".join(path)
    # With the settings of `hpo`: click keeps the help options that a command first had.
    context = click.Context(command, info_name=name, **cli.context_settings)
    lines = [f"{'#' * (1 + len(path))} `{name}`", "", inspect.cleandoc(command.help or ""), ""]
    usage = " ".join(command.collect_usage_pieces(context))
    lines += ["```", f"{name} {usage}", "```", ""]
    options = (option for option in command.params if isinstance(option, click.Option))
    records = [option.get_help_record(context) for option in options]
    bullets = [f"- `{left}`: {right}" for left, right in filter(None, records)]
    lines += [
        *bullets,
        *([""] if bullets else []),
        "Example:",
        "",
        "```",
        getattr(command, "example", ""),
        "```",
        "",
    ]
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for word, child in command.commands.items():
            yield from _commands(child, (*path, word))


def _variables() -> str:
    rows = [
        (f"`HPO_{name.upper()}`", _value(field), _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return "## Environment variables\n\nAn empty variable counts as unset.\n\n" + _table("variable", rows)


def _sections(section: type[Section], path: str, way: str = "") -> Iterator[str]:
    """Yield a part of the page for a section of the study file, and one for each section inside."""
    prefix = f"{path}." if path else ""
    title = f"## `[{path}]`{way}" if path else "## Top level"
    rows = _rows(section, prefix)
    yield f"{title}\n\n{inspect.cleandoc(section.__doc__ or '')}\n\n{_table('key', rows) if rows else ''}"
    for name, field in section.model_fields.items():
        key, options = prefix + name, sections_of(field)
        if key == "space":
            yield _space()
        elif key in UNIONS:
            yield _union(key, options)
        else:
            for way, option in options.items():
                yield from _sections(option, key, WAYS.get(way, ""))


def _union(path: str, options: Mapping[str, type[Section]]) -> str:
    """Return a part of the page for a section whose name selects its other keys."""
    meaning, default = UNIONS[path]
    names = ", ".join(f"`{name}`" for name in options)
    named = (f"`{path}.name`", names, f"`{default}`", f"Selects the {path} and its other keys.")
    parts = [f"## `[{path}]`\n\n{meaning} A key of another {path} is refused.\n\n{_table('key', [named])}"]
    for name, section in options.items():
        first, *rest = inspect.cleandoc(section.__doc__ or "").split("\n\n")
        text = "\n\n".join([first, *rest] if path == "pruner" else [first])
        rows = _rows(section, f"{path}.")
        parts.append(f'### `name = "{name}"`\n\n{text}\n' + (f"\n{_table('key', rows)}" if rows else ""))
    return "\n".join(parts)


def _rows(section: type[Section], prefix: str) -> list[tuple[str, str, str, str]]:
    """Return the rows of the keys of a section, but for the sections inside and the name of a union."""
    return [
        (
            f"`{prefix}{name}`",
            _value(field),
            DEFAULTS.get(prefix + name) or _default(field),
            field.description or "",
        )
        for name, field in section.model_fields.items()
        if not sections_of(field) and prefix + name != "space" and (name != "name" or field.description)
    ]


def _space() -> str:
    rows = [
        (
            f"`space.{name}`",
            entry.rule,
            "unset" if entry.default is None else _toml(entry.default),
            f"{entry.meaning}{_applies(entry)}",
        )
        for name, entry in PARAMETERS.items()
    ]
    rows.append(MODEL_ROW)
    rows.append(CONSTRAINTS_ROW)
    return f"## `[space]`\n{SPACE_INTRODUCTION}\n{_table('key', rows)}{SPACE_RULES}"


def _toml(value: object) -> str:
    """Return a value as code. TOML writes booleans in lower case."""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _applies(entry: Parameter) -> str:
    if entry.when is None:
        return ""
    return f" Applies only where `{entry.when.parent}` is {' or '.join(map(str, entry.when.values))}."


def _table(subject: str, rows: list[tuple[str, str, str, str]]) -> str:
    lines = [f"| {subject} | value | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _value(field: FieldInfo) -> str:
    """Return the type of a field and its bounds in words."""
    kind: Any = field.annotation
    if get_origin(kind) in (types.UnionType, Union):
        if tuple[float, ...] in get_args(kind):
            return "number, or list of numbers"
        kind = next(entry for entry in get_args(kind) if entry is not type(None))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{entry}`" for entry in get_args(kind))
    words = [WORDS.get(kind, "text")]
    for bound, attribute, text in BOUNDS:
        words += [
            f"{text} {getattr(entry, attribute):,}" for entry in field.metadata if isinstance(entry, bound)
        ]
    return ", ".join(words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, PydanticUndefined):  # the text says what a default factory returns
        return "unset"
    if isinstance(field.default, tuple):
        return f"`{list(field.default)}`"
    return _toml(field.default)


def main(folder: Path = Path("docs")) -> None:
    """Write the pages and the schema into `folder`."""
    (folder / "cli.md").write_text(cli_page())
    (folder / "json.md").write_text(json_page(NOTE))
    (folder / "commands.schema.json").write_text(json_schema())
    (folder / "study-file.md").write_text(study_page())


if __name__ == "__main__":
    main()
