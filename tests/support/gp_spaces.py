"""Search spaces for tests of the Gaussian process: finite, with ranges, with a logarithmic weight decay."""

from hpo.values.space import Choices, Range, SearchSpace
from support.spaces import PAPER

WIDE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Range(16, 64, integer=True),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Choices((0.0,)),
    }
)
LOGARITHMIC = SearchSpace({**WIDE.domains, "weight_decay": Range(1e-6, 1e-2, log=True)})
SPACES = [PAPER, WIDE, LOGARITHMIC]
