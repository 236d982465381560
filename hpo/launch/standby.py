"""A worker that has loaded everything and waits for a place.

To import torch and read the images takes seconds, in which the trials of a worker that died would lie idle.
The launcher keeps one process that has done so, and gives it a place with one line on its standard input.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assignment:
    """A place for a worker: see `Slot`."""

    device: str
    environment: Mapping[str, str]

    def to_line(self) -> str:
        return json.dumps({"device": self.device, "environment": dict(self.environment)}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Assignment":
        return cls(**json.loads(line))

    def take_on(self) -> None:
        """Makes the environment that of this process.

        CUDA must not have been started yet: it reads which devices it may see when it starts.
        """
        os.environ.update(self.environment)
