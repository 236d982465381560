"""Programs before they are compiled: a graph computes what torch's operators compute."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from support.candidates import candidate
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from hpo import models
from hpo.training.columns import step_settings
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.kernels.decompositions import DECOMPOSITIONS
from hpo.training.engines.kernels.operators import load
from hpo.training.engines.program import (
    NetworkSpec,
    Program,
    batch_last,
    digest,
    in_precision,
    member_arguments,
    trace,
)
from hpo.training.optimizers import adam
from hpo.training.optimizers.registry import OPTIMIZERS, create_optimizer
from hpo.training.pack import Pack
from hpo.values.data_shape import DataShape

# One process builds the kernels while the others run other tests.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kernels")]

CANDIDATE = candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=4)
LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
STEP = Program(LENET, "sgd", 16)


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    load(programs)


def new_pack(name: str) -> Pack:
    return Pack(lambda: models.build(name, 10), [4], "cpu")


NETWORKS = ("lenet", "resnet", "spinalnet")


def batch() -> tuple[Tensor, Tensor]:
    """Return a batch on which no ReLU of ResNet is so close to 0 that rounding decides its sign."""
    generator = torch.Generator().manual_seed(8)
    return torch.randn(16, 1, 28, 28, generator=generator), torch.arange(16) % 10


@pytest.mark.parametrize(
    ("name", "optimizer", "max_norm", "columns"),
    [
        *product(NETWORKS, OPTIMIZERS, (None, 0.5), [()]),
        *(("lenet", name, None, tuple(sorted(OPTIMIZERS[name].optional_names))) for name in OPTIMIZERS),
        ("lenet", "sgd", 0.5, ("class_weights", "dropout", "label_smoothing")),
        ("lenet", "sgd", None, ("clip",)),
    ],
)
def test_the_graph_of_a_step_computes_the_step(
    name: str, optimizer: str, max_norm: float | None, columns: tuple[str, ...]
) -> None:
    eager, traced = new_pack(name), new_pack(name)
    lr = 0.05 if optimizer == "sgd" else 1e-3
    settings = {**CANDIDATE.params, "lr": lr, "nesterov": True, "beta2": 0.9}
    eager_optimizer = create_optimizer(optimizer, [settings], eager.weights.parameters, columns)
    traced_optimizer = create_optimizer(optimizer, [settings], traced.weights.parameters, columns)
    rows = [name for name in columns if name not in (*eager_optimizer.settings, "dropout")]
    for pack in (eager, traced):
        members = [{"class_weights": "balanced", "label_smoothing": 0.1, "clip": 0.5}]
        weights = torch.linspace(0.5, 2, 10)
        pack.columns = step_settings(rows, members, pack.weights.parameters, max_norm, lambda: weights)  # noqa: B023
        pack.dropout_rates = (0.2,) if "dropout" in columns else None
    images, labels = batch()
    start = traced.weights.parameters.clone()
    graph, _ = trace(Program(replace(LENET, model=name), optimizer, 16, max_norm, columns=columns))
    for _ in range(2):
        expected = EagerEngine().step(eager, eager_optimizer, max_norm, images, labels)
        factors = traced.masks(images).factors[0]
        arguments = member_arguments(traced, traced_optimizer, 0)
        (loss,) = graph(*arguments, factors, batch_last(images, LENET.shape), labels)
        torch.testing.assert_close(loss, expected[0], rtol=1e-4, atol=1e-5)
    # Compared as a whole, because Adam takes full steps along gradients that are nothing but rounding.
    distance = (eager.weights.parameters - start).norm()
    assert (traced.weights.parameters - eager.weights.parameters).norm() < 0.05 * distance
    for buffer_name, buffer in eager.weights.buffers.items():
        # The gradient of a bias before a batch norm is only rounding, and the running mean sees its step.
        torch.testing.assert_close(traced.weights.buffers[buffer_name], buffer, rtol=1e-3, atol=5e-4)
        assert buffer.any(), buffer_name  # it has been updated


@pytest.mark.parametrize("name", ["lenet", "resnet", "spinalnet"])
def test_the_graph_of_an_evaluation_computes_the_evaluation(name: str) -> None:
    pack, (images, labels) = new_pack(name), batch()
    graph, _ = trace(Program(replace(LENET, model=name), None, 16))
    loss, squares, predictions = graph(
        *member_arguments(pack, None, 0), batch_last(images, LENET.shape), labels
    )
    expected = pack.score(images, labels)
    torch.testing.assert_close(loss, expected.losses[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(squares, expected.squares[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(predictions, expected.predictions[0])


@pytest.mark.parametrize("name", ["alexnet", "resnet", "spinalnet", "vggnet"])
def test_gradients_are_about_as_exact_as_those_of_torch(name: str) -> None:
    torch.manual_seed(0)
    network = models.build(name, 10).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images, labels = batch()

    def gradients(dtype: torch.dtype, by_kernels: bool = False) -> Tensor:
        parameters = {key: value.detach().to(dtype) for key, value in network.named_parameters()}

        def loss(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
            buffers = {key: value.to(dtype, copy=True) for key, value in network.named_buffers()}
            logits = torch.func.functional_call(network, {**parameters, **buffers}, (images,))
            return torch.nn.functional.cross_entropy(logits, labels)

        gradient = torch.func.grad(loss)
        if by_kernels:
            gradient = make_fx(gradient, decomposition_table=dict(DECOMPOSITIONS))(parameters, images)
            assert "hpo.winograd_backward" in str(gradient.code)
        parts = gradient(parameters, images.to(dtype)).values()
        return torch.cat([part.double().flatten() for part in parts])

    exact = gradients(torch.float64)
    torch_error, kernel_error = (
        (gradients(torch.float32, by_kernels) - exact).norm() for by_kernels in (False, True)
    )
    assert kernel_error < 10 * torch_error + 1e-6 * exact.norm()


def test_programs_that_compute_differently_have_different_digests() -> None:
    assert digest(STEP) == digest(STEP)
    others = [
        Program(replace(LENET, model="spinalnet"), "sgd", 16),
        Program(replace(LENET, shape=DataShape((1, 28, 28), 11)), "sgd", 16),
        Program(replace(LENET, shape=DataShape((1, 28, 32), 10)), "sgd", 16),
        replace(STEP, batch_size=32),
        replace(STEP, optimizer="adam"),
        replace(STEP, optimizer=None),
        replace(STEP, clip=1.0),
        replace(STEP, clip=2.0),
    ]
    assert len({digest(program) for program in [STEP, *others]}) == 1 + len(others)


def test_constants_of_the_optimizer_make_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program = replace(STEP, optimizer="adam")
    before = digest(program)
    monkeypatch.setattr(adam, "BETA1", 0.8)
    assert digest(program) != before


def test_a_program_survives_json() -> None:
    program = replace(STEP, clip=1.0)
    assert Program.from_json(program.to_json()) == program


def test_only_steps_have_another_precision() -> None:
    evaluation = replace(STEP, optimizer=None)
    assert in_precision(STEP, "bfloat16").precision == "bfloat16"
    assert in_precision(evaluation, "bfloat16") == evaluation


def test_batch_last_makes_the_batch_innermost() -> None:
    images = torch.randn(3, 16, 2, 5, 4)
    moved = batch_last(images, LENET.shape)
    assert torch.equal(moved, images)
    assert moved[0].stride() == (1, 5 * 4 * 16, 4 * 16, 16)
