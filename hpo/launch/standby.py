"""A worker process that has loaded everything and waits for a slot.

Importing torch and reading the images takes seconds, in which the trials of a dead worker would lie idle. The
launcher keeps one process that has done both, and gives it a slot with one line on its standard input.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assignment:
    """The device and environment of the `Slot` that a standby gets."""

    device: str
    environment: Mapping[str, str]

    def to_line(self) -> str:
        return json.dumps({"device": self.device, "environment": dict(self.environment)}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Assignment":
        return cls(**json.loads(line))

    def apply(self) -> None:
        """Add the environment to that of this process.

        CUDA must not have started yet: it reads at its start which devices it may see.
        """
        os.environ.update(self.environment)
