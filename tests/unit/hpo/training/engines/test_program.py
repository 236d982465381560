"""Programs, before they are compiled: a graph computes what torch's operators do."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from hpo import models
from hpo.training.engines.eager import Engine
from hpo.training.engines.kernels import operators
from hpo.training.engines.program import Program, batch_last, digest, of_member, trace
from hpo.training.optimizers import Adam, Optimizer, Sgd
from hpo.training.pack import Candidate, Pack

pytestmark = pytest.mark.slow

CANDIDATE = Candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=4)
STEP = Program("lenet", 10, 1, (28, 28), 16, "sgd")


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    operators.load(programs)


def pack(name: str) -> Pack:
    return Pack(lambda: models.build(name, 10), [4], "cpu")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """One on which no unit of ResNet is so near to its kink that rounding decides on which side it is."""
    generator = torch.Generator().manual_seed(8)
    return torch.randn(16, 1, 28, 28, generator=generator), torch.arange(16) % 10


def optimizer(purpose: str, parameters: torch.Tensor) -> Optimizer:
    return Adam(1e-3, parameters) if purpose == "adam" else Sgd([CANDIDATE], parameters)


@pytest.mark.parametrize("largest", [None, 0.5])
@pytest.mark.parametrize("purpose", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["lenet", "resnet", "spinalnet"])
def test_the_graph_of_a_step_is_a_step(
    name: str, purpose: Literal["sgd", "adam"], largest: float | None
) -> None:
    theirs, mine = pack(name), pack(name)
    its, own = optimizer(purpose, theirs.weights.parameters), optimizer(purpose, mine.weights.parameters)
    images, labels = batch()
    start = mine.weights.parameters.clone()
    graph, _ = trace(replace(STEP, model=name, purpose=purpose, clip=largest))
    for _ in range(2):
        expected = Engine().step(theirs, its, largest, images, labels)
        factors = mine.masks(images).factors[0]
        (loss,) = graph(*of_member(mine.weights, own, 0), factors, batch_last(images), labels)
        torch.testing.assert_close(loss, expected[0], rtol=1e-4, atol=1e-5)
    # As a whole: Adam gives a gradient that is nothing but rounding as large a step as any.
    way = theirs.weights.parameters - start
    assert (mine.weights.parameters - theirs.weights.parameters).norm() < 0.05 * way.norm()
    for name_, buffer in theirs.weights.buffers.items():
        # A bias before a batch norm has a gradient that is nothing but rounding; its mean sees the step.
        torch.testing.assert_close(mine.weights.buffers[name_], buffer, rtol=1e-3, atol=5e-4)
        assert buffer.any(), name_  # it has changed


@pytest.mark.parametrize("name", ["lenet", "resnet", "spinalnet"])
def test_the_graph_of_an_evaluation_is_an_evaluation(name: str) -> None:
    one, (images, labels) = pack(name), batch()
    graph, _ = trace(replace(STEP, model=name, purpose="evaluation"))
    loss, right = graph(*of_member(one.weights, None, 0), batch_last(images), labels)
    expected = one.score(images, labels)
    torch.testing.assert_close(loss, expected[0][0], rtol=1e-4, atol=1e-5)
    assert right == expected[1][0]


@pytest.mark.parametrize("name", ["alexnet", "resnet", "spinalnet", "vggnet"])
def test_gradients_are_about_as_exact_as_torch_s(name: str) -> None:
    torch.manual_seed(0)
    network = models.build(name, 10).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images, labels = batch()

    def gradients(dtype: torch.dtype, ours: bool = False) -> torch.Tensor:
        given = {key: value.detach().to(dtype) for key, value in network.named_parameters()}

        def loss(parameters: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
            buffers = {key: value.to(dtype, copy=True) for key, value in network.named_buffers()}
            logits = torch.func.functional_call(network, {**parameters, **buffers}, (images,))
            return torch.nn.functional.cross_entropy(logits, labels)

        found = torch.func.grad(loss)
        if ours:
            found = make_fx(found, decomposition_table=dict(operators.DECOMPOSITIONS))(given, images)
            assert "hpo.winograd_backward" in str(found.code)
        return torch.cat([one.double().flatten() for one in found(given, images.to(dtype)).values()])

    exact = gradients(torch.float64)
    theirs, mine = ((gradients(torch.float32, ours) - exact).norm() for ours in (False, True))
    assert mine < 10 * theirs + 1e-6 * exact.norm()


def test_a_digest_is_that_of_what_is_computed() -> None:
    assert digest(STEP) == digest(STEP)
    others = [
        replace(STEP, model="spinalnet"),
        replace(STEP, classes=11),
        replace(STEP, batch_size=32),
        replace(STEP, size=(28, 32)),
        replace(STEP, purpose="adam"),
        replace(STEP, purpose="evaluation"),
        replace(STEP, clip=1.0),
        replace(STEP, clip=2.0),
    ]
    assert len({digest(program) for program in [STEP, *others]}) == 1 + len(others)


def test_a_program_survives_its_text() -> None:
    program = replace(STEP, clip=1.0)
    assert Program.from_json(program.to_json()) == program


def test_batches_have_the_batch_innermost() -> None:
    images = torch.randn(3, 16, 2, 5, 4)
    turned = batch_last(images)
    assert torch.equal(turned, images)
    assert turned[0].stride() == (1, 5 * 4 * 16, 4 * 16, 16)
