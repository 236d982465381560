"""Where a launcher's lines go."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """`write` takes a line of the launcher itself, `hear` a line that a worker has written."""

    write: Callable[[str], None]
    hear: Callable[[str], None]
