"""The hyperparameters and the seed with which a trial is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Candidate:
    """The hyperparameters of a member with their defaults; `seed` initialises its weights and its dropout.

    `limits`: after how many epochs the member leaves each phase, and with the last of them the budget. None:
    the budget alone decides.
    """

    params: Mapping[str, Any]
    seed: int
    limits: tuple[int, ...] | None = None
