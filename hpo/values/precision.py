"""The floating point formats that training may compute products and convolutions in."""

from typing import Literal

Precision = Literal["float32", "bfloat16"]

BFLOAT16_MODELS: frozenset[str] = frozenset({"resnet", "spinalnet"})
"""Built-in networks that a search may train in bfloat16 where bfloat16 is faster. The ranking of their cells
agrees with the float32 ranking about as well as two seeds agree;
`python -m benchmarks.precision` has the rule."""


def search_precisions(model: str) -> tuple[Precision, ...]:
    """Return the precisions a search with this network may use unless the study file sets one."""
    return ("float32", "bfloat16") if model in BFLOAT16_MODELS else ("float32",)
