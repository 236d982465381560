"""Helpers for tests of engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hpo.training.engines.base import Engine
from hpo.training.engines.program import Program
from hpo.training.engines.timing import Measure
from hpo.training.metrics import Scores
from hpo.training.pack import Pack


class ProgramOnlyPack(Pack):
    """A pack that torch's operators cannot compute, which proves that a compiled program did."""

    def gradients(self, *_arguments: Any) -> tuple[Tensor, Tensor]:
        raise AssertionError("a step was computed by operators")

    def score(self, *_arguments: Any) -> Scores:
        raise AssertionError("an evaluation was computed by operators")


def measure_as_fastest(fastest: str) -> Measure:
    """Return a measurement by which one variant takes a second and every other variant two."""

    def measure(_program: Program, engines: Mapping[str, Engine]) -> dict[str, float]:
        return {variant: 1.0 + (variant != fastest) for variant in engines}

    return measure
