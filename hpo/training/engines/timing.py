"""Measuring how long engines take for one member's step or evaluation."""

import math
import time
from collections.abc import Callable, Mapping

import torch

from hpo.training.engines.base import Engine
from hpo.training.engines.program import Program, example_batch, example_pack

ROUNDS = 20
"""The most rounds. In a round each engine takes one step."""

LEAST_ROUNDS = 2
"""The first round includes one-time costs, so a second one is always measured."""

MEASURE_SECONDS = 2.0
"""No round starts after this time, except the first `LEAST_ROUNDS`."""

Measure = Callable[[Program, Mapping[str, Engine]], dict[str, float]]
"""Returns the seconds of a program for each named engine."""


def measure_seconds(
    program: Program, engines: Mapping[str, Engine], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return by name the fewest seconds that each engine takes for one member's step or evaluation.

    The engines take turns, so that all of them see the same load of the machine.
    """
    pack, optimizer = example_pack(program)
    images, labels = example_batch(program)
    images = torch.rand_like(images)
    seconds, begin = dict.fromkeys(engines, math.inf), clock()
    for rounds in range(ROUNDS):
        if rounds >= LEAST_ROUNDS and clock() - begin > MEASURE_SECONDS:
            break
        for name, engine in engines.items():
            start = clock()
            if optimizer is None:
                engine.score(pack, images, labels)
            else:
                engine.step(pack, optimizer, program.clip, images, labels)
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


def fastest(seconds: Mapping[str, float]) -> str:
    """Return the name with the fewest seconds."""
    return min(seconds, key=seconds.__getitem__)
