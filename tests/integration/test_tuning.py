"""The fastest variant of computing a network is measured once per machine, and then used."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from support.candidates import candidate
from support.engines import ProgramOnlyPack, measure_as_fastest
from support.packs import sgd
from support.scores import assert_equal_scores
from torch import Tensor

from hpo.cli import cli
from hpo.errors import InputError
from hpo.models import ModelError
from hpo.training.engines import compiled, compiler, timing
from hpo.training.engines.autotuning import PROGRAM, AutotunedEngine, TuningOptions
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.compiler import CompileError, obtain
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.kernels.operators import load
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.engines.throughput import throughputs
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.data_shape import DataShape
from hpo.values.precision import Precision

pytestmark = pytest.mark.slow

LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
OWN_LENET = replace(LENET, model="hpo.models.lenet:LeNet")
"""The same network, named as a user's class."""
STEP = Program(LENET, "sgd", 16)
SGD = Phase("sgd", 1)
CANDIDATES = [candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=seed) for seed in (4, 5)]
BOTH: tuple[Precision, ...] = ("float32", "bfloat16")
EAGER_VARIANTS = ("float32", "float32, channels last", "bfloat16", "bfloat16, channels last")
EAGER_ONLY = TuningOptions(compiles=False)


def train(engine: Engine, size: int = 16, pack_type: type[Pack] = Pack) -> tuple[Tensor, Tensor]:
    """Return the losses of a step and the parameters after it."""
    pack = pack_type(LENET.build, [candidate.seed for candidate in CANDIDATES], "cpu")
    optimizer = sgd(CANDIDATES, pack.weights.parameters)
    images = torch.randn(size, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    losses = engine.step(pack, optimizer, None, images, torch.arange(size) % 10)
    return losses, pack.weights.parameters


@pytest.mark.parametrize("variant", EAGER_VARIANTS)
def test_the_fastest_variant_is_used(variant: str, tmp_path: Path) -> None:
    options = TuningOptions(BOTH, compiles=False, measure=measure_as_fastest(variant))
    engine = AutotunedEngine(LENET, tmp_path, options)
    engine.prepare(16, [SGD])
    precision: Precision = "bfloat16" if variant.startswith("bfloat16") else "float32"
    expected = train(EagerEngine(precision, variant.endswith("last")))
    assert all(torch.equal(tensor, other) for tensor, other in zip(train(engine), expected, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_program_is_used_if_it_is_the_fastest(precision: Precision, programs: Path) -> None:
    """It is compiled in the precision in which operators are faster."""

    def measure(_program: Program, engines: Mapping[str, Engine]) -> dict[str, float]:
        return {
            variant: 3.0 - variant.startswith(precision) - variant.endswith(PROGRAM) for variant in engines
        }

    options = TuningOptions(BOTH, evaluation_batch=32, remeasure=True, measure=measure)
    engine = AutotunedEngine(LENET, programs, options)
    engine.prepare(16, [SGD])
    assert set(engine.measure(STEP)) == {*EAGER_VARIANTS, f"{precision} program"}
    losses, parameters = train(engine, pack_type=ProgramOnlyPack)
    expected_losses, expected_parameters = train(EagerEngine(precision))
    tolerance = 1e-4 if precision == "float32" else 1e-2
    torch.testing.assert_close(losses, expected_losses, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(parameters, expected_parameters, rtol=tolerance, atol=tolerance)
    chosen = engine.variant_of(STEP)
    assert isinstance(chosen, CompiledEngine)
    assert chosen.precision == precision


def test_batches_of_another_size_are_computed_by_operators(tmp_path: Path) -> None:
    options = TuningOptions(BOTH, compiles=False, measure=measure_as_fastest("bfloat16"))
    engine = AutotunedEngine(LENET, tmp_path, options)
    engine.prepare(16, [SGD])
    assert torch.equal(train(engine, 9)[0], train(EagerEngine(), 9)[0])


def refuse_to_measure(_program: Program, _engines: Mapping[str, Engine]) -> dict[str, float]:
    raise AssertionError("measured a second time")


def test_a_measurement_is_used_by_all_later_engines(tmp_path: Path) -> None:
    first = AutotunedEngine(LENET, tmp_path, EAGER_ONLY).measure(STEP)
    assert set(first) == {"float32", "float32, channels last"}
    assert all(0 < seconds < 10 for seconds in first.values())

    refusing = replace(EAGER_ONLY, measure=refuse_to_measure)
    assert AutotunedEngine(LENET, tmp_path, refusing).measure(STEP) == first
    (note,) = tmp_path.glob("*.json")
    assert json.loads(note.read_text())["program"]["batch_size"] == 16
    with pytest.raises(AssertionError, match="second time"):
        AutotunedEngine(LENET, tmp_path, replace(refusing, precisions=("bfloat16",))).measure(STEP)


def test_throughputs_cover_all_variants(tmp_path: Path) -> None:
    options = TuningOptions(BOTH, compiles=False, measure=measure_as_fastest("bfloat16"))
    rows = throughputs(AutotunedEngine(LENET, tmp_path, options), (16, 64))
    assert [(row.batch_size, row.purpose) for row in rows] == [(16, "sgd"), (64, "sgd"), (80, "evaluation")]
    rates = rows[1].images_per_second
    assert (rates["bfloat16"], rates["float32"]) == (64, 32)
    assert [row.chosen for row in rows] == ["bfloat16", "bfloat16", "float32"]


def test_evaluations_are_in_float32(tmp_path: Path) -> None:
    evaluation = Program(LENET, None, 32)
    variants = AutotunedEngine(LENET, tmp_path, TuningOptions(BOTH, compiles=False)).measure(evaluation)
    assert set(variants) == {"float32", "float32, channels last"}
    options = TuningOptions(
        ("bfloat16",), compiles=False, evaluation_batch=32, measure=measure_as_fastest("bfloat16")
    )
    engine = AutotunedEngine(LENET, tmp_path, options)
    engine.prepare(16, [SGD])
    pack = Pack(LENET.build, [1], "cpu")
    images, labels = torch.rand(32, 1, 28, 28), torch.arange(32) % 10
    assert_equal_scores(engine.score(pack, images, labels), pack.score(images, labels))


def refuse_to_compile(*_arguments: Any) -> Any:
    raise CompileError("no compiler here")


def test_without_a_compiler_the_fastest_operators_compute(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(programs)
    monkeypatch.setattr(compiler, "_compile", refuse_to_compile)
    engine = AutotunedEngine(LENET, tmp_path, TuningOptions(measure=measure_as_fastest("float32")))
    with caplog.at_level(logging.WARNING, "hpo.worker"):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not compiled: no compiler here" in caplog.messages
    assert torch.equal(train(engine)[0], train(EagerEngine())[0])
    assert not [
        path for path in tmp_path.glob("*.json") if PROGRAM in json.loads(path.read_text())["seconds"]
    ]


def test_a_network_of_a_user_keeps_its_layout(tmp_path: Path) -> None:
    engine = AutotunedEngine(OWN_LENET, tmp_path, EAGER_ONLY)
    assert set(engine.measure(replace(STEP, network=OWN_LENET))) == {"float32"}


@pytest.mark.parametrize("compiles", [True, False])
def test_a_folder_that_cannot_be_used_only_costs_the_measurement(
    compiles: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    engine = AutotunedEngine(LENET, tmp_path / "file" / "programs", TuningOptions(compiles=compiles))
    with caplog.at_level(logging.WARNING):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not measured: " in caplog.text
    assert torch.equal(train(engine)[0], train(EagerEngine())[0])


@pytest.mark.parametrize("damaged", ["", "{}", "[]", '{"seconds": {"float32": null}}'])
def test_a_damaged_note_is_written_anew(damaged: str, tmp_path: Path) -> None:
    options = replace(EAGER_ONLY, measure=measure_as_fastest("float32"))
    AutotunedEngine(LENET, tmp_path, options).measure(STEP)
    (note,) = tmp_path.glob("*.json")
    note.write_text(damaged)
    assert set(AutotunedEngine(LENET, tmp_path, options).measure(STEP)) == set(EAGER_VARIANTS[:2])
    assert set(json.loads(note.read_text())["seconds"]) == set(EAGER_VARIANTS[:2])


def test_a_stored_measurement_is_replaced_on_request(tmp_path: Path) -> None:
    AutotunedEngine(LENET, tmp_path, EAGER_ONLY).measure(STEP)
    options = replace(EAGER_ONLY, remeasure=True, measure=measure_as_fastest("float32, channels last"))
    again = AutotunedEngine(LENET, tmp_path, options).measure(STEP)
    assert again == {"float32": 2.0, "float32, channels last": 1.0}
    assert AutotunedEngine(LENET, tmp_path, EAGER_ONLY).measure(STEP) == again


def test_a_damaged_program_is_deleted_so_that_it_is_compiled_anew(programs: Path, tmp_path: Path) -> None:
    load(programs)
    damaged = tmp_path / obtain(STEP, programs).name
    damaged.write_bytes(b"no program")
    with pytest.raises(CompileError, match=f"{damaged} is damaged: "):
        CompiledEngine(LENET, tmp_path).load(STEP)
    assert not damaged.exists()


def test_programs_of_users_classes_have_their_own_files(programs: Path) -> None:
    """The file name contains the class, whose name has a dot like a suffix."""
    engine = CompiledEngine(OWN_LENET, programs)
    engine.load(replace(STEP, network=OWN_LENET))
    assert len(list(programs.glob("hpo.models.lenet.LeNet-*.so"))) == 1
    losses, _ = train(engine, pack_type=ProgramOnlyPack)
    torch.testing.assert_close(losses, train(EagerEngine())[0], rtol=1e-4, atol=1e-4)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["tune", *words])


@pytest.fixture
def without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "obtain", refuse_to_compile)
    monkeypatch.setenv("HPO_HOME", str(tmp_path))


@pytest.mark.usefixtures("without_a_compiler")
def test_the_command_shows_the_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "measure_seconds", measure_as_fastest("float32, channels last"))
    table = run("lenet", "--batch-size", "16", "--batch-size", "48")
    assert table.exit_code == 0, table.output
    assert [line.split()[-3:] for line in table.stdout.splitlines() if "step, 48" in line] == [
        ["float32,", "channels", "last"]
    ]
    rows = json.loads(run("lenet", "--batch-size", "16", "--json").stdout)
    assert rows[0] == {
        "batch_size": 16,
        "purpose": "sgd",
        "images_per_second": {"float32": 8.0, "float32, channels last": 16.0},
        "chosen": "float32, channels last",
    }
    monkeypatch.setattr(timing, "measure_seconds", measure_as_fastest("bfloat16"))
    chosen = json.loads(run("lenet", "--precision", "bfloat16", "--json").stdout)[0]["chosen"]
    assert chosen == "bfloat16"
    stored = json.loads(run("lenet", "--batch-size", "16", "--json").stdout)[0]["chosen"]
    assert stored == "float32, channels last"


@pytest.mark.usefixtures("without_a_compiler")
def test_the_command_reports_a_mistake_before_it_measures(tmp_path: Path) -> None:
    for words in (("lenett",), ("lenet", "--size", "5")):
        outcome = run(*words)
        assert isinstance(outcome.exception, ModelError | InputError)
        assert "\n" not in str(outcome.exception)
    assert not (tmp_path / "programs").exists()
