"""What the README says is so: its commands exist, its links lead somewhere, its tables are complete."""

import re
import shlex

import click
import pytest
from pydantic import BaseModel
from support.shell import ROOT

from hpo.cli import cli
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\w+=\S+ )*hpo (.+?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line: str) -> None:
    words = shlex.split(line)
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    # Under the context of `hpo`: click keeps the help options that a command first had.
    parent = click.Context(cli, **cli.context_settings)
    command.make_context("hpo", words, parent)  # raises for options or arguments that do not exist


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_lead_to_files(document: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target


def test_files_that_architecture_names_exist() -> None:
    named = re.findall(r"`((?:hpo|models|data)/[\w./]*)`", (ROOT / "ARCHITECTURE.md").read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_key_of_a_study_file_is_in_the_table() -> None:
    table = README[README.index("## The study file") : README.index("## Settings")]
    words = set(re.findall(r"[\w]+", " ".join(re.findall(r"`[^`]+`", table))))
    assert {key for key in _keys(StudySpec) if key not in words} == set()


def test_every_variable_is_in_the_table() -> None:
    assert {name for name in Settings.model_fields if f"HPO_{name.upper()}" not in README} == set()


def test_every_module_has_its_place_in_the_layers() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    layers = project[project.index("layers = [") : project.index("]", project.index("layers = ["))]
    modules = {"cli", *(path.stem for path in (ROOT / "hpo").glob("*.py"))}
    placed = set(re.findall(r"\w+", layers))
    assert {name for name in modules - {"__init__"} if name not in placed} == set()


def _keys(section: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, field in section.model_fields.items():
        keys.add(name)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for option in options:
            if isinstance(option, type) and issubclass(option, BaseModel):
                keys |= _keys(option)
    return keys
