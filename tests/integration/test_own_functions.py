"""Compiled programs of a user's network on a table, with the user's own loss and metrics."""

import sys
from pathlib import Path

import pytest
import torch
from support.packs import CANDIDATES, sgd
from support.scores import assert_equal_scores

from hpo.training.engines.compiled import EVALUATION_BATCH, CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.metrics import Scores
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.data_shape import DataShape

SOURCE = """
import torch
from torch import nn

class Mlp(nn.Module):
    def __init__(self, in_features, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, 8), nn.ReLU(), nn.Linear(8, outputs))

    def forward(self, inputs):
        return self.layers(inputs)

def pinball(outputs, targets):
    differences = targets - outputs
    return torch.maximum(0.9 * differences, -0.1 * differences).mean(1)
"""
NETWORK = NetworkSpec("own_programs:Mlp", DataShape((6,), None, (2,)), loss="own_programs:pinball")
SIZE = 8


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompiledEngine:
    """Return a prepared engine whose programs are compiled from a user's module."""
    (tmp_path / "own_programs.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    engine = CompiledEngine(NETWORK, tmp_path)
    engine.prepare(SIZE, [Phase("sgd", 1)])
    return engine


def batches(members: tuple[int, ...] = ()) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(*members, SIZE, 6, generator=generator),
            torch.randn(*members, SIZE, 2, generator=generator),
        )
        for _ in range(3)
    ]


def train(
    engine: EagerEngine | CompiledEngine,
    indices: list[int],
    data: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, Scores]:
    """Return the trained weights `(M, P)` and the scores of a pack of these candidates."""
    pack = Pack(NETWORK.build, [CANDIDATES[index].seed for index in indices], "cpu")
    pack.criterion = NETWORK.criterion()
    optimizer = sgd([CANDIDATES[index] for index in indices], pack.weights.parameters)
    for batch in data:
        engine.step(pack, optimizer, None, *batch)
    generator = torch.Generator().manual_seed(1)
    examples = (torch.randn(EVALUATION_BATCH, width, generator=generator) for width in (6, 2))
    return pack.weights.parameters, engine.score(pack, *examples)


@pytest.mark.slow
def test_programs_train_numbers_with_an_own_loss(engine: CompiledEngine) -> None:
    assert len(engine._functions) == 2  # a step and an evaluation: nothing is left to operators
    weights, scores = train(engine, [0, 1, 2], batches())
    expected, expected_scores = train(EagerEngine(), [0, 1, 2], batches())
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.losses, expected_scores.losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.predictions, expected_scores.predictions, rtol=1e-4, atol=1e-4)
    for index in range(3):
        alone, alone_scores = train(engine, [index], batches())
        assert torch.equal(alone[0], weights[index])
        parts = scores.losses, scores.squares, scores.predictions
        assert_equal_scores(alone_scores, Scores(*(part[index : index + 1] for part in parts)))
    own = batches((3,))
    together, _ = train(engine, [0, 1, 2], own)
    alone, _ = train(engine, [2], [(inputs[2], targets[2]) for inputs, targets in own])
    assert torch.equal(alone[0], together[2])


def test_program_with_own_functions_survives_json() -> None:
    program = Program(
        NetworkSpec(
            NETWORK.model,
            NETWORK.shape,
            (("width", 8),),
            NETWORK.loss,
            (("worst", "own:worst"),),
        ),
        "sgd",
        SIZE,
    )
    assert Program.from_json(program.to_json()) == program
    assert not NetworkSpec("lenet", DataShape((1, 28, 28), 10), loss="own:focal").is_built_in
