"""Label smoothing in compiled programs, and as a searched parameter of a study."""

from pathlib import Path

import pytest
import torch
from support.candidates import candidate
from support.engines import ProgramOnlyPack
from support.packs import sgd
from torch import Tensor

from hpo.training.columns import columns_of
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.pack import Pack
from hpo.values.data_shape import DataShape

pytestmark = pytest.mark.slow

NAME = "label_smoothing"
VALUES = (0.1, 0.0, 0.4)
LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
CANDIDATES = [candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=seed) for seed in (4, 5, 6)]


def losses_of(engine: Engine, pack_type: type[Pack]) -> Tensor:
    """Return the losses (4, M) of four steps."""
    generator = torch.Generator().manual_seed(1)
    pack = pack_type(LENET.build, [member.seed for member in CANDIDATES], "cpu")
    pack.columns = columns_of([NAME], [{NAME: value} for value in VALUES], pack.weights.parameters)
    optimizer, losses = sgd(CANDIDATES, pack.weights.parameters), []
    for _ in range(4):
        images = torch.randn(16, 1, 28, 28, generator=generator)
        losses.append(
            engine.step(pack, optimizer, None, images, torch.randint(10, (16,), generator=generator))
        )
    return torch.stack(losses)


def test_a_program_smooths_labels_as_operators_do(programs: Path) -> None:
    engine = CompiledEngine(LENET, programs)
    engine.load(Program(LENET, "sgd", 16, columns=(NAME,)))
    compiled, eager = losses_of(engine, ProgramOnlyPack), losses_of(EagerEngine(), Pack)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-4)
