"""What an export takes of a study."""

from typing import Literal

Exported = Literal["best", "ensemble"] | int
"""`best`: the best full training. `ensemble`: the seeds of the best full training as one model. A number: the
full training with this number."""
