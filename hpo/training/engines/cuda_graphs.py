"""The engine of a CUDA device that launches a whole step of a pack as one CUDA graph."""

import logging
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.errors import one_line
from hpo.training.dropout import Masks
from hpo.training.engines.base import StepInputs
from hpo.training.engines.eager import EagerEngine
from hpo.training.memory import is_out_of_memory
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.values.precision import Precision

log = logging.getLogger("hpo.worker")

WARM_UP = 3
"""Eager steps of each signature before it is captured. In them libraries choose kernels and allocate
workspaces."""

Signature = tuple[torch.Size, torch.Size, float | None]
"""The key of a captured step: the shapes of images and labels, and the largest norm of a gradient."""


@dataclass(frozen=True, slots=True)
class _CapturedStep:
    """A step as a graph, with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    losses: Tensor


class CudaGraphEngine(EagerEngine):
    """Computes by the kernels of torch's operators, replayed as CUDA graphs, with the same results.

    A graph reads and writes the memory that its tensors had when it was captured. It is valid until the pack
    gets other weights, other columns or another optimizer. A step that waits for the device, or draws
    random numbers on the host, cannot be captured and is computed eagerly.
    """

    def __init__(self, precision: Precision = "float32") -> None:
        super().__init__(precision)
        self._bound: tuple[object, ...] = (None, None, None)  # the owners of the tensors of captured steps
        self._captured: dict[Signature, _CapturedStep] = {}
        self._steps: Counter[Signature] = Counter()
        self._cannot_capture = False

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        owners = pack.weights, pack.columns, optimizer
        if any(bound is not owner for bound, owner in zip(self._bound, owners, strict=True)):
            self._captured.clear()
            self._steps.clear()
            self._bound = owners
        signature = images.shape, labels.shape, max_norm
        self._steps[signature] += 1
        if self._cannot_capture or self._steps[signature] <= WARM_UP:
            return super().step(pack, optimizer, max_norm, images, labels)
        inputs = StepInputs(images, labels, pack.masks_of(images, labels))
        if signature not in self._captured:
            try:
                self._captured[signature] = self._capture(pack, optimizer, max_norm, inputs)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                log.warning("steps are not captured as graphs: %s", one_line(error))
                self._cannot_capture = True
                return self._compute(pack, optimizer, max_norm, inputs)
        captured = self._captured[signature]
        captured.inputs.images.copy_(images)
        captured.inputs.labels.copy_(labels)
        captured.inputs.masks.factors.copy_(inputs.masks.factors)
        captured.graph.replay()
        return captured.losses.clone()

    def _capture(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, inputs: StepInputs
    ) -> _CapturedStep:
        """Capture a step on copies of `inputs`. The step itself is not computed."""
        graph = torch.cuda.CUDAGraph()
        masks = Masks(inputs.masks.layout, inputs.masks.factors.clone())
        copies = StepInputs(inputs.images.clone(), inputs.labels.clone(), masks)
        # All graphs share one memory pool: the results of a graph are read before the next graph runs.
        pool = next((captured.graph.pool() for captured in self._captured.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            losses = self._compute(pack, optimizer, max_norm, copies)
        return _CapturedStep(graph, copies, losses)
