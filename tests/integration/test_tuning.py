"""The fastest way to compute a network is found by measuring, once for a machine."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from hpo import models
from hpo.cli import cli
from hpo.errors import InputError
from hpo.models import ModelError
from hpo.training.engines import autotuning, compiler
from hpo.training.engines.autotuning import PROGRAM, AutotunedEngine, throughputs
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.compiler import obtain
from hpo.training.engines.eager import Engine
from hpo.training.engines.kernels import operators
from hpo.training.engines.program import Program
from hpo.training.optimizers import Sgd
from hpo.training.pack import Candidate, Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision

pytestmark = pytest.mark.slow

LIKE = Program("lenet", 10, 1, (28, 28), 0, "evaluation")
STEP = replace(LIKE, purpose="sgd", batch_size=16)
SGD = Phase("sgd", 1)
CANDIDATES = [Candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=seed) for seed in (4, 5)]
WAYS = ("float32", "float32, channels last", "bfloat16", "bfloat16, channels last")


def train(engine: Engine, size: int = 16) -> tuple[Tensor, Tensor]:
    """Losses of a step and parameters after it."""
    pack = Pack(lambda: models.build("lenet", 10), [c.seed for c in CANDIDATES], "cpu")
    optimizer = Sgd(CANDIDATES, pack.weights.parameters)
    images = torch.randn(size, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    losses = engine.step(pack, optimizer, None, images, torch.arange(size) % 10)
    return losses, pack.weights.parameters


def fast(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """As if `way` were the fastest of all."""

    def seconds(_program: Program, ways: dict[str, Engine]) -> dict[str, float]:
        return {each: 1.0 + (each != way) for each in ways}

    monkeypatch.setattr(autotuning, "_seconds", seconds)


@pytest.mark.parametrize("way", WAYS)
def test_the_fastest_way_is_taken(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch, way)
    engine = AutotunedEngine(LIKE, tmp_path, ("float32", "bfloat16"), compiles=False)
    engine.prepare(16, [SGD])
    precision: Precision = "bfloat16" if way.startswith("bfloat16") else "float32"
    expected = train(Engine(precision, way.endswith("last")))
    assert all(torch.equal(one, other) for one, other in zip(train(engine), expected, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_program_is_taken_where_it_is_the_fastest(
    precision: Precision, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled in the precision in which operators are the faster."""

    def seconds(_program: Program, ways: dict[str, Engine]) -> dict[str, float]:
        return {way: 3.0 - way.startswith(precision) - way.endswith(PROGRAM) for way in ways}

    monkeypatch.setattr(autotuning, "_seconds", seconds)
    engine = AutotunedEngine(LIKE, programs, ("float32", "bfloat16"), evaluation_batch=32, anew=True)
    engine.prepare(16, [SGD])
    ways = engine.measured(STEP)
    assert set(ways) == {*WAYS, f"{precision} program"}
    losses, parameters = train(engine)
    expected = train(Engine(precision))
    exactness = 1e-4 if precision == "float32" else 1e-2
    torch.testing.assert_close(losses, expected[0], rtol=exactness, atol=exactness)
    torch.testing.assert_close(parameters, expected[1], rtol=exactness, atol=exactness)
    assert not torch.equal(losses, expected[0])


def test_batches_of_another_size_are_computed_by_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch, "bfloat16")
    engine = AutotunedEngine(LIKE, tmp_path, ("float32", "bfloat16"), compiles=False)
    engine.prepare(16, [SGD])
    assert torch.equal(train(engine, 9)[0], train(Engine(), 9)[0])


def test_what_was_measured_counts_for_all_who_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = AutotunedEngine(LIKE, tmp_path, compiles=False).measured(STEP)
    assert set(first) == {"float32", "float32, channels last"}
    assert all(0 < seconds < 10 for seconds in first.values())

    def fails(*_arguments: Any) -> Any:
        raise AssertionError("measured a second time")

    monkeypatch.setattr(autotuning, "_seconds", fails)
    assert AutotunedEngine(LIKE, tmp_path, compiles=False).measured(STEP) == first
    (kept,) = tmp_path.glob("*.json")
    assert json.loads(kept.read_text())["program"]["batch_size"] == 16
    with pytest.raises(AssertionError, match="second time"):
        AutotunedEngine(LIKE, tmp_path, ("bfloat16",), compiles=False).measured(STEP)


def test_throughputs_are_of_all_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch, "bfloat16")
    rows = throughputs(AutotunedEngine(LIKE, tmp_path, ("float32", "bfloat16"), compiles=False), (16, 64))
    assert [(row.batch_size, row.purpose) for row in rows] == [(16, "sgd"), (64, "sgd"), (80, "evaluation")]
    rates = rows[1].images_per_second
    assert (rates["bfloat16"], rates["float32"]) == (64, 32)
    assert [row.chosen for row in rows] == ["bfloat16", "bfloat16", "float32"]


def test_evaluations_are_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = replace(LIKE, batch_size=32)
    ways = AutotunedEngine(LIKE, tmp_path, ("float32", "bfloat16"), compiles=False).measured(evaluation)
    assert set(ways) == {"float32", "float32, channels last"}
    engine = AutotunedEngine(LIKE, tmp_path, ("bfloat16",), compiles=False, evaluation_batch=32)
    fast(monkeypatch, "bfloat16")
    engine.prepare(16, [SGD])
    pack = Pack(lambda: models.build("lenet", 10), [1], "cpu")
    images, labels = torch.rand(32, 1, 28, 28), torch.arange(32) % 10
    assert torch.equal(engine.score(pack, images, labels)[0], pack.score(images, labels)[0])


