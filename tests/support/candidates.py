"""Members of packs for tests."""

from hpo.values.candidate import Candidate
from hpo.values.parameters import with_defaults


def candidate(lr: float, momentum: float = 0.0, weight_decay: float = 0.0, seed: int = 0) -> Candidate:
    """Return a candidate of SGD."""
    return Candidate(with_defaults({"lr": lr, "momentum": momentum, "weight_decay": weight_decay}), seed)
