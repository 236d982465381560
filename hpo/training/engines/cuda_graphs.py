"""The engine of a CUDA device that launches a step of a pack with one call: as a CUDA graph."""

import logging
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.training.dropout import Masks
from hpo.training.engines.eager import Engine
from hpo.training.memory import is_out_of_memory
from hpo.training.optimizers import Optimizer
from hpo.training.pack import Pack
from hpo.values.precision import Precision

log = logging.getLogger("hpo.worker")

WARM_UP = 3
"""Steps of a kind by operators before it is captured: in them libraries choose kernels, make workspaces."""

Kind = tuple[torch.Size, torch.Size, float | None]
"""What a graph is good for: the shapes of images and labels, and the largest norm of a gradient."""


@dataclass(frozen=True, slots=True)
class _Captured:
    """A step as a graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    labels: Tensor
    factors: Tensor
    losses: Tensor


class CudaGraphEngine(Engine):
    """The kernels of a step are those of torch's operators, and so are its results.

    A graph reads and writes where the tensors lay when it was captured: it is good until the pack's weights
    or its optimizer are others. A step that waits for the device or draws on the host cannot be captured, and
    is computed by operators.
    """

    def __init__(self, precision: Precision = "float32") -> None:
        super().__init__(precision)
        self._bound: tuple[object, object] = (None, None)
        self._captured: dict[Kind, _Captured] = {}
        self._seen: Counter[Kind] = Counter()
        self._refused = False

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        if self._bound[0] is not pack.weights or self._bound[1] is not optimizer:
            self._captured.clear()
            self._seen.clear()
            self._bound = pack.weights, optimizer
        kind = images.shape, labels.shape, largest
        self._seen[kind] += 1
        if self._refused or self._seen[kind] <= WARM_UP:
            return super().step(pack, optimizer, largest, images, labels)
        masks = pack.masks_of(images, labels)
        if kind not in self._captured:
            try:
                self._captured[kind] = self._capture(pack, optimizer, largest, images, labels, masks)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                log.warning("steps are not captured as graphs: %s", " ".join(str(error).split()))
                self._refused = True
                return self._compute(pack, optimizer, largest, images, labels, masks)
        captured = self._captured[kind]
        captured.images.copy_(images)
        captured.labels.copy_(labels)
        captured.factors.copy_(masks.factors)
        captured.graph.replay()
        return captured.losses.clone()

    def _capture(
        self,
        pack: Pack,
        optimizer: Optimizer,
        largest: float | None,
        images: Tensor,
        labels: Tensor,
        masks: Masks,
    ) -> _Captured:
        """Nothing is computed by this."""
        graph, images, labels = torch.cuda.CUDAGraph(), images.clone(), labels.clone()
        factors = masks.factors.clone()
        # All graphs share their memory: what one leaves there is read before the next one runs.
        pool = next((captured.graph.pool() for captured in self._captured.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            losses = self._compute(pack, optimizer, largest, images, labels, Masks(masks.layout, factors))
        return _Captured(graph, images, labels, factors, losses)