def test_without_a_compiler_the_fastest_of_the_operators_do_it(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operators.load(programs)

    def fails(*_arguments: Any) -> Any:
        raise compiler.CompileError("no compiler here")

    monkeypatch.setattr(compiler, "_compile", fails)
    fast(monkeypatch, "float32")
    engine = AutotunedEngine(LIKE, tmp_path)
    with caplog.at_level(logging.WARNING, "hpo.worker"):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not compiled: no compiler here" in caplog.messages
    assert torch.equal(train(engine)[0], train(Engine())[0])
    assert not [
        path for path in tmp_path.glob("*.json") if PROGRAM in json.loads(path.read_text())["seconds"]
    ]


def test_a_network_of_a_user_s_keeps_its_layout(tmp_path: Path) -> None:
    own = replace(STEP, model="hpo.models.lenet:LeNet")
    assert set(AutotunedEngine(own, tmp_path, compiles=False).measured(own)) == {"float32"}


@pytest.mark.parametrize("compiles", [True, False])
def test_a_folder_that_cannot_be_used_costs_the_measurement_only(
    compiles: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    engine = AutotunedEngine(LIKE, tmp_path / "file" / "programs", compiles=compiles)
    with caplog.at_level(logging.WARNING):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not measured: " in caplog.text
    assert torch.equal(train(engine)[0], train(Engine())[0])


def test_a_note_that_is_damaged_is_written_anew(tmp_path: Path) -> None:
    engine = AutotunedEngine(LIKE, tmp_path, compiles=False)
    engine.measured(STEP)
    (note,) = tmp_path.glob("*.json")
    for damaged in ("", "{}", "[]", '{"seconds": {"float32": null}}'):
        note.write_text(damaged)
        assert set(AutotunedEngine(LIKE, tmp_path, compiles=False).measured(STEP)) == set(WAYS[:2])


def test_what_is_kept_is_measured_again_if_one_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AutotunedEngine(LIKE, tmp_path, compiles=False).measured(STEP)
    fast(monkeypatch, "float32, channels last")
    again = AutotunedEngine(LIKE, tmp_path, compiles=False, anew=True).measured(STEP)
    assert again == {"float32": 2.0, "float32, channels last": 1.0}
    assert AutotunedEngine(LIKE, tmp_path, compiles=False).measured(STEP) == again


def test_a_program_that_is_damaged_is_compiled_anew(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators.load(programs)
    path = obtain(STEP, programs)
    copy = tmp_path / path.name
    copy.write_bytes(b"no program")
    monkeypatch.setattr("hpo.training.engines.compiled.obtain", lambda *_arguments: copy)
    with pytest.raises(compiler.CompileError, match=f"{copy} is damaged: "):
        CompiledEngine(LIKE, tmp_path).load(STEP)
    assert not copy.exists()


def test_programs_of_a_user_s_class_are_told_apart(programs: Path) -> None:
    """Its name has a dot, as a suffix has."""
    own = replace(LIKE, model="hpo.models.lenet:LeNet")
    engine = CompiledEngine(own, programs)
    engine.load(replace(own, purpose="sgd", batch_size=16))
    assert len(list(programs.glob("hpo.models.lenet.LeNet-*.so"))) == 1
    losses, _ = train(engine)
    torch.testing.assert_close(losses, train(Engine())[0], rtol=1e-4, atol=1e-4)
    assert not torch.equal(losses, train(Engine())[0])


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["tune", *words])


@pytest.fixture
def without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: Any) -> Any:
        raise compiler.CompileError("no compiler here")

    monkeypatch.setattr("hpo.training.engines.compiled.obtain", fails)
    monkeypatch.setenv("HPO_HOME", str(tmp_path))


@pytest.mark.usefixtures("without_a_compiler")
def test_the_command_shows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch, "float32, channels last")
    done = run("lenet", "--batch-size", "16", "--batch-size", "48")
    assert done.exit_code == 0, done.output
    assert [line.split()[-3:] for line in done.stdout.splitlines() if "step, 48" in line] == [
        ["float32,", "channels", "last"]
    ]
    found = json.loads(run("lenet", "--batch-size", "16", "--json").stdout)
    assert found[0] == {
        "batch_size": 16,
        "purpose": "sgd",
        "images_per_second": {"float32": 8.0, "float32, channels last": 16.0},
        "chosen": "float32, channels last",
    }
    fast(monkeypatch, "bfloat16")
    chosen = json.loads(run("lenet", "--precision", "bfloat16", "--json").stdout)[0]["chosen"]
    assert chosen == "bfloat16"
    kept = json.loads(run("lenet", "--batch-size", "16", "--json").stdout)[0]["chosen"]
    assert kept == "float32, channels last"


@pytest.mark.usefixtures("without_a_compiler")
def test_the_command_tells_a_mistake_before_it_measures(tmp_path: Path) -> None:
    for words in (("lenett",), ("lenet", "--size", "5")):
        done = run(*words)
        assert isinstance(done.exception, ModelError | InputError)
        assert "\n" not in str(done.exception)
    assert not (tmp_path / "programs").exists()
