"""The rehearsal of a network on a GPU, in the engine that trains it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.study_file import load
from support.workloads import digits_workload
from torch import Tensor, nn

from hpo.training.workload import Workload
from hpo.worker.pack_training import PackTraining
from hpo.worker.rehearsal import rehearse

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")


class Branches(nn.Module):
    """A network that vmap cannot fuse."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.linear(images.flatten(1))
        return output if self.linear.weight.sum() > 0 else -output


class BranchesWorkload(Workload):
    def factory_of(self, _params: Mapping[str, Any]) -> Callable[[], nn.Module]:
        return Branches


def test_built_in_network_is_fused(tmp_path: Path) -> None:
    state = torch.cuda.get_rng_state()
    assert rehearse(digits_workload(load()), GPU, tmp_path) is True
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert len(list(tmp_path.iterdir())) == 1


def test_network_that_vmap_cannot_fuse_is_trained_in_turn(tmp_path: Path) -> None:
    read = digits_workload(load())
    workload = BranchesWorkload(read.spec, read.dataset)
    assert PackTraining.rehearsed(workload, "cuda", tmp_path).fused is False
    assert PackTraining.rehearsed(workload, "cuda", tmp_path).fused is False
