"""A worker tries the network on its device before it claims a trial, once per machine."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.study_file import load
from support.workloads import digits_workload
from torch import Tensor, nn

from hpo.errors import InputError
from hpo.training.engines.cuda_graphs import CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.workload import Workload
from hpo.worker import rehearsal
from hpo.worker.pack_training import PackTraining
from hpo.worker.rehearsal import operator_engine, rehearse

CPU = torch.device("cpu")


class Counting(Workload):
    """The workload of digits with a network of the test's own, which counts its networks."""

    built = 0
    forward: Callable[[nn.Module, Tensor], Tensor] = staticmethod(lambda layers, images: layers(images))

    def factory_of(self, _params: Mapping[str, Any]) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            self.built += 1
            return Network(self.forward)

        return build


class Network(nn.Module):
    """A linear network with the forward pass of the test."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layers, self._forward = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), forward

    def forward(self, images: Tensor) -> Tensor:
        return self._forward(self.layers, images)


@pytest.fixture
def workload() -> Counting:
    return Counting((read := digits_workload(load())).spec, read.dataset)


def test_network_is_tried_once_per_machine(workload: Counting, tmp_path: Path) -> None:
    notes = tmp_path / "home" / "rehearsals"
    assert rehearse(workload, CPU, notes) is None
    assert workload.built > 0
    built = workload.built
    assert rehearse(workload, CPU, notes) is None
    assert workload.built == built
    (note,) = notes.iterdir()
    for damaged in ("", "{}", "[1]", "null"):
        note.write_text(damaged)
        built = workload.built
        assert rehearse(workload, CPU, notes) is None
        assert workload.built > built


def test_other_network_precision_or_images_are_tried_again(tmp_path: Path) -> None:
    text = {"lenet": "lenet", "alexnet": "alexnet"}
    for name in text:
        spec = load().model_copy(update={"model": load().model.model_copy(update={"name": name})})
        rehearse(digits_workload(spec), CPU, tmp_path)
    engine = load().engine.model_copy(update={"precision": "bfloat16"})
    rehearse(digits_workload(load().model_copy(update={"engine": engine})), CPU, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_network_that_fails_is_refused_and_not_noted(workload: Counting, tmp_path: Path) -> None:
    def fail(_layers: nn.Module, _images: Tensor) -> Tensor:
        raise NotImplementedError("not on this device")

    workload.forward = fail
    message = (
        "^study 'small' on cpu: model 'lenet' on 2 images .* NotImplementedError at .*: not on this device$"
    )
    with pytest.raises(InputError, match=message):
        rehearse(workload, CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_others_use_is_no_mistake_of_the_network(
    workload: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_arguments: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(rehearsal, "_rehearse", run_out)
    assert rehearse(workload, CPU, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_home_that_cannot_be_written_costs_the_note_alone(workload: Counting, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert rehearse(workload, CPU, file / "rehearsals") is None


def test_note_says_whether_members_are_fused(workload: Counting, tmp_path: Path) -> None:
    rehearse(workload, CPU, tmp_path)
    (note,) = tmp_path.iterdir()
    for fused in (True, False, None):
        rehearsal.write_note(note, fused)
        assert PackTraining.rehearsed(workload, "cpu", tmp_path).fused is fused


def test_engine_is_that_of_training_without_programs() -> None:
    gpu = torch.device("cuda")
    assert type(operator_engine(load(), CPU, "search")) is EagerEngine
    assert type(operator_engine(load(), gpu, "search")) is CudaGraphEngine
    never = load().model_copy(update={"engine": load().engine.model_copy(update={"compile": "never"})})
    assert type(operator_engine(never, gpu, "search")) is EagerEngine
