from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from support.shell import ROOT

from hpo.cli.json_reference import json_page, json_schema
from hpo.cli.reference import NOTE, cli_page, study_page
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.values.parameters import PARAMETERS
from hpo.values.section import Section, sections_of

GENERATED = [
    ("cli.md", cli_page),
    ("study-file.md", study_page),
    ("json.md", lambda: json_page(NOTE)),
    ("commands.schema.json", json_schema),
]


def keys(section: type[Section], path: str = "") -> Iterator[str]:
    """Yield the dotted keys of a section of the study file that hold a value; again for each owner."""
    for name, field in section.model_fields.items():
        if inner := sections_of(field):
            for option in inner.values():
                yield from keys(option, f"{path}{name}.")
        elif name == "space":
            yield from (f"space.{parameter}" for parameter in PARAMETERS)
        else:
            yield f"{path}{name}"


@pytest.mark.parametrize(("name", "page"), GENERATED)
def test_generated_page_is_fresh(name: str, page: Callable[[], str]) -> None:
    assert (ROOT / "docs" / name).read_text() == page(), "stale: run `make docs`"


@pytest.mark.parametrize(("key", "owners"), Counter(keys(StudySpec)).items())
def test_every_key_has_a_row_with_a_meaning(key: str, owners: int) -> None:
    rows = [line for line in study_page().splitlines() if line.startswith(f"| `{key}` ")]
    assert len(rows) == (1 if key in ("sampler.name", "pruner.name") else owners)
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|")), rows


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_variable_has_a_row_with_a_meaning(name: str) -> None:
    (row,) = (line for line in cli_page().splitlines() if line.startswith(f"| `HPO_{name.upper()}` "))
    assert all(cell.strip() for cell in row.strip("|").split("|")), row


def test_variable_with_a_computed_default_is_not_required() -> None:
    (row,) = (line for line in cli_page().splitlines() if line.startswith("| `HPO_HOME` "))
    assert [cell.strip() for cell in row.strip("|").split("|")][2] == "unset"


def test_defaults_of_parameters_are_toml() -> None:
    rows = [line.split("|") for line in study_page().splitlines() if line.startswith("| `space.")]
    assert {row[3].strip() for row in rows}.isdisjoint({"`True`", "`False`"})
