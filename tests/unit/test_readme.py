"""Documents: their commands parse, links lead to files, study files load, and tables are complete."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.shell import ROOT

from hpo.cli import cli
from hpo.functions.trial import Trial
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
EXAMPLES = {
    "hpo/launch/executors/cluster.py",
    "tests/unit/hpo/launch/executors/test_cluster.py",
    "hpo/artifacts/s3.py",
    "hpo/report/sections/mysection.py",
    "hpo/search/pruners/percentile.py",
    "hpo/search/samplers/mysampler.py",
    "hpo/training/optimizers/myoptimizer.py",
    "models/mynet.py",
    "studies/mynet.toml",
    "tests/unit/hpo/search/pruners/test_percentile.py",
    "tests/unit/hpo/search/samplers/test_mysampler.py",
    "tests/unit/hpo/training/optimizers/test_myoptimizer.py",
}
"""Files that a recipe of CONTRIBUTING.md tells the reader to add."""


def _commands() -> list[str]:
    pattern = re.compile(r"^(?:\w+=\S+ )*hpo (.+?)(?:\s+#.*)?$", re.MULTILINE)
    blocks = (block for path in DOCUMENTS for block in _blocks(path, "sh"))
    return sorted({line for block in blocks for line in pattern.findall(block)})


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def _study_files() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for block in _blocks(path, "toml"):
            if "[search]" in block:
                yield path.name, block


@pytest.mark.parametrize("line", _commands())
def test_command_in_a_document_parses(line: str) -> None:
    words = shlex.split(line)
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    # Under the context of `hpo`: click keeps the help options that a command first had.
    parent = click.Context(cli, **cli.context_settings)
    command.make_context("hpo", words, parent)  # raises for options or arguments that do not exist


def test_documents_show_commands() -> None:
    assert len(_commands()) > 15


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", path.read_text())
    assert {target for target in targets if not (path.parent / target).exists()} == set()


def test_readme_is_short() -> None:
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    assert len(README.splitlines()) <= 150
    assert len(prose.split()) <= 900


def test_study_files_in_documents_parse(tmp_path: Path) -> None:
    files = list(_study_files())
    assert {name for name, _ in files} >= {"README.md", "first-study.md"}
    for name, text in files:
        file = tmp_path / f"{name.removesuffix('.md').lower()}.toml"
        file.write_text(text)
        StudySpec.load(file)


INTERNAL = {"trained", "states", "counts_on"}
"""Fields of a trial that its function does not use."""
OPTUNA_CALLS = {
    "report",
    "should_prune",
    "set_user_attr",
    "suggest_float",
    "suggest_int",
    "suggest_categorical",
}
OWN_TRAINING = ROOT / "docs" / "own-training.md"
TRAINING_EXAMPLES = ROOT / "studies" / "own-training"


@pytest.mark.parametrize("name", ["linear/train.py", "linear/study.toml", "one-value/train.py"])
def test_own_training_shows_the_examples(name: str) -> None:
    blocks = _blocks(OWN_TRAINING, "toml" if name.endswith(".toml") else "python")
    assert (TRAINING_EXAMPLES / name).read_text() in blocks


@pytest.mark.parametrize(
    "file", sorted(TRAINING_EXAMPLES.glob("*/study.toml")), ids=lambda file: file.parent.name
)
def test_examples_of_own_training_are_linked_and_parse(file: Path) -> None:
    assert f"](../studies/own-training/{file.parent.name})" in OWN_TRAINING.read_text()
    assert StudySpec.load(file).name == file.parent.name


def test_own_training_names_all_that_a_trial_has() -> None:
    public = {name for name in (*vars(Trial), *Trial.__dataclass_fields__) if not name.startswith("_")}
    named = set(re.findall(r"`trial\.(\w+)", OWN_TRAINING.read_text()))
    assert named >= public - INTERNAL
    assert named - OPTUNA_CALLS <= public


def test_every_variable_is_in_operations() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    assert {name for name in Settings.model_fields if f"`HPO_{name.upper()}`" not in operations} == set()


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_named_files_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    named = set(re.findall(r"`((?:hpo|models|data|studies|tests)/[\w./]*)`", text)) - EXAMPLES
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_recipes_name_what_the_files_define() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    recipes = re.findall(r"`(\w+)`[^`.\[]*\bin\s+(?:\[[^\]]+\]\(([^)]+\.py)\)|`([\w/]+\.py)`)", text)
    assert len(recipes) > 8
    for name, link, path in recipes:
        assert re.search(rf"\b{name}\b", (ROOT / (link or path)).read_text()), (name, link or path)


def test_architecture_lists_every_package() -> None:
    named = set(re.findall(r"^\| .*`hpo/(\w+)`", ARCHITECTURE, re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "hpo").glob("*/__init__.py")}
    assert packages - named == {"data", "models"}  # those have a row of their own


def test_arrows_in_the_picture_are_imports() -> None:
    picture = ARCHITECTURE[ARCHITECTURE.index("flowchart TD") :].split("```")[0]
    arrows = {
        (source, target)
        for source, targets in re.findall(r"^ *(\w+) --> ([\w &]+)$", picture, re.MULTILINE)
        for target in targets.split(" & ")
    }
    assert arrows
    assert {arrow for arrow in arrows if arrow[1] not in _imports(arrow[0])} == set()


def test_imports_between_packages_are_in_the_picture() -> None:
    picture = ARCHITECTURE[ARCHITECTURE.index("flowchart TD") :].split("```")[0]
    below: dict[str, set[str]] = {}
    for source, targets in re.findall(r"^ *(\w+) --> ([\w &]+)$", picture, re.MULTILINE):
        below.setdefault(source, set()).update(targets.split(" & "))

    def reachable(package: str) -> set[str]:
        return set().union(*({target} | reachable(target) for target in below.get(package, ())))

    everywhere = {"errors", "ownership", "settings", "source_code", "user_code", "values"}
    packages = {path.parent.name for path in (ROOT / "hpo").glob("*/__init__.py")} - everywhere
    hidden = {
        (package, target)
        for package in packages
        for target in _imports(package) - everywhere - {package}
        if target not in reachable(package)
    }
    assert hidden == set()


def _imports(package: str) -> set[str]:
    """Return the packages and modules directly under hpo that the modules of a package import."""
    imported = set()
    for path in (ROOT / "hpo" / package).resolve().rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module="hpo", names=names):
                    imported |= {alias.name for alias in names}
                case ast.ImportFrom(module=str(module)) if module.startswith("hpo."):
                    imported.add(module.split(".")[1])
    return imported


def test_decision_index_is_complete() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    for path in DECISIONS:
        title = path.read_text().split("\n", 1)[0].removeprefix("# ")
        assert f"- [{path.name[:3]}]({path.name}): {title}\n" in index


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_has_every_section(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "Alternatives", "Not covered"]
