"""In which floating point format the products and convolutions of a training are computed."""

from typing import Literal

Precision = Literal["float32", "bfloat16"]

BFLOAT16: frozenset[str] = frozenset({"resnet", "spinalnet"})
"""Our networks that may search in bfloat16 where it is faster: the ranking of their cells agrees with that in
float32 about as well as under another seed, by the rule of `python -m benchmarks.precision`."""


def searched_in(model: str) -> tuple[Precision, ...]:
    """Those that a search with this network may use, unless its study file says which."""
    return ("float32", "bfloat16") if model in BFLOAT16 else ("float32",)
