"""AdamW in compiled programs: the same losses as operators give."""

from pathlib import Path

import pytest
import torch
from support.candidates import candidate
from support.engines import ProgramOnlyPack
from torch import Tensor

from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack
from hpo.values.data_shape import DataShape

pytestmark = pytest.mark.slow

LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
CANDIDATES = [candidate(lr=lr, weight_decay=decay) for lr, decay in ((1e-3, 0.1), (1e-2, 0.0))]


def losses_of(engine: Engine, pack_type: type[Pack]) -> Tensor:
    """Return the losses (4, M) of four steps."""
    generator = torch.Generator().manual_seed(1)
    pack = pack_type(LENET.build, [4, 5], "cpu")
    members = [member.params for member in CANDIDATES]
    optimizer, losses = create_optimizer("adamw", members, pack.weights.parameters), []
    for _ in range(4):
        images = torch.randn(16, 1, 28, 28, generator=generator)
        labels = torch.randint(10, (16,), generator=generator)
        losses.append(engine.step(pack, optimizer, None, images, labels))
    return torch.stack(losses)


def test_a_program_takes_the_steps_of_operators(programs: Path) -> None:
    engine = CompiledEngine(LENET, programs)
    engine.load(Program(LENET, "adamw", 16))
    compiled, eager = losses_of(engine, ProgramOnlyPack), losses_of(EagerEngine(), Pack)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-3)
