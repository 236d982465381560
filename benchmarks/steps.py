"""Single training steps, and the rate at which a device takes them."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from hpo import models
from hpo.data.dataset import Labelled
from hpo.values.candidate import Candidate
from hpo.values.parameters import with_defaults

CLASSES, SIDE = 62, 28
IMAGES = 8000
CANDIDATE = Candidate(with_defaults({"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}), seed=0)

MATRIX_SIDE, COPIED_NUMBERS = 2048, 2**26
"""Sizes of the peak measurements: far above the caches of a CPU, and still milliseconds each."""

Step = Callable[[], object]
"""Take one training step."""


def noise() -> Labelled:
    """Return random images, with labels that cover all classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8)
    return Labelled(pixels, np.arange(len(pixels)) % CLASSES)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    params = CANDIDATE.params
    return torch.optim.SGD(
        model.parameters(), params["lr"], momentum=params["momentum"], weight_decay=params["weight_decay"]
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.rand(size, 1, SIDE, SIDE), torch.arange(size) % CLASSES


def loop_step(name: str, size: int) -> Step:
    """Return a step of one network by torch's operators, on a batch that is in memory."""
    model, (images, labels) = models.build(name, CLASSES).train(), batch(size)
    optimizer = sgd(model)
    return lambda: train(model, optimizer, images, labels)


def paper_step(name: str, size: int) -> Step:
    """Return a step as the paper describes it: images through PIL, a DataLoader with two workers."""
    # Imported here, so that no other benchmark process waits for torchvision.
    from torchvision import transforms

    from benchmarks.loops import PilImages

    steps = [transforms.ToTensor(), transforms.Normalize((0.17,), (0.32,))]
    images = PilImages(noise(), transforms.Compose(steps))
    loader = DataLoader(images, size, shuffle=True, num_workers=2)
    model = models.build(name, CLASSES).train()
    optimizer, batches = sgd(model), (batch for _epoch in count() for batch in loader)
    return lambda: train(model, optimizer, *next(batches))


def rate(step: Step, images: int, seconds: float, wait: Callable[[], object] = lambda: None) -> float:
    """Return how many images a second a step processes, over `seconds` and at least one step.

    `images` is the number of images of one step, over all members of a pack. `wait` returns once all steps
    that were launched are done.
    """
    step()
    wait()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or not steps:
        step()
        steps += 1
    wait()
    return images * steps / (time.perf_counter() - start)


def peaks(seconds: float = 1.0) -> dict[str, float]:
    """Return the peaks of this thread: floating point operations a second by precision, and `copy`.

    The operations are those of a large matrix product. `copy` is the bytes a second that a copy reads and
    writes.
    """
    by_name = {}
    for precision in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(precision) for _ in range(2))
        name = str(precision).removeprefix("torch.")
        by_name[name] = rate(partial(torch.mm, a, b), 2 * MATRIX_SIDE**3, seconds)
    source = torch.rand(COPIED_NUMBERS)
    target = torch.empty_like(source)
    by_name["copy"] = rate(partial(target.copy_, source), 2 * source.nbytes, seconds)
    return by_name


def flops(name: str) -> float:
    """Return the floating point operations for one image, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        loop_step(name, 16)()
    return float(counter.get_total_flops()) / 16
