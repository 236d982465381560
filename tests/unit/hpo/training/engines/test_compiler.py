"""The names of compiled programs and of notes on them change with everything that they depend on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.training.engines import compiler
from hpo.training.engines.compiler import note_of, sources
from hpo.training.engines.program import NetworkSpec, Program
from hpo.values.data_shape import DataShape

STEP = Program(NetworkSpec("lenet", DataShape((1, 28, 28), 10)), "sgd", 16)

LIST_SOURCES = """
import json, sys
from hpo import models
import hpo.training.engines.compiler
models.build("lenet", 10)
modules = [module for name, module in sys.modules.items() if name.startswith("hpo.")]
print(json.dumps({module.__name__: module.__file__ for module in modules}))
"""

WITHOUT_EFFECT = {"hpo.errors", "hpo.ownership", "hpo.settings", "hpo.source_code", "hpo.user_code"}
"""Modules of exceptions, of folders and variables of hpo, of imports, and of hashes."""


def test_the_key_covers_every_module_that_a_program_is_made_with() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", LIST_SOURCES], text=True, stdout=subprocess.PIPE, check=True
    ).stdout
    modules = {name: Path(file).resolve() for name, file in json.loads(printed).items()}
    assert {"hpo.training.optimizers.adam", "hpo.training.loss", "hpo.values.parameters"} <= modules.keys()
    covered = {source.resolve() for source in sources()}
    assert {name for name, file in modules.items() if file not in covered} == WITHOUT_EFFECT


def test_an_edit_of_any_source_makes_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("optimizer.py", "network.py")]
    for file in files:
        file.write_text("BETA = 0.9")
    monkeypatch.setattr(compiler, "sources", lambda: files)
    keys = {note_of(STEP, tmp_path)}
    for file in files:
        file.write_text("BETA = 0.8")
        keys.add(note_of(STEP, tmp_path))
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["TORCHINDUCTOR_FREEZING", "ATEN_CPU_CAPABILITY", "CXX"])
def test_variables_of_the_compiler_make_another_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {note_of(STEP, tmp_path)}
    for value in ("default", "other"):
        monkeypatch.setenv(name, value)
        keys.add(note_of(STEP, tmp_path))
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "HOME"])
def test_variables_that_do_not_reach_the_compiler_do_not_matter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = note_of(STEP, tmp_path)
    monkeypatch.setenv(name, str(tmp_path))
    assert note_of(STEP, tmp_path) == key


def test_options_of_the_compiler_make_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = note_of(STEP, tmp_path)
    monkeypatch.setitem(compiler.OPTIONS, "cpp.threads", 2)
    assert note_of(STEP, tmp_path) != key
