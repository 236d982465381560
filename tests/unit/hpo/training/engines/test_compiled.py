"""The arguments of programs that have a setting of the loss. The programs are traced, and not compiled."""

from pathlib import Path

import pytest
import torch
from support.candidates import candidate
from support.loss_settings import NAME, register
from support.packs import sgd

from hpo.training.columns import columns_of
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.kernels.operators import load
from hpo.training.engines.program import NetworkSpec, Program, digest, step_of, trace
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.data_shape import DataShape

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kernels")]

CANDIDATES = [candidate(lr=0.05, momentum=0.9, seed=4), candidate(lr=0.01, seed=5)]
LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
STEP = Program(LENET, "sgd", 16, columns=(NAME,))


class TracedEngine(CompiledEngine):
    """Computes by the graphs of programs."""

    def load(self, program: Program) -> None:
        graph, _ = trace(program)
        self._functions[program] = lambda arguments: [*graph(*arguments)]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, programs: Path) -> None:
    register(monkeypatch)
    load(programs)


def new_pack(*values: float) -> Pack:
    pack = Pack(LENET.build, [member.seed for member in CANDIDATES], "cpu")
    pack.columns = columns_of([NAME], [{NAME: value} for value in values], pack.weights.parameters)
    return pack


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 1, 28, 28, generator=generator), torch.arange(16) % 10


def test_a_program_has_the_values_of_each_member(tmp_path: Path) -> None:
    engine = TracedEngine(LENET, tmp_path)
    engine.prepare(16, [Phase("sgd", 1)], [NAME])
    for values in ((0.0, 0.5), (0.25, 0.0)):
        losses = []
        for each in (engine, EagerEngine()):
            pack = new_pack(*values)
            optimizer = sgd(CANDIDATES, pack.weights.parameters)
            assert step_of(LENET, pack, optimizer, None, batch()[1]) == STEP
            losses.append(torch.stack([each.step(pack, optimizer, None, *batch()) for _ in range(3)]))
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_new_settings_of_the_loss_replace_cached_arguments(tmp_path: Path) -> None:
    engine, pack = TracedEngine(LENET, tmp_path), new_pack(0.0, 0.0)
    engine.prepare(16, [Phase("sgd", 1)], [NAME])
    optimizer = sgd([candidate(lr=1e-9)] * 2, pack.weights.parameters)
    pack.seed_dropout([1, 2])
    before = engine.step(pack, optimizer, None, *batch())
    pack.columns = columns_of([NAME], [{NAME: 0.0}, {NAME: 9.0}], pack.weights.parameters)
    pack.seed_dropout([1, 2])
    after = engine.step(pack, optimizer, None, *batch())
    assert after[0] == pytest.approx(before[0].item(), abs=1e-5)
    assert after[1] > before[1] + 1e-3


def test_a_setting_of_the_loss_makes_another_program() -> None:
    plain = Program(LENET, "sgd", 16)
    assert len({digest(STEP), digest(plain)}) == 2
    assert Program.from_json(STEP.to_json()) == STEP
